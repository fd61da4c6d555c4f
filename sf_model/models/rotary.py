"""Rotary position embedding of the MLLM (rotate-half form, as in Qwen2), extended to 2D positions.

A text token at index p has the position (p, p, p); a query of the spatial transformer at grid cell (row, column) after
S text tokens has (S, S + row, S + column), the convention of Qwen2-VL. The three axes take turns over the frequencies,
as in Qwen3-VL: Qwen2.5-VL's contiguous sections would leave the columns with wavelengths of thousands of cells. For
text, where the three coordinates are equal, both orders are the MLLM's own one-dimensional embedding.
"""

from __future__ import annotations

import torch

NUM_AXES = 3


def rotary_tables(positions: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (B, 1, N, head_dim) float32, for positions (B, N, 3)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    inverse_frequency = 1.0 / (theta**exponents)
    axis = torch.arange(head_dim // 2, device=positions.device) % NUM_AXES
    angles = positions.float()[..., axis] * inverse_frequency
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return angles.cos(), angles.sin()


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x (B, heads, N, head_dim) by tables of `rotary_tables`, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + rotated * sin).to(x.dtype)


def query_positions(text_lengths: torch.Tensor, rows: int, columns: int, reference_grid: int) -> torch.Tensor:
    """(B, rows * columns, 3) positions of the query grid behind texts of `text_lengths` (B,) tokens.

    Grids of another size than the one trained on (`reference_grid` squared cells) are scaled to its area (position
    interpolation), so that the range of positions stays the one seen in training.
    """
    scale = reference_grid / (rows * columns) ** 0.5
    row = (torch.arange(rows, device=text_lengths.device, dtype=torch.float32) + 0.5) * scale
    column = (torch.arange(columns, device=text_lengths.device, dtype=torch.float32) + 0.5) * scale
    grid = torch.stack(torch.meshgrid(row, column, indexing="ij"), dim=-1).reshape(1, -1, 2)
    start = text_lengths.float().view(-1, 1, 1)
    batch = text_lengths.shape[0]
    return torch.cat([start.expand(batch, rows * columns, 1), grid + start], dim=-1)
