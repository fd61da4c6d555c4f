"""Source image features -> tokens that the spatial transformer attends to when editing.

The features are DINOv2's patch tokens; a small base reads the image's own pixels instead (`pixel_encoder`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from .expert_inputs import SourceFeatures
from .initialisation import start_from_zero


@dataclass(frozen=True)
class EncodedSource:
    """A source image as the spatial transformer and the head read it."""

    # (B, N, D).
    tokens: torch.Tensor
    # Rows and columns of the tokens.
    grid: tuple[int, int]
    # (B, rows * columns of the queries, D), added to the queries. None: the checkpoint has no such layer.
    at_queries: torch.Tensor | None
    # (B, pixel_encoder.SOURCE_CHANNELS, H, W). None: the encoder does not see the image itself.
    pixels: torch.Tensor | None = None

    def doubled(self) -> EncodedSource:
        """The batch, followed by itself."""

        def doubled(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else torch.cat([value, value])

        return EncodedSource(torch.cat([self.tokens] * 2), self.grid, doubled(self.at_queries), doubled(self.pixels))


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

    def forward(self, source: SourceFeatures, queries: tuple[int, int]) -> EncodedSource:
        """queries: rows and columns of the query grid. ValueError for features of another encoder."""
        self._check(source.tokens)
        tokens = self.project(self.norm(source.tokens))
        return EncodedSource(tokens, source.grid, self._at(queries, tokens, source.grid))

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
                "load the vision encoder that the checkpoint was trained with: the source image's features have "
                f"{features.shape[-1]} channels, the checkpoint reads {self.feature_dim}"
            )
