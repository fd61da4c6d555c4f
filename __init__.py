"""SpatialFusion for ComfyUI: prompt -> metric depth -> image. Nothing is imported before ComfyUI asks for the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SpatialFusionExtension

# Served by ComfyUI under /extensions/<name of the pack's folder>; docs/<node id>/<language>.md are the nodes' help.
WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> SpatialFusionExtension:
    from .nodes import SpatialFusionExtension

    return SpatialFusionExtension()
