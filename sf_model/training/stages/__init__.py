"""The trainings. A stage is a module whose forward is its loss, and whose trainable parameters are its freeze set.

language: the MLLM of a base that is trained from nothing.
image: its diffusion transformer, on captions alone.
source: what its encoder of source images sees, before any edit.
stage1: spatial transformer and depth head; MLLM and diffusion transformer are frozen (arXiv 2604.26341, section 4).
stage2: adapter, diffusion transformer and spatial transformer: L_diffusion + lambda L_depth on live predicted depth.
"""

from __future__ import annotations

from .depth import DepthStage
from .fusion import FusionStage
from .image import ImageStage
from .language import LanguageStage
from .source import SourceStage
from .stage import Stage

STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (LanguageStage, ImageStage, SourceStage, DepthStage, FusionStage)
}

__all__ = ["STAGES", "DepthStage", "FusionStage", "ImageStage", "LanguageStage", "SourceStage", "Stage"]
