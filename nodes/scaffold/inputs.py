"""What the scaffold nodes share: the list of objects, and where an object stands."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..inputs import ScaffoldObjects, metres_input

MAX_POSITION_M = 1000.0
MAX_SIZE_M = 1000.0
MAX_RESULT_BYTES = 2 * 2**30


def objects_input() -> io.Input:
    """The objects that were placed before. The node adds its own as the last."""
    return ScaffoldObjects.Input(
        "objects", optional=True, tooltip="Objects placed before, from another node like this; this one is added."
    )


def objects_output() -> io.Output:
    return ScaffoldObjects.Output(
        display_name="objects", tooltip="For Compose Depth Scaffold, or the next Place Shape or Place Mesh."
    )


def pose_inputs() -> list[io.Input]:
    """The fields of a Pose, in their order."""
    return [
        _position("x_m", "Metres to the right of the camera; negative is left."),
        _position("y_m", "Metres from the ground up to the lowest point; 0 stands on it."),
        _position("z_m", "Metres ahead of the camera, along the ground.", default=4.0),
        _angle(
            "heading_deg",
            "Where the front points, seen from above: 0 to the camera, 90 to image right, 180 away, 270 left.",
        ),
        _angle("pitch_deg", "Tips the front down; negative tips it up.", advanced=True),
        _angle("roll_deg", "Leans the object to its own right; negative to its left.", advanced=True),
    ]


def _position(name: str, tooltip: str, default: float = 0.0) -> io.Input:
    return metres_input(name, tooltip, default=default, minimum=-MAX_POSITION_M, maximum=MAX_POSITION_M)


def _angle(name: str, tooltip: str, advanced: bool | None = None) -> io.Input:
    return io.Float.Input(name, default=0.0, min=-360.0, max=360.0, step=1.0, tooltip=tooltip, advanced=advanced)


def check_masks(count: int, width: int, height: int, cameras: int = 1, planes: int = 0) -> None:
    """ValueError, with the remedy, where the masks of `count` objects would take too much memory.

    cameras: each has its own masks. planes: what else each camera gives, in numbers a pixel.
    """
    size = 4 * cameras * (count + planes) * width * height
    if size > MAX_RESULT_BYTES:
        seen = f"{count} objects" if cameras == 1 else f"{count} objects before {cameras} cameras"
        raise ValueError(
            "set width and height smaller: Depth Adapter Apply resizes the depth. The masks of "
            f"{seen} at {width}x{height} pixels take {size / 2**30:.1f} GiB; the limit is {MAX_RESULT_BYTES // 2**30}"
        )
