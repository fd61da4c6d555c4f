"""Source image features -> tokens that the spatial transformer attends to when editing.

The features are DINOv2's patch tokens. A small base has the image's own patches instead, and an encoder that is trained
with its spatial transformer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from .backbones import get_backbone
from .config import SpatialFusionConfig
from .initialisation import keep_variance

# Channels of the finest map that `PixelEncoder` makes of a source; each halving of the size doubles them.
PIXEL_CHANNELS = 32


@dataclass(frozen=True)
class EncodedSource:
    """tokens (B, N, D) on `grid` = (rows, columns). pixels: (B, PIXEL_CHANNELS, H, W) of an encoder that sees the image
    itself, else None."""

    tokens: torch.Tensor
    grid: tuple[int, int]
    pixels: torch.Tensor | None = None

    def twice(self) -> EncodedSource:
        """The batch, and the batch again."""
        pixels = None if self.pixels is None else torch.cat([self.pixels, self.pixels])
        return EncodedSource(torch.cat([self.tokens, self.tokens]), self.grid, pixels)


class SourceEncoder(nn.Module):
    """Projects (B, N, feature_dim) image features to the spatial transformer's width."""

    def __init__(
        self,
        feature_dim: int,
        hidden_size: int,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.norm = operations.LayerNorm(feature_dim, dtype=dtype, device=device)
        self.project = operations.Linear(feature_dim, hidden_size, dtype=dtype, device=device)

    def forward(self, features: torch.Tensor, grid: tuple[int, int]) -> EncodedSource:
        """ValueError for features of another encoder than the checkpoint's."""
        self._check(features)
        return EncodedSource(self.project(self.norm(features)), grid)

    def _check(self, features: torch.Tensor) -> None:
        if features.shape[-1] != self.feature_dim:
            raise ValueError(
                f"the source image features have {features.shape[-1]} channels, this checkpoint reads "
                f"{self.feature_dim}; load the vision encoder that it was trained with"
            )


class PixelEncoder(SourceEncoder):
    """The image's own patches, `source_patches`, through convolutions that halve its size until a patch is one cell: to
    be told from others by place, light and surroundings, which the norm of a lone patch takes away."""

    def __init__(
        self,
        patch_px: int,
        hidden_size: int,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(source_patch_dim(patch_px), hidden_size, operations, dtype, device)
        factory = {"dtype": dtype, "device": device}
        self.patch_px = patch_px
        halvings = patch_px.bit_length() - 1
        widths = [PIXEL_CHANNELS * 2**level for level in range(halvings)] + [self.feature_dim]
        self.pixels = operations.Conv2d(3, PIXEL_CHANNELS, 3, padding=1, **factory)
        self.halvings = nn.ModuleList(
            operations.Conv2d(wide, wider, 3, stride=2, padding=1, **factory) for wide, wider in zip(widths, widths[1:])
        )
        keep_variance(self.pixels, *self.halvings)

    def forward(self, features: torch.Tensor, grid: tuple[int, int]) -> EncodedSource:
        """features: (B, N, 3 patch_px^2) of `source_patches`, with their grid."""
        self._check(features)
        image = F.pixel_shuffle(features.transpose(1, 2).unflatten(2, grid), self.patch_px)
        pixels = x = self.pixels(image)
        for layer in self.halvings:
            x = layer(F.relu(x))
        return EncodedSource(self.project(self.norm(x.flatten(2).transpose(1, 2))), grid, pixels)


def own_patch_px(config: SpatialFusionConfig) -> int | None:
    """The side of the source's own patches, where a checkpoint reads these and needs no DINOv2."""
    patch_px = get_backbone(config.backbone).source_patch_px
    if patch_px is None or config.spatial_transformer.source_feature_dim != source_patch_dim(patch_px):
        return None
    return patch_px


def source_patches(image: torch.Tensor, patch_px: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """(B, N, 3 patch_px^2) in [-1, 1]: the patches of images (B, 3, H, W) in [0, 1], and their grid (rows, columns).

    Sides that are no multiple of patch_px are resized to the nearest, by area averaging.
    """
    grid = tuple(max(1, round(side / patch_px)) for side in image.shape[-2:])
    size = (grid[0] * patch_px, grid[1] * patch_px)
    if image.shape[-2:] != size:
        image = F.interpolate(image, size=size, mode="area")
    patches = F.pixel_unshuffle(image * 2 - 1, patch_px)
    return patches.flatten(2).transpose(1, 2), (grid[0], grid[1])


def source_patch_dim(patch_px: int) -> int:
    """Channels of `source_patches`."""
    return 3 * patch_px**2
