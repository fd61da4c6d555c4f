"""Loosen Metric Depth: one widget from exact to rough, for models that draw the very shapes that they see."""

from __future__ import annotations

from typing import Any

import comfy.model_management
from comfy_api.v0_0_2 import io

from ...sf_model.depth.loosening import loosen
from ...sf_model.depth.normals import adjusted_normals
from ..host.geometry import connected_depth, measured_normals, texture, to_geometry
from ..host.graph import GRAPH
from ..host.images import to_host
from ..host.notices import show
from ..host.preview import depth_preview_ui
from ..inputs import CHANGE_CATEGORY, aliases, geometry_input, geometry_output, share_input


class SpatialFusionLoosenDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionLoosenDepth",
            display_name="Loosen Metric Depth",
            category=CHANGE_CATEGORY,
            description=(
                "A depth ControlNet draws a box where it sees a box. This keeps the distances of a composed depth and "
                "leaves the outlines to the model: soft halos around silhouettes, less confidence, an early end."
            ),
            search_aliases=aliases("loose", "soft depth", "rough", "blur depth", "feather", "controlnet depth", "box"),
            inputs=[
                geometry_input("geometry", "From Compose Depth Scaffold, or any depth in metres."),
                share_input(
                    "looseness",
                    "0 is exact: nothing changes. 1 is rough: wide halos, half the confidence, and an end at 40% of "
                    "sampling. Around 0.5 suits boxes.",
                    default=0.5,
                    step=0.05,
                ),
            ],
            outputs=[
                geometry_output("The loosened depth, with the same camera."),
                io.Float.Output(
                    display_name="end_percent",
                    tooltip="When the depth should end: for end_percent of Apply ControlNet or Depth Adapter Apply.",
                ),
            ],
            hidden=[*GRAPH],
        )

    @classmethod
    def execute(cls, geometry: dict[str, Any], looseness: float) -> io.NodeOutput:
        given, notice = connected_depth(cls, geometry)
        exact = given.to("cpu")
        loose = loosen(exact, looseness, comfy.model_management.throw_exception_if_processing_interrupted)
        shown = depth_preview_ui(loose.depth, cls) | (show(cls, notice) or {})
        picture = to_host(texture(geometry, loose.depth))
        normals = measured_normals(geometry, exact)
        if normals is not None:
            normals = adjusted_normals(loose.depth, exact, normals)
        return io.NodeOutput(to_geometry(loose.depth, picture, normals), loose.end_percent, ui=shown)
