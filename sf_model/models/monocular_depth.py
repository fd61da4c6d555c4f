"""The depth that a picture shows, and what stands where: what the source encoder of the Mini learns before any edit.

An edit keeps most of its source's depth, and to read it from pixels takes a network far more pictures than there is
time for in the spatial transformer's own training. So this one learns it alone, from renders and their depth, at
several times the speed. Convolutions halve the map until a patch is one cell, and twice more for what only the whole
picture tells: the horizon, and how high the camera stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from .depth_head import ResidualConvUnit
from .initialisation import keep_variance, start_from_zero

# Channels of the finest map; each halving of the size doubles them.
PIXEL_CHANNELS = 32
# Of the two coarsest maps.
CONTEXT_CHANNELS = 256


@dataclass(frozen=True)
class ReadDepth:
    """state (B, state channels, H, W) as of `depth_flow`; pixels (B, PIXEL_CHANNELS, H, W) before any ReLU; cells (B,
    cell channels, H / patch_px, W / patch_px) before any ReLU, of which, after it, the state is a linear map; the first
    channels are logits of what stands there (`training.stages.LABEL_CHANNELS`)."""

    state: torch.Tensor
    pixels: torch.Tensor
    cells: torch.Tensor


class MonocularDepth(nn.Module):
    """Images (B, 3, H, W) in [-1, 1], sides multiples of patch_px, a power of two."""

    def __init__(
        self,
        patch_px: int,
        cell_channels: int,
        state_channels: int,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.patch_px = patch_px
        halvings = patch_px.bit_length() - 1
        widths = [PIXEL_CHANNELS * 2**level for level in range(halvings)] + [cell_channels]
        self.pixels = operations.Conv2d(3, PIXEL_CHANNELS, 3, padding=1, **factory)
        self.halvings = nn.ModuleList(
            operations.Conv2d(wide, wider, 3, stride=2, padding=1, **factory) for wide, wider in zip(widths, widths[1:])
        )
        self.context = operations.Conv2d(cell_channels, CONTEXT_CHANNELS, 3, stride=2, padding=1, **factory)
        self.wide_context = operations.Conv2d(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3, stride=2, padding=1, **factory)
        self.from_wide = operations.Conv2d(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 1, **factory)
        self.from_context = operations.Conv2d(CONTEXT_CHANNELS, cell_channels, 1, **factory)
        self.unit = ResidualConvUnit(cell_channels, operations, dtype, device)
        self.state_out = operations.Conv2d(cell_channels, state_channels * patch_px**2, 1, **factory)
        keep_variance(self.pixels, *self.halvings, self.context, self.wide_context, self.unit.conv1)
        start_from_zero(self.state_out)

    def forward(self, image: torch.Tensor) -> ReadDepth:
        pixels = cells = self.pixels(image)
        for layer in self.halvings:
            cells = layer(F.relu(cells))
        context = self.context(F.relu(cells))
        wide = self.wide_context(F.relu(context))
        wide = self.from_wide(F.relu(wide + wide.mean(dim=(2, 3), keepdim=True)))
        context = self.from_context(F.relu(context + F.interpolate(wide, size=context.shape[-2:])))
        cells = self.unit(cells + F.interpolate(context, size=cells.shape[-2:]))
        return ReadDepth(F.pixel_shuffle(self.state_out(F.relu(cells)), self.patch_px), pixels, cells)
