"""What the scaffold nodes share: the list of objects, and where an object stands."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ...sf_model.scaffold.layout import Layout
from ...sf_model.scaffold.layout_reading import ReadLayout, read_layout
from ..inputs import ScaffoldLayout, ScaffoldObjects, metres_input

MAX_POSITION_M = 1000.0
MAX_SIZE_M = 1000.0
MAX_MASK_BYTES = 2 * 2**30


def objects_input() -> io.Input:
    """The objects that were placed before. The node adds its own as the last."""
    return ScaffoldObjects.Input(
        "objects", optional=True, tooltip="Objects placed before, from another Scaffold node; this one is added."
    )


def objects_output() -> io.Output:
    return ScaffoldObjects.Output(
        display_name="objects", tooltip="For Compose Depth Scaffold, or the next Scaffold Object or Scaffold Mesh."
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
        _angle("pitch_deg", "Tips the front down; negative tips it up."),
        _angle("roll_deg", "Leans the object to its own right; negative to its left."),
    ]


def _position(name: str, tooltip: str, default: float = 0.0) -> io.Input:
    return metres_input(name, tooltip, default=default, minimum=-MAX_POSITION_M, maximum=MAX_POSITION_M)


def _angle(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.0, min=-360.0, max=360.0, step=1.0, tooltip=tooltip)


def layout_input(tooltip: str, *, optional: bool = False) -> io.MultiType.Input:
    """An input for a layout, or for its JSON as text."""
    return io.MultiType.Input("layout", types=[ScaffoldLayout, io.String], optional=optional, tooltip=tooltip)


def given_layout(value: Layout | str) -> ReadLayout:
    """The layout of such an input, with notes on what was assumed. ValueError for anything else."""
    if isinstance(value, str):
        return read_layout(value)
    if isinstance(value, Layout):
        return ReadLayout(value, ())
    kind = type(value).__name__
    raise ValueError(f"connect Plan Scene Layout, or a layout as text, to layout: a value of type {kind} is connected")


def check_masks(count: int, width: int, height: int) -> None:
    """ValueError, with the remedy, where the masks of `count` objects would take too much memory."""
    size = 4 * count * width * height
    if size > MAX_MASK_BYTES:
        raise ValueError(
            "set width and height smaller: Depth Adapter Apply resizes the depth. The masks of "
            f"{count} objects at {width}x{height} pixels take {size / 2**30:.1f} GiB; the limit is "
            f"{MAX_MASK_BYTES // 2**30}"
        )
