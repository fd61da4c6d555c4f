"""Features of the source image of an edit, for the spatial transformer."""

from __future__ import annotations

import comfy.clip_vision
import torch
import torch.nn.functional as F

from ...sf_model.models.expert_inputs import SourceFeatures
from ...sf_model.models.pixel_encoder import source_patches
from .loaded_checkpoint import SpatialFusionModel


def source_features(
    model: SpatialFusionModel, source: torch.Tensor, width: int, height: int, needed: bool
) -> SourceFeatures | None:
    """The features of a source image (1, H, W, 3) in [0, 1].

    They are DINOv2's patch tokens, or the image's own patches at the size of the predicted depth. None where the
    checkpoint reads neither and they are not `needed`, because the MLLM itself sees the source.
    """
    if source.shape[0] != 1:
        raise ValueError(
            f"pick one image of the batch with ImageFromBatch: one source image at a time, got {source.shape[0]}"
        )
    if model.config.spatial_transformer.source_feature_dim is None:
        if not needed:
            return None
        raise ValueError(
            "disconnect source, or choose a checkpoint trained for editing: checkpoint "
            f"{model.config.name!r} was trained without source images"
        )
    if model.source_patch_px is not None:
        image = source[..., :3].movedim(-1, 1).float()
        if image.shape[-2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
        return source_patches(image, model.source_patch_px)
    if model.clip_vision is None:
        raise ValueError(
            "connect DINOv2 (Load CLIP Vision) to clip_vision of Load SpatialFusion MLLM+MoT, or disconnect source: a "
            "source image needs its encoder"
        )
    return _encoded(model.clip_vision, source)


def _encoded(clip_vision: comfy.clip_vision.ClipVisionModel, source: torch.Tensor) -> SourceFeatures:
    """The patch tokens of the whole image, without the class and register tokens before them."""
    output = clip_vision.encode_image(source[..., :3], crop=False)
    side = clip_vision.image_size // clip_vision.config["patch_size"]
    return SourceFeatures(output["last_hidden_state"][:, -(side**2) :], (side, side))
