"""Source image features (DINOv2's patch tokens) -> tokens that the spatial transformer attends to when editing."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn


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
