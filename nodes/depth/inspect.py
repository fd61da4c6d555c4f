"""Inspect Metric Depth: shows a viewer on the node, which reads the depth in metres."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..host.geometry import connected_depth, passed_on
from ..host.graph import GRAPH
from ..host.notices import show
from ..host.preview import depth_preview_ui
from ..inputs import LOOK_CATEGORY, PASSED_ON, aliases, geometry_input, geometry_output


class SpatialFusionInspectDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionInspectDepth",
            display_name="Inspect Metric Depth",
            category=LOOK_CATEGORY,
            description=(
                "Shows the depth with a scale bar in metres, a histogram and statistics. Hover to read a pixel's "
                "metres; click two points for the distance between them in space. The geometry passes through as it is."
            ),
            search_aliases=aliases("preview depth", "view depth", "depth viewer", "measure", "histogram"),
            inputs=[geometry_input()],
            outputs=[geometry_output(PASSED_ON)],
            hidden=[*GRAPH],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, geometry: dict[str, Any]) -> io.NodeOutput:
        depth, notice = connected_depth(cls, geometry)
        shown = depth_preview_ui(depth, cls, whole=True) | (show(cls, notice) or {})
        return io.NodeOutput(passed_on(geometry, depth), ui=shown)
