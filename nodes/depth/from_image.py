"""Image to Metric Depth: a preprocessor's depth picture and two distances -> geometry."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.from_image import DEPTH, DISPARITY, depth_from_image
from ..host.geometry import to_geometry
from ..host.preview import depth_preview_ui
from ..inputs import CATEGORY, MoGeGeometry


class SpatialFusionImageToDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        metres = {"min": 0.01, "max": 10000.0, "step": 0.05}
        return io.Schema(
            node_id="SpatialFusionImageToDepth",
            display_name="Image to Metric Depth",
            category=CATEGORY,
            description=(
                "Turns a grey depth picture, of any preprocessor, into metric geometry: you say how many metres white "
                "and black are. An image of one grey becomes a wall at one distance."
            ),
            search_aliases=[
                "spatialfusion",
                "depth image",
                "depth map to geometry",
                "midas",
                "zoe",
                "depth anything",
                "marigold",
                "lotus",
                "controlnet depth",
            ],
            inputs=[
                io.Image.Input("image", tooltip="A grey depth picture, from a preprocessor or drawn."),
                io.Float.Input("near_m", default=1.0, **metres, tooltip="Metres to what is white (black if inverted)."),
                io.Float.Input("far_m", default=20.0, **metres, tooltip="Metres to what is black (white if inverted)."),
                io.Combo.Input(
                    "encoding",
                    options=[DISPARITY, DEPTH],
                    default=DISPARITY,
                    tooltip="What the grey values grow evenly with. disparity: 1 / metres, as depth ControlNets and "
                    "MiDaS, Depth Anything and Metric Depth to Images have it. depth: metres, as Marigold and "
                    "normalised Z passes have it.",
                ),
                io.Boolean.Input("invert", default=False, tooltip="Off: white is near. On: white is far."),
                io.Float.Input(
                    "fov_y_deg",
                    default=50.0,
                    min=1.0,
                    max=179.0,
                    step=0.1,
                    tooltip="The camera's vertical field of view in degrees: 20 is a telephoto lens, 50 to 65 a phone.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where there is no surface (sky). Resized to the image, same aspect ratio; one for "
                    "all images, or one each.",
                ),
            ],
            outputs=[
                MoGeGeometry.Output(
                    display_name="geometry",
                    tooltip="Metric depth with its camera, as the host's geometry nodes use it.",
                )
            ],
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
        # A picture of one channel would not do as a texture.
        texture = image[..., :3].float().expand(-1, -1, -1, 3)
        return io.NodeOutput(to_geometry(depth, texture), ui=depth_preview_ui(depth, cls))
