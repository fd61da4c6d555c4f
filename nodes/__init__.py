"""The pack's nodes: the only code that knows ComfyUI. The method itself is in `sf_model`."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from .checks.inputs import check_inputs
from .depth.adjust import SpatialFusionAdjustDepth
from .depth.blend import SpatialFusionBlendDepth
from .depth.from_image import SpatialFusionImageToDepth
from .depth.inspect import SpatialFusionInspectDepth
from .depth.load import SpatialFusionLoadDepth
from .depth.save import SpatialFusionSaveDepth
from .depth.to_images import SpatialFusionDepthToImages
from .depth.to_mesh import SpatialFusionDepthToMesh
from .generate.apply import SpatialFusionApplyDepth
from .generate.load_checkpoint import SpatialFusionLoader
from .generate.predict import SpatialFusionPredictDepth
from .generate.sampler import SpatialFusionSampler
from .mini.loader import SpatialFusionMiniLoader
from .scaffold.compose import SpatialFusionComposeDepth
from .scaffold.condition import SpatialFusionLayoutConditioning
from .scaffold.mesh import SpatialFusionScaffoldMesh
from .scaffold.object import SpatialFusionScaffoldObject
from .scaffold.plan import SpatialFusionPlanLayout

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
    SpatialFusionPlanLayout,
    SpatialFusionLayoutConditioning,
]

for _node in NODES:
    check_inputs(_node)


class SpatialFusionExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
