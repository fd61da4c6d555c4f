"""The base models, one file each. Training and nodes look them up in `BACKBONES`."""

from __future__ import annotations

from ..config import SpatialFusionConfig
from .base import Backbone, SourceView, backbone_of_transformer
from .mini import MINI, prompt_template
from .omnigen2 import OMNIGEN2
from .qwen_image import QWEN_IMAGE, QWEN_IMAGE_EDIT
from .z_image import Z_IMAGE

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone for backbone in (MINI, OMNIGEN2, QWEN_IMAGE, QWEN_IMAGE_EDIT, Z_IMAGE)
}

__all__ = ["BACKBONES", "Backbone", "SourceView", "backbone_of_transformer", "get_backbone", "template_of"]


def template_of(config: SpatialFusionConfig) -> str:
    """The text around the prompt for a checkpoint of this configuration; the prompt is "{}"."""
    if config.backbone == MINI.name and config.layout is not None:
        return prompt_template(config.layout.objects)
    return get_backbone(config.backbone).prompt_template


def get_backbone(name: str) -> Backbone:
    """The base of this name. ValueError, with the known names, for any other."""
    if name not in BACKBONES:
        raise ValueError(
            f"update the pack, or choose a checkpoint for one of {', '.join(BACKBONES)}: this version does not know "
            f"the base {name!r}"
        )
    return BACKBONES[name]
