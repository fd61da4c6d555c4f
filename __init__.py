"""SpatialFusion for ComfyUI: prompt -> metric depth -> image. Nothing is imported before ComfyUI asks for the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SpatialFusionExtension


async def comfy_entrypoint() -> SpatialFusionExtension:
    from .nodes import SpatialFusionExtension

    return SpatialFusionExtension()
