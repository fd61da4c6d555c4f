"""Place Shape: adds a box, sphere or cylinder at a place in metres to a list of objects."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ...sf_model.scaffold import SHAPES, Pose, ScaffoldObject, ScaffoldSolid
from ..inputs import BUILD_CATEGORY, aliases, metres_input
from .inputs import MAX_SIZE_M, objects_input, objects_output, pose_inputs


class SpatialFusionScaffoldObject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        size = {"default": 1.0, "minimum": 0.01, "maximum": MAX_SIZE_M}
        return io.Schema(
            node_id="SpatialFusionScaffoldObject",
            display_name="Place Shape",
            category=BUILD_CATEGORY,
            description=(
                "A box, sphere or cylinder with a size and a place in metres, for Compose Depth Scaffold. Chain "
                "several of these nodes by their objects."
            ),
            search_aliases=aliases(
                "scaffold object",
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
            ),
            inputs=[
                io.Combo.Input(
                    "shape",
                    options=list(SHAPES),
                    default="box",
                    tooltip="A sphere with unequal sizes is an ellipsoid. A cylinder stands upright.",
                ),
                metres_input("width_m", "Metres across, from side to side.", **size),
                metres_input("height_m", "Metres from bottom to top.", **size),
                metres_input("length_m", "Metres from front to back.", **size),
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
