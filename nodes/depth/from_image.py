"""Image to Metric Depth: a preprocessor's depth picture, and what its values are -> geometry."""

from __future__ import annotations

import math

import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.from_image import (
    ABSOLUTE,
    DA3_RAW,
    DISPARITY,
    ENCODINGS,
    METRIC_DEPTH,
    GreyScale,
    depth_from_image,
)
from ...sf_model.depth.lens import AXIS, stated_fov_y
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.depth.summary import metres, range_sentence
from ..host.da3 import Da3Run, find_run
from ..host.geometry import to_geometry
from ..host.graph import GRAPH
from ..host.notices import Notice, show
from ..host.preview import depth_preview_ui
from ..inputs import (
    SOURCES_CATEGORY,
    aliases,
    distance_along_input,
    focal_length_inputs,
    fov_y_input,
    geometry_output,
    metres_input,
)


class SpatialFusionImageToDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionImageToDepth",
            display_name="Image to Metric Depth",
            category=SOURCES_CATEGORY,
            description=(
                "Turns the depth picture of any preprocessor into metric geometry. You say how many metres white and "
                "black are, or that the values are metres. An image of one grey becomes a wall at one distance."
            ),
            search_aliases=aliases(
                "depth image",
                "depth map to geometry",
                "midas",
                "depth anything",
                "marigold",
                "lotus",
                "depth pro",
                "zoe",
                "controlnet depth",
            ),
            inputs=[
                io.Image.Input("image", tooltip="A grey depth picture, from a preprocessor or drawn."),
                metres_input("near_m", "Metres to what is white (black if inverted).", default=1.0, minimum=0.01),
                metres_input("far_m", "Metres to what is black (white if inverted).", default=20.0, minimum=0.01),
                io.Combo.Input(
                    "encoding",
                    options=list(ENCODINGS),
                    default=DISPARITY,
                    tooltip="What the values are, by the node or model that made them. disparity: 1 / metres, as in "
                    "depth ControlNets, MiDaS, Depth Anything and Metric Depth to Images. depth: metres, as in "
                    "ZoeDepth and normalised Z passes. metric_depth, raw and Metric Depth to Inverse do not use near_m "
                    "and far_m.",
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
                distance_along_input(),
                *focal_length_inputs(),
                io.Int.Input(
                    "da3_resolution",
                    default=0,
                    min=0,
                    max=16384,
                    optional=True,
                    tooltip="For raw only: the longer side in pixels at which Depth Anything 3 ran. Metres depend on "
                    "it. 0 takes it from the Run Depth Anything 3 in the graph, else 504.",
                ),
            ],
            outputs=[geometry_output()],
            hidden=[*GRAPH],
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
        distance_along: str = AXIS,
        focal_length_mm: float = 0.0,
        focal_length_px: float = 0.0,
        da3_resolution: int = 0,
    ) -> io.NodeOutput:
        height, width = image.shape[1:3]
        fov_y_deg = stated_fov_y(fov_y_deg, focal_length_mm, focal_length_px, height, width)
        run = Da3Run(da3_resolution, found=True) if da3_resolution > 0 else find_run(cls, "image")
        factor = _metres_per_raw(run, height, width, fov_y_deg) if encoding == DA3_RAW else 1.0
        scale = GreyScale(encoding, near_m, far_m, invert, factor)
        depth = depth_from_image(image, scale, fov_y_deg, mask, distance_along)
        # A texture has three channels in [0, 1]. The picture may have one, and metres.
        texture = image[..., :3].float().expand(-1, -1, -1, 3).nan_to_num(0.0).clamp(0, 1)
        shown = depth_preview_ui(depth, cls) | (show(cls, _notice(scale, run, depth)) or {})
        return io.NodeOutput(to_geometry(depth, texture), ui=shown)


def _metres_per_raw(run: Da3Run, height: int, width: int, fov_y_deg: float) -> float:
    focal = 0.5 * height / width / math.tan(math.radians(fov_y_deg) / 2)
    return float(run.metres_per_output(height, width, torch.tensor([focal])))


def _notice(scale: GreyScale, run: Da3Run, depth: MetricDepth) -> Notice:
    """What the values were taken for, and the metres that came out."""
    height, width = depth.depth.shape[-2:]
    if scale.encoding not in ABSOLUTE:
        near, far = ("black", "white") if scale.invert else ("white", "black")
        text = f"{scale.encoding}: {near} is {metres(scale.near_m)} m, {far} is {metres(scale.far_m)} m."
        return Notice(f"{text} {range_sentence(depth)}", doubtful=False)
    if scale.encoding == DA3_RAW:
        run_height, run_width = run.size(height, width)
        unknown = "It is not known how Run Depth Anything 3 ran; set da3_resolution. "
        return Notice(
            f"{'' if run.found else unknown}{scale.encoding}: metres are the values times "
            f"{scale.metres_per_value:.3g}, of a run at {run_width}x{run_height} pixels. {range_sentence(depth)}",
            doubtful=not run.found,
        )
    # A picture that was saved with 8 bits, or stretched, ends at 1.
    is_stretched = scale.encoding == METRIC_DEPTH and depth.depth[depth.valid].amax().item() <= 1
    doubt = "These may be greys and not metres: nothing is above 1. "
    text = f"{scale.encoding}: no range was set. {range_sentence(depth)}"
    return Notice(f"{doubt if is_stretched else ''}{text}", doubtful=is_stretched)
