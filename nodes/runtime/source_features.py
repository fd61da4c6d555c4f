"""What the spatial transformer reads of a source image that is to be edited."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.clip_vision
import torch
import torch.nn.functional as F

from ...sf_model.models.pixel_encoder import own_patch_px, source_patches
from .loaded_checkpoint import SpatialFusionModel


@dataclass(frozen=True)
class SourceFeatures:
    """tokens (1, N, feature_dim) of the whole image on `grid` = (rows, columns)."""

    tokens: torch.Tensor
    grid: tuple[int, int]


def source_features(
    model: SpatialFusionModel, source: torch.Tensor, width: int, height: int, needed: bool
) -> SourceFeatures | None:
    """Of a source image (1, H, W, 3) in [0, 1]: DINOv2's patch tokens, or the image's own patches for bases that read
    these, at the predicted depth's size.

    None where the checkpoint reads none and they are not `needed`, because the MLLM itself sees the source.
    """
    if source.shape[0] != 1:
        raise ValueError(f"one source image at a time, got a batch of {source.shape[0]}; pick one with ImageFromBatch")
    if model.config.spatial_transformer.source_feature_dim is None:
        if not needed:
            return None
        raise ValueError(
            f"checkpoint {model.config.name!r} was trained without source images; disconnect source, or choose a "
            "checkpoint trained for editing"
        )
    patch_px = own_patch_px(model.config)
    if patch_px is not None:
        image = source[..., :3].movedim(-1, 1).float()
        if image.shape[-2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
        return SourceFeatures(*source_patches(image, patch_px))
    if model.clip_vision is None:
        raise ValueError(
            "a source image needs its encoder: connect DINOv2 (Load CLIP Vision) to clip_vision of Load SpatialFusion "
            "MLLM+MoT, or disconnect source"
        )
    output = model.clip_vision.encode_image(source[..., :3], crop=False)
    side = _side(model.clip_vision)
    return SourceFeatures(output["last_hidden_state"][:, -(side**2) :], (side, side))


def _side(clip_vision: comfy.clip_vision.ClipVisionModel) -> int:
    return clip_vision.image_size // clip_vision.config["patch_size"]
