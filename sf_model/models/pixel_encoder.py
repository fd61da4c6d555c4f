"""An encoder that reads the source image itself, for a small base without DINOv2.

An edit keeps most of its source's depth. Learning to see depth in pixels needs far more images than the training of the
spatial transformer has. So `MonocularDepth` is trained earlier and alone, on renders and their depth. Convolutions
halve the map until a patch is one cell. Two more halvings see the whole picture: the horizon and the camera's height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..backbones import get_backbone
from ..config import LayoutConfig, MLLMConfig, SpatialFusionConfig
from .depth_flow import STATE_CHANNELS
from .expert_inputs import SourceFeatures
from .initialisation import keep_variance, start_from_zero
from .layers import ResidualConvUnit
from .layout_reader import LayoutReader
from .source_encoder import EncodedSource, SourceEncoder

# Channels of the finest map; each halving of the size doubles them.
PIXEL_CHANNELS = 32
# Of the two coarsest maps.
CONTEXT_CHANNELS = 256
# Of the map that goes to the head: the finest map and the predicted depth.
SOURCE_CHANNELS = PIXEL_CHANNELS + STATE_CHANNELS


@dataclass(frozen=True)
class ReadDepth:
    """The output of `MonocularDepth`."""

    # (B, STATE_CHANNELS, H, W): the depth, as a state of `depth_flow`.
    state: torch.Tensor
    # (B, PIXEL_CHANNELS, H, W): the finest map, before ReLU.
    pixels: torch.Tensor
    # (B, cell channels, H / patch_px, W / patch_px), before ReLU. The state is linear in it after ReLU. The first
    # channels are trained as logits of the object in the cell.
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


class PixelEncoder(SourceEncoder):
    """Reads the image's own patches. A token holds the features and the depth of `MonocularDepth` at its place.

    LayerNorm over a single patch would remove its brightness, so the patches bypass the norm. For a system with layouts
    it also reads the image's layout.
    """

    def __init__(
        self,
        patch_px: int,
        hidden_size: int,
        at_queries: bool,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        layout: tuple[LayoutConfig, MLLMConfig] | None = None,
    ) -> None:
        super().__init__(source_patch_dim(patch_px), hidden_size, at_queries, operations, dtype, device)
        self.patch_px = patch_px
        self.monocular_depth = MonocularDepth(patch_px, self.feature_dim, STATE_CHANNELS, operations, dtype, device)
        seen = self.feature_dim + STATE_CHANNELS * patch_px**2
        self.project_seen = operations.Linear(seen, hidden_size, dtype=dtype, device=device)
        self.layout_reader: LayoutReader | None = None
        if layout is not None:
            self.layout_reader = LayoutReader(*layout, self.feature_dim, operations, dtype, device)

    def read(self, source: SourceFeatures) -> ReadDepth:
        """What `MonocularDepth` sees in patches that `source_patches` made."""
        return self.monocular_depth(
            F.pixel_shuffle(source.tokens.transpose(1, 2).unflatten(2, source.grid), self.patch_px)
        )

    def read_layout(self, read: ReadDepth) -> torch.Tensor | None:
        """(B, 1 + N, D) the state of the source's layout. None for a system without layouts."""
        return None if self.layout_reader is None else self.layout_reader(read.cells)

    def forward(self, source: SourceFeatures, queries: tuple[int, int]) -> EncodedSource:
        """source: as `source_patches` makes it."""
        features, grid = source.tokens, source.grid
        self._check(features)
        read = self.read(source)
        depth = F.pixel_unshuffle(read.state, self.patch_px)
        seen = torch.cat([features, depth.flatten(2).transpose(1, 2)], dim=2)
        tokens = self.project(self.norm(read.cells.flatten(2).transpose(1, 2))) + self.project_seen(seen)
        pixels = torch.cat([F.relu(read.pixels), read.state], dim=1)
        return EncodedSource(tokens, grid, self._at(queries, tokens, grid), pixels)


def own_patch_px(config: SpatialFusionConfig) -> int | None:
    """The side of a patch, if a checkpoint reads the source's own patches. None if it needs DINOv2."""
    patch_px = get_backbone(config.backbone).source_patch_px
    if patch_px is None or config.spatial_transformer.source_feature_dim != source_patch_dim(patch_px):
        return None
    return patch_px


def source_patches(image: torch.Tensor, patch_px: int, stride: int) -> SourceFeatures:
    """The patches of images (B, 3, H, W) in [0, 1]: (B, N, 3 patch_px^2) in [-1, 1].

    There is one patch for each query of the spatial transformer, which has one for `stride` pixels. The image is
    resized to the patches, by area averaging.
    """
    grid = tuple(max(1, round(side / stride)) for side in image.shape[-2:])
    size = (grid[0] * patch_px, grid[1] * patch_px)
    if image.shape[-2:] != size:
        image = F.interpolate(image, size=size, mode="area")
    patches = F.pixel_unshuffle(image * 2 - 1, patch_px)
    return SourceFeatures(patches.flatten(2).transpose(1, 2), (grid[0], grid[1]))


def source_patch_dim(patch_px: int) -> int:
    """Channels of `source_patches`."""
    return 3 * patch_px**2
