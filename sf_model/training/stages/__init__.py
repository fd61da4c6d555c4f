"""The stages of training. A stage is a module: forward returns its losses, and it freezes what does not learn.

autoencoder  the latents of a base that is trained from scratch
language     the MLLM of a base that is trained from scratch
image        its diffusion transformer, on captions alone
source       its encoder of source images, before any edit
stage1       spatial transformer and depth head; the base is frozen (arXiv 2604.26341, section 4)
stage2       adapter, diffusion and spatial transformer: L_diffusion + lambda L_depth on live predicted depth
"""

from __future__ import annotations

from .autoencoder import AutoencoderStage
from .depth import DepthStage
from .fusion import FusionStage
from .image import ImageStage
from .language import LanguageStage
from .source import SourceStage
from .stage import Stage

STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (AutoencoderStage, LanguageStage, ImageStage, SourceStage, DepthStage, FusionStage)
}

__all__ = [
    "STAGES",
    "AutoencoderStage",
    "DepthStage",
    "FusionStage",
    "ImageStage",
    "LanguageStage",
    "SourceStage",
    "Stage",
]
