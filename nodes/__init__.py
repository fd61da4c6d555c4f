"""The pack's nodes: the only code that knows ComfyUI. The method itself is in `sf_model`."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from .adjust_depth import SpatialFusionAdjustDepth
from .apply_depth import SpatialFusionApplyDepth
from .blend_depth import SpatialFusionBlendDepth
from .compose_depth import SpatialFusionComposeDepth
from .depth_to_images import SpatialFusionDepthToImages
from .depth_to_mesh import SpatialFusionDepthToMesh
from .image_to_depth import SpatialFusionImageToDepth
from .inspect_depth import SpatialFusionInspectDepth
from .load_depth import SpatialFusionLoadDepth
from .loader import SpatialFusionLoader
from .mini_loader import SpatialFusionMiniLoader
from .predict_depth import SpatialFusionPredictDepth
from .sampler import SpatialFusionSampler
from .save_depth import SpatialFusionSaveDepth
from .scaffold_mesh import SpatialFusionScaffoldMesh
from .scaffold_object import SpatialFusionScaffoldObject

NODES: list[type[io.ComfyNode]] = [
    SpatialFusionMiniLoader,
    SpatialFusionLoader,
    SpatialFusionPredictDepth,
    SpatialFusionApplyDepth,
    SpatialFusionSampler,
    SpatialFusionSaveDepth,
    SpatialFusionLoadDepth,
    SpatialFusionImageToDepth,
    SpatialFusionInspectDepth,
    SpatialFusionDepthToMesh,
    SpatialFusionBlendDepth,
    SpatialFusionAdjustDepth,
    SpatialFusionDepthToImages,
    SpatialFusionScaffoldObject,
    SpatialFusionScaffoldMesh,
    SpatialFusionComposeDepth,
]


class SpatialFusionExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
