"""Adjust Metric Depth: corrects a depth, or an object in it, in metres, and says where the diffusion model is free."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.editing import DepthAdjustment, adjust_depth, repeat_depth, scale_confidence
from ...sf_model.depth.normals import adjusted_normals
from ..host.geometry import connected_depth, measured_normals, texture, to_geometry
from ..host.graph import GRAPH
from ..host.notices import show
from ..host.preview import depth_preview_ui
from ..inputs import (
    CHANGE_CATEGORY,
    GEOMETRY_LIMITS,
    MAX_METRES,
    aliases,
    geometry_input,
    geometry_output,
    metres_input,
)

REGION, WHOLE_IMAGE = "region", "whole image"


class SpatialFusionAdjustDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionAdjustDepth",
            display_name="Adjust Metric Depth",
            category=CHANGE_CATEGORY,
            description=(
                "Corrects a metric depth, or one object in it, in this order: scale, shift_m, distance_m, then the "
                "limits min_m and max_m. The sky stays sky. A confidence mask says where the diffusion model is free."
            ),
            search_aliases=aliases(
                "move object",
                "set distance",
                "scale depth",
                "shift depth",
                "clamp depth",
                "remap depth",
                "confidence",
            ),
            inputs=[
                geometry_input(
                    "geometry",
                    f"The depth to correct. {GEOMETRY_LIMITS} Only a distance_m that moves the whole image takes "
                    "relative depth, and makes metres of it.",
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
                metres_input(
                    "shift_m",
                    "Metres to add, away from the camera. Thickness stays; width and height in metres follow the "
                    "distance.",
                    minimum=-MAX_METRES,
                ),
                metres_input(
                    "distance_m",
                    "Scales the depth until the region's median surface is this far from the camera, along its optical "
                    "axis. The silhouette in the image stays. 0 is off.",
                ),
                io.Combo.Input(
                    "distance_moves",
                    options=[REGION, WHOLE_IMAGE],
                    default=REGION,
                    tooltip="What distance_m scales: the region alone, or the whole image by the same factor, so that "
                    "one known distance calibrates the scene.",
                ),
                metres_input(
                    "min_m", "Surfaces nearer than this are moved to this distance. 0 is no limit.", advanced=True
                ),
                metres_input(
                    "max_m", "Surfaces farther than this are moved to this distance. 0 is no limit.", advanced=True
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region to change is white; grey changes it partly, in log depth. Without a mask all "
                    "of the image changes. Resized to the geometry.",
                ),
                io.Mask.Input(
                    "confidence_mask",
                    optional=True,
                    tooltip="Multiplies the confidence: white keeps it, black sets it to 0, where the diffusion model "
                    "is free. Resized to the geometry; not limited to the region.",
                ),
            ],
            outputs=[geometry_output("The corrected depth, with the same camera.")],
            hidden=[*GRAPH],
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
        given, notice = connected_depth(cls, geometry, any_scale=moves_all and distance_m > 0)
        given = given.to("cpu")
        depth = adjust_depth(given, adjustment, None if mask is None else mask.cpu())
        if confidence_mask is not None:
            depth = scale_confidence(depth, confidence_mask.cpu())
        shown = depth_preview_ui(depth, cls) | (show(cls, notice) or {})
        normals = measured_normals(geometry, given)
        if normals is not None:
            # A batch of masks makes a batch of one depth.
            before = repeat_depth(given, len(depth.depth))
            normals = adjusted_normals(depth, before, normals.expand(len(depth.depth), -1, -1, -1))
        return io.NodeOutput(to_geometry(depth, texture(geometry, depth), normals), ui=shown)
