"""Blend Metric Depth: one geometry from two, chosen or mixed by a mask."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.editing import FOV_TOLERANCE_DEG, blend_depths, repeat_depth, resize_depth
from ...sf_model.depth.fitting import fit_mask
from ...sf_model.depth.images import surface_normals
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.depth.normals import blended_normals, resized_normals
from ..host.geometry import connected_depth, measured_normals, texture, to_geometry
from ..host.graph import GRAPH
from ..host.notices import show
from ..host.preview import depth_preview_ui
from ..inputs import CHANGE_CATEGORY, GEOMETRY_LIMITS, aliases, geometry_input, geometry_output


class SpatialFusionBlendDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionBlendDepth",
            display_name="Blend Metric Depth",
            category=CHANGE_CATEGORY,
            description=(
                "Puts two metric depths together under a mask: black takes the first, white the second, grey blends "
                "them in log depth. Size, camera and batch are the first's."
            ),
            search_aliases=aliases("mix depth", "combine depth", "merge geometry", "composite", "lerp"),
            inputs=[
                geometry_input(
                    "geometry_a", f"Used where the mask is black. It gives size and camera. {GEOMETRY_LIMITS}"
                ),
                geometry_input(
                    "geometry_b",
                    "Used where the mask is white, in metres too. It is resized to the first and must have its aspect "
                    "ratio.",
                ),
                io.Mask.Input(
                    "mask",
                    tooltip="Black takes the first, white the second, grey blends them in log depth. Where only one "
                    "has a surface, grey below half takes the first, above half the second. Resized to the first; "
                    "feather it for soft edges.",
                ),
                io.Boolean.Input(
                    "ignore_camera",
                    default=False,
                    advanced=True,
                    tooltip=f"Off: fields of view that differ by more than {FOV_TOLERANCE_DEG:g} degree are an error. "
                    "On: the first's is taken for both.",
                ),
            ],
            outputs=[geometry_output("The blended depth with the first's camera.")],
            hidden=[*GRAPH],
        )

    @classmethod
    def execute(
        cls, geometry_a: dict[str, Any], geometry_b: dict[str, Any], mask: torch.Tensor, ignore_camera: bool
    ) -> io.NodeOutput:
        # All editing is done on the CPU: Apple's MPS has no antialiased resizing.
        first, first_notice = connected_depth(cls, geometry_a, "geometry_a")
        second, second_notice = connected_depth(cls, geometry_b, "geometry_b")
        mask = mask.cpu()
        first, second = first.to("cpu"), second.to("cpu")
        blended = blend_depths(first, second, mask, ignore_camera)
        weight = fit_mask(mask, *blended.depth.shape[-2:]).unsqueeze(-1)
        image = torch.lerp(texture(geometry_a, blended), texture(geometry_b, blended), weight)
        shown = depth_preview_ui(blended, cls) | (show(cls, first_notice, second_notice) or {})
        own = [(first, measured_normals(geometry_a, first)), (second, measured_normals(geometry_b, second))]
        normals = _normals(blended, *own)
        return io.NodeOutput(to_geometry(blended, image, normals), ui=shown)


def _normals(blended: MetricDepth, *sources: tuple[MetricDepth, torch.Tensor | None]) -> torch.Tensor | None:
    """(B, H, W, 3) of the blended depth, if one of the sources has measured normals."""
    if all(normals is None for _, normals in sources):
        return None
    count, height, width = blended.depth.shape
    usable = []
    for depth, normals in sources:
        normals = surface_normals(depth) if normals is None else normals
        resized = repeat_depth(resize_depth(depth, height, width), count)
        # Where the cameras differ (ignore_camera), the surface is another one in the blend's camera.
        if ((resized.fov_y_deg - blended.fov_y_deg).abs() <= FOV_TOLERANCE_DEG).all():
            usable.append((resized, resized_normals(normals, height, width).expand(count, -1, -1, -1)))
    return blended_normals(blended, usable)
