"""Source image features -> tokens that the spatial transformer attends to when editing.

The features are DINOv2's patch tokens. A small base has the image's own patches instead, and an encoder that has
learned to read depth from pictures before, as DINOv2 has learned to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..backbones import get_backbone
from ..config import SpatialFusionConfig
from .depth_flow import STATE_CHANNELS
from .initialisation import start_from_zero
from .monocular_depth import PIXEL_CHANNELS, MonocularDepth

# Of the map that `PixelEncoder` hands to the head: the finest one of its network, and the depth that this reads.
SOURCE_CHANNELS = PIXEL_CHANNELS + STATE_CHANNELS


@dataclass(frozen=True)
class EncodedSource:
    """tokens (B, N, D) on `grid` = (rows, columns). at_queries: (B, rows * columns of the queries, D), what is added to
    them, None for checkpoints without. pixels: (B, SOURCE_CHANNELS, H, W) of an encoder that sees the image itself,
    else None."""

    tokens: torch.Tensor
    grid: tuple[int, int]
    at_queries: torch.Tensor | None
    pixels: torch.Tensor | None = None

    def twice(self) -> EncodedSource:
        """The batch, and the batch again."""

        def twice(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else torch.cat([value, value])

        return EncodedSource(torch.cat([self.tokens] * 2), self.grid, twice(self.at_queries), twice(self.pixels))


class SourceEncoder(nn.Module):
    """Projects (B, N, feature_dim) image features to the spatial transformer's width."""

    def __init__(
        self,
        feature_dim: int,
        hidden_size: int,
        at_queries: bool,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.norm = operations.LayerNorm(feature_dim, dtype=dtype, device=device)
        self.project = operations.Linear(feature_dim, hidden_size, dtype=dtype, device=device)
        self.at_queries: nn.Linear | None = None
        if at_queries:
            self.at_queries = operations.Linear(hidden_size, hidden_size, dtype=dtype, device=device)
            start_from_zero(self.at_queries)

    def forward(self, features: torch.Tensor, grid: tuple[int, int], queries: tuple[int, int]) -> EncodedSource:
        """`grid` and `queries`: (rows, columns) of the features and of the queries. ValueError for features of another
        encoder than the checkpoint's."""
        self._check(features)
        tokens = self.project(self.norm(features))
        return EncodedSource(tokens, grid, self._at(queries, tokens, grid))

    def _at(self, queries: tuple[int, int], tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor | None:
        if self.at_queries is None:
            return None
        cells = self.at_queries(tokens)
        if grid == queries:
            return cells
        maps = cells.transpose(1, 2).unflatten(2, grid).float()
        maps = F.interpolate(maps, size=queries, mode="bilinear", align_corners=False)
        return maps.flatten(2).transpose(1, 2).to(cells.dtype)

    def _check(self, features: torch.Tensor) -> None:
        if features.shape[-1] != self.feature_dim:
            raise ValueError(
                f"the source image features have {features.shape[-1]} channels, this checkpoint reads "
                f"{self.feature_dim}; load the vision encoder that it was trained with"
            )


class PixelEncoder(SourceEncoder):
    """The image's own patches, `source_patches`: a token is told from others by its place, its light and what is around
    it, and knows the depth that `MonocularDepth` reads there; the norm of a lone patch would take most of this away."""

    def __init__(
        self,
        patch_px: int,
        hidden_size: int,
        at_queries: bool,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(source_patch_dim(patch_px), hidden_size, at_queries, operations, dtype, device)
        self.patch_px = patch_px
        self.monocular_depth = MonocularDepth(patch_px, self.feature_dim, STATE_CHANNELS, operations, dtype, device)
        seen = self.feature_dim + STATE_CHANNELS * patch_px**2
        self.project_seen = operations.Linear(seen, hidden_size, dtype=dtype, device=device)

    def forward(self, features: torch.Tensor, grid: tuple[int, int], queries: tuple[int, int]) -> EncodedSource:
        """features: (B, N, 3 patch_px^2) of `source_patches`, with their grid."""
        self._check(features)
        read = self.monocular_depth(F.pixel_shuffle(features.transpose(1, 2).unflatten(2, grid), self.patch_px))
        depth = F.pixel_unshuffle(read.state, self.patch_px)
        seen = torch.cat([features, depth.flatten(2).transpose(1, 2)], dim=2)
        tokens = self.project(self.norm(read.cells.flatten(2).transpose(1, 2))) + self.project_seen(seen)
        pixels = torch.cat([F.relu(read.pixels), read.state], dim=1)
        return EncodedSource(tokens, grid, self._at(queries, tokens, grid), pixels)


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
