"""The noisy depth's way past the queries: to the head's finer maps, at their own resolution.

A query is one vector for a patch of 8 x 8 pixels, and has a scene to compose; what it hands to the head are places and
lumps. Outlines are in the noisy depth already, from the middle of the flow on. As in a U-Net (arXiv 1505.04597), the
head is shown it again: in the maps of a half and of a quarter of its resolution, and beside the last convolutions. An
edit keeps most outlines of its source image, so that the source's pixels, where the checkpoint reads these, go with it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from .depth_head import ResidualConvUnit, ShownDetail
from .initialisation import keep_variance, start_from_zero


class DepthDetail(nn.Module):
    """All that it adds is zero at first: the head as it was without."""

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
        # One more channel for the time: how far the state is to be trusted.
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
        known: torch.Tensor | None,
        dtype: torch.dtype,
        source: torch.Tensor | None = None,
    ) -> ShownDetail:
        """state (B, 2, H, W) at times (B,), `known` (B,) bool as in `NoisyDepth`; dtype: computing type. source: (B,
        source_channels, any height and width), `EncodedSource.pixels`. What it adds is in the head's channels at H x W,
        and at half and a quarter of it."""
        share = 1 if known is None else known.to(dtype).view(-1, 1, 1, 1)
        level = time.to(state).view(-1, 1, 1, 1).expand(-1, 1, *state.shape[-2:])
        full = self.in_conv(torch.cat([state, level], dim=1).to(dtype))
        if source is not None and self.source_in is not None:
            if source.shape[-2:] != full.shape[-2:]:
                source = F.interpolate(source, size=full.shape[-2:], mode="bilinear", align_corners=False)
            full = full + self.source_in(source.to(full.dtype))
        half = self.down_half(F.relu(full))
        quarter = self.down_quarter(F.relu(half))

        def refine(path: torch.Tensor) -> torch.Tensor:
            return share * self.path_out(F.relu(self.unit(self.path_in(path) + full.to(path.dtype))))

        return ShownDetail(share * self.out_half(F.relu(half)), share * self.out_quarter(F.relu(quarter)), refine)
