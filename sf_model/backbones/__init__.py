"""What is particular to one base model, one file each; `BACKBONES` is the list that training and nodes look in."""

from __future__ import annotations

from .base import Backbone, SourceView, backbone_of_transformer
from .mini import MINI
from .omnigen2 import OMNIGEN2
from .qwen_image import QWEN_IMAGE, QWEN_IMAGE_EDIT
from .z_image import Z_IMAGE

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone for backbone in (MINI, OMNIGEN2, QWEN_IMAGE, QWEN_IMAGE_EDIT, Z_IMAGE)
}

__all__ = ["BACKBONES", "Backbone", "SourceView", "backbone_of_transformer", "get_backbone"]


def get_backbone(name: str) -> Backbone:
    """ValueError, with the names that are known, for another."""
    if name not in BACKBONES:
        raise ValueError(
            f"{name!r} is not a base that this version knows ({', '.join(BACKBONES)}); update the pack, or choose a "
            "checkpoint for one of these"
        )
    return BACKBONES[name]
