"""Scaffold Object: a box, sphere or cylinder at a metric position, added to a list of objects."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ...sf_model.scaffold import SHAPES, Pose, ScaffoldObject, ScaffoldSolid
from ..inputs import SCAFFOLD_CATEGORY, ScaffoldObjects

MAX_POSITION_M = 1000.0
MAX_SIZE_M = 1000.0


def objects_input() -> io.Input:
    """The objects placed before; the node's own comes last."""
    return ScaffoldObjects.Input(
        "objects", optional=True, tooltip="Objects placed before, from another Scaffold node; this one is added."
    )


def objects_output() -> io.Output:
    return ScaffoldObjects.Output(
        display_name="objects", tooltip="For Compose Depth Scaffold, or the next Scaffold Object or Scaffold Mesh."
    )


def pose_inputs() -> list[io.Input]:
    """The fields of a Pose, in their order."""
    metres = {"min": -MAX_POSITION_M, "max": MAX_POSITION_M, "step": 0.05}
    degrees = {"default": 0.0, "min": -360.0, "max": 360.0, "step": 1.0}
    return [
        io.Float.Input("x_m", default=0.0, **metres, tooltip="Metres to the right of the camera; negative is left."),
        io.Float.Input(
            "y_m", default=0.0, **metres, tooltip="Metres from the ground up to the lowest point; 0 stands on it."
        ),
        io.Float.Input("z_m", default=4.0, **metres, tooltip="Metres ahead of the camera, along the ground."),
        io.Float.Input(
            "heading_deg",
            **degrees,
            tooltip="Where the front points, seen from above: 0 to the camera, 90 to image right, 180 away, 270 left.",
        ),
        io.Float.Input("pitch_deg", **degrees, tooltip="Tips the front down; negative tips it up."),
        io.Float.Input("roll_deg", **degrees, tooltip="Leans the object to its own right; negative to its left."),
    ]


class SpatialFusionScaffoldObject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        metres = {"default": 1.0, "min": 0.01, "max": MAX_SIZE_M, "step": 0.05}
        return io.Schema(
            node_id="SpatialFusionScaffoldObject",
            display_name="Scaffold Object",
            category=SCAFFOLD_CATEGORY,
            description=(
                "A box, sphere or cylinder of a size in metres at a place in metres, for Compose Depth Scaffold. Chain "
                "several of these nodes by their objects."
            ),
            search_aliases=[
                "spatialfusion",
                "box",
                "cube",
                "sphere",
                "ball",
                "cylinder",
                "primitive",
                "layout",
                "blockout",
                "place object",
                "3d scene",
            ],
            inputs=[
                io.Combo.Input(
                    "shape",
                    options=list(SHAPES),
                    default="box",
                    tooltip="A sphere with unequal sizes is an ellipsoid; a cylinder stands upright.",
                ),
                io.Float.Input("width_m", **metres, tooltip="Metres across, from side to side."),
                io.Float.Input("height_m", **metres, tooltip="Metres from bottom to top."),
                io.Float.Input("length_m", **metres, tooltip="Metres from front to back."),
                *pose_inputs(),
                objects_input(),
            ],
            outputs=[objects_output()],
        )

    @classmethod
    def execute(
        cls,
        shape: str,
        width_m: float,
        height_m: float,
        length_m: float,
        x_m: float,
        y_m: float,
        z_m: float,
        heading_deg: float,
        pitch_deg: float,
        roll_deg: float,
        objects: tuple[ScaffoldObject, ...] = (),
    ) -> io.NodeOutput:
        pose = Pose(x_m, y_m, z_m, heading_deg, pitch_deg, roll_deg)
        return io.NodeOutput((*objects, ScaffoldSolid(shape, (width_m, height_m, length_m), pose)))
