"""Reads the layout of a source image from the cells of `pixel_encoder.MonocularDepth`: the layout before an edit.

Layers of the spatial transformer without a prompt, over the cells and one token for the camera and for each object. The
objects come from left to right, so that there is one right answer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn

from ..config import LayoutConfig, MLLMConfig
from .layout import state_channels
from .rotary import query_positions, rotary_tables
from .spatial_transformer import SpatialTransformerLayer

NUM_LAYERS = 3
# Cells along the side of a square picture, to which positions are scaled.
_REFERENCE_GRID = 16


class LayoutReader(nn.Module):
    """Cells (B, C, rows, columns) -> the state of a layout (B, 1 + N, D), see `layout.layout_state`."""

    def __init__(
        self,
        config: LayoutConfig,
        mllm: MLLMConfig,
        cell_channels: int,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        width = config.hidden_size
        self.mllm = mllm
        self.norm_in = operations.LayerNorm(cell_channels, **factory)
        self.cell_in = operations.Linear(cell_channels, width, **factory)
        self.slots = operations.Embedding(1 + config.objects, width, **factory)
        self.layers = nn.ModuleList(
            SpatialTransformerLayer(config, mllm, operations, dtype, device) for _ in range(NUM_LAYERS)
        )
        self.norm_out = operations.RMSNorm(width, eps=config.rms_norm_eps, **factory)
        self.state_out = operations.Linear(width, state_channels(len(config.categories), len(config.colors)), **factory)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        batch, _, rows, columns = cells.shape
        slots = self.slots(torch.arange(self.slots.num_embeddings, device=cells.device)).to(cells.dtype)
        x = self.cell_in(self.norm_in(cells.flatten(2).transpose(1, 2)))
        x = torch.cat([slots.expand(batch, -1, -1), x], dim=1)
        start = torch.zeros(batch, device=cells.device)
        positions = query_positions(start, rows, columns, _REFERENCE_GRID)
        positions = torch.cat([positions.new_zeros(batch, len(slots), 3), positions], dim=1)
        rotary = rotary_tables(positions, self.mllm.head_dim, self.mllm.rope_theta)
        nothing = x.new_zeros(batch, self.mllm.num_kv_heads, 0, self.mllm.head_dim)
        for layer in self.layers:
            x = layer(x, (nothing, nothing), rotary, None)
        return self.state_out(self.norm_out(x[:, : len(slots)])).float()
