"""Image to Metric Depth: a preprocessor's depth picture and two distances -> geometry."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.from_image import DEPTH, DISPARITY, depth_from_image
from ..host.geometry import to_geometry
from ..host.preview import depth_preview_ui
from ..inputs import SOURCES_CATEGORY, aliases, fov_y_input, geometry_output, metres_input


class SpatialFusionImageToDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionImageToDepth",
            display_name="Image to Metric Depth",
            category=SOURCES_CATEGORY,
            description=(
                "Turns a grey depth picture of any preprocessor into metric geometry. You say how many metres white "
                "and black are. An image of one grey becomes a wall at one distance."
            ),
            search_aliases=aliases(
                "depth image",
                "depth map to geometry",
                "midas",
                "zoe",
                "depth anything",
                "marigold",
                "lotus",
                "controlnet depth",
            ),
            inputs=[
                io.Image.Input("image", tooltip="A grey depth picture, from a preprocessor or drawn."),
                metres_input("near_m", "Metres to what is white (black if inverted).", default=1.0, minimum=0.01),
                metres_input("far_m", "Metres to what is black (white if inverted).", default=20.0, minimum=0.01),
                io.Combo.Input(
                    "encoding",
                    options=[DISPARITY, DEPTH],
                    default=DISPARITY,
                    tooltip="What the grey values are linear in. disparity: 1 / metres, as in depth ControlNets, "
                    "MiDaS, Depth Anything and Metric Depth to Images. depth: metres, as in Marigold and normalised Z "
                    "passes.",
                ),
                io.Boolean.Input("invert", default=False, tooltip="Off: white is near. On: white is far."),
                fov_y_input(
                    "The camera's vertical field of view in degrees: 20 is a telephoto lens, 50 to 65 a phone.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where there is no surface (sky). It is resized to the image and must have its "
                    "aspect ratio. One for all images, or one each.",
                ),
            ],
            outputs=[geometry_output()],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        near_m: float,
        far_m: float,
        encoding: str,
        invert: bool,
        fov_y_deg: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        depth = depth_from_image(image, near_m, far_m, fov_y_deg, encoding, invert, mask)
        # A texture has three channels. The picture may have one.
        texture = image[..., :3].float().expand(-1, -1, -1, 3)
        return io.NodeOutput(to_geometry(depth, texture), ui=depth_preview_ui(depth, cls))
