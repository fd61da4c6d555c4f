"""Source image features -> tokens that the spatial transformer attends to when editing.

The features are DINOv2's patch tokens; a small base has the image's own patches instead, and its spatial transformer is
their encoder.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F


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

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.shape[-1] != self.feature_dim:
            raise ValueError(
                f"the source image features have {features.shape[-1]} channels, this checkpoint reads "
                f"{self.feature_dim}; load the vision encoder that it was trained with"
            )
        return self.project(self.norm(features))


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
