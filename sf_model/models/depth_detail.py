"""Skip connections from the noisy depth to the depth head, past the queries.

A query is one vector for a patch of 8 x 8 pixels: it carries positions, not outlines. From the middle of the flow on,
the noisy depth shows the outlines. As in a U-Net (arXiv 1505.04597), the head reads it again: at half, at a quarter and
at full resolution. An edit keeps most outlines of its source image, so checkpoints that read the source's pixels add
them here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from .initialisation import keep_variance, start_from_zero
from .layers import ResidualConvUnit


@dataclass(frozen=True)
class DetailSkips:
    """A noisy depth (and a source's pixels) as maps; C: the detail's channels, F: the head's fusion channels."""

    # (B, C, 8 rows, 8 columns): read by `DepthDetail.refine`.
    full: torch.Tensor
    # (B, F, 4 rows, 4 columns) and (B, F, 2 rows, 2 columns): added to the head's two finest maps.
    half: torch.Tensor
    quarter: torch.Tensor
    # (B, 1, 1, 1): 0 for samples without a noisy depth, else 1. None: all have one.
    share: torch.Tensor | None


class DepthDetail(nn.Module):
    """Computes `DetailSkips`. Before training everything that it adds is zero."""

    def __init__(
        self,
        channels: int,
        state_channels: int,
        fusion_channels: int,
        source_channels: int | None = None,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        # One more channel for the time, which says how noisy the state is.
        self.in_conv = operations.Conv2d(state_channels + 1, channels, 3, padding=1, **factory)
        self.down_half = operations.Conv2d(channels, channels, 3, stride=2, padding=1, **factory)
        self.down_quarter = operations.Conv2d(channels, channels, 3, stride=2, padding=1, **factory)
        self.out_half = operations.Conv2d(channels, fusion_channels, 1, **factory)
        self.out_quarter = operations.Conv2d(channels, fusion_channels, 1, **factory)
        self.path_in = operations.Conv2d(fusion_channels, channels, 1, **factory)
        self.unit = ResidualConvUnit(channels, operations, dtype, device)
        self.path_out = operations.Conv2d(channels, fusion_channels // 2, 1, **factory)
        self.source_in = None if source_channels is None else operations.Conv2d(source_channels, channels, 1, **factory)
        keep_variance(self.in_conv, self.down_half, self.down_quarter, self.unit.conv1)
        start_from_zero(self.out_half, self.out_quarter, self.path_out)
        if self.source_in is not None:
            start_from_zero(self.source_in)

    def forward(
        self,
        state: torch.Tensor,
        time: torch.Tensor,
        has_noise: torch.Tensor | None,
        dtype: torch.dtype,
        source_pixels: torch.Tensor | None = None,
    ) -> DetailSkips:
        """The skips of a noisy state.

        state: (B, state_channels, 8 rows, 8 columns) at times (B,). has_noise: as in `NoisyDepth`. dtype: computing
        type. source_pixels: `EncodedSource.pixels`, of any height and width.
        """
        share = None if has_noise is None else has_noise.to(dtype).view(-1, 1, 1, 1)
        level = time.to(state).view(-1, 1, 1, 1).expand(-1, 1, *state.shape[-2:])
        full = self.in_conv(torch.cat([state, level], dim=1).to(dtype))
        if source_pixels is not None and self.source_in is not None:
            if source_pixels.shape[-2:] != full.shape[-2:]:
                source_pixels = F.interpolate(source_pixels, full.shape[-2:], mode="bilinear", align_corners=False)
            full = full + self.source_in(source_pixels.to(full.dtype))
        half = self.down_half(F.relu(full))
        quarter = self.down_quarter(F.relu(half))
        out_half, out_quarter = self.out_half(F.relu(half)), self.out_quarter(F.relu(quarter))
        return DetailSkips(full, _scaled(out_half, share), _scaled(out_quarter, share), share)

    def refine(self, path: torch.Tensor, skips: DetailSkips) -> torch.Tensor:
        """(B, F / 2, 8 rows, 8 columns), added before the last convolution. path: (B, F, 8 rows, 8 columns)."""
        refined = self.path_out(F.relu(self.unit(self.path_in(path) + skips.full.to(path.dtype))))
        return _scaled(refined, skips.share)


def _scaled(value: torch.Tensor, share: torch.Tensor | None) -> torch.Tensor:
    return value if share is None else share * value
