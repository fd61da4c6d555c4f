"""Adjust Metric Depth: correct a depth, or an object in it, in metres; say where the diffusion model is free."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.editing import DepthAdjustment, adjust_depth, scale_confidence
from ..host.geometry import texture, to_geometry, to_metric_depth
from ..host.preview import depth_preview_ui
from ..inputs import CATEGORY, GEOMETRY_LIMITS, MoGeGeometry, geometry_input

REGION, WHOLE_IMAGE = "region", "whole image"
MAX_METRES = 10000.0


class SpatialFusionAdjustDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        metres = {"default": 0.0, "max": MAX_METRES, "step": 0.05}
        return io.Schema(
            node_id="SpatialFusionAdjustDepth",
            display_name="Adjust Metric Depth",
            category=CATEGORY,
            description=(
                "Corrects a metric depth, or one object in it, in this order: scale, shift_m, distance_m, then the "
                "limits min_m and max_m. The sky stays sky. A confidence mask says where the diffusion model is free."
            ),
            search_aliases=[
                "spatialfusion",
                "move object",
                "set distance",
                "scale depth",
                "shift depth",
                "clamp depth",
                "remap depth",
                "confidence",
            ],
            inputs=[
                geometry_input(
                    "geometry",
                    f"The depth to correct. {GEOMETRY_LIMITS} A distance_m that moves the whole image takes them all, "
                    "and makes metres of them.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    tooltip="Multiplies the metres: everything keeps its place and shape in the image, and real sizes "
                    "change with the distance.",
                ),
                io.Float.Input(
                    "shift_m",
                    min=-MAX_METRES,
                    **metres,
                    tooltip="Metres to add, away from the camera. Thickness stays; width and height in metres follow "
                    "the distance.",
                ),
                io.Float.Input(
                    "distance_m",
                    min=0.0,
                    **metres,
                    tooltip="Scales the depth until the region's median surface is this far from the camera, along its "
                    "optical axis. The silhouette in the image stays. 0 is off.",
                ),
                io.Combo.Input(
                    "distance_moves",
                    options=[REGION, WHOLE_IMAGE],
                    default=REGION,
                    tooltip="What distance_m scales: the region alone, or the whole image by the same factor, so that "
                    "one known distance calibrates the scene.",
                ),
                io.Float.Input(
                    "min_m", min=0.0, **metres, tooltip="Surfaces nearer than this are put here. 0 is no limit."
                ),
                io.Float.Input(
                    "max_m", min=0.0, **metres, tooltip="Surfaces farther than this are put here. 0 is no limit."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region to change, white; grey changes partly, in log depth. Without it all of the "
                    "image. Resized to the geometry.",
                ),
                io.Mask.Input(
                    "confidence_mask",
                    optional=True,
                    tooltip="Multiplies the confidence: white keeps it, black sets it to 0, where the diffusion model "
                    "is free. Resized to the geometry; not limited to the region.",
                ),
            ],
            outputs=[
                MoGeGeometry.Output(display_name="geometry", tooltip="The corrected depth, with the same camera.")
            ],
        )

    @classmethod
    def execute(
        cls,
        geometry: dict[str, Any],
        scale: float,
        shift_m: float,
        distance_m: float,
        distance_moves: str,
        min_m: float,
        max_m: float,
        mask: torch.Tensor | None = None,
        confidence_mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        moves_all = mask is None or distance_moves == WHOLE_IMAGE
        adjustment = DepthAdjustment(scale, shift_m, distance_m, moves_all, min_m, max_m)
        depth = to_metric_depth(geometry, any_scale=moves_all and distance_m > 0).to("cpu")
        depth = adjust_depth(depth, adjustment, None if mask is None else mask.cpu())
        if confidence_mask is not None:
            depth = scale_confidence(depth, confidence_mask.cpu())
        return io.NodeOutput(to_geometry(depth, texture(geometry, depth)), ui=depth_preview_ui(depth, cls))
