"""Rotary position embedding of the MLLM (rotate-half form, as in Qwen2), extended to 2D positions.

A text token at index p has the position (p, p, p); a query of the spatial transformer at grid cell (row, column) after
S text tokens has (S, S + row, S + column), the convention of Qwen2-VL.

The base says which axis turns which pair of channels (`Backbone.rope_sections`), since queries must match the keys that
the MLLM made of an image. If the MLLM reads only text, the axes take turns over the frequencies, as in Qwen3-VL. For
text the three coordinates are equal, so every order gives the MLLM's one-dimensional embedding.
"""

from __future__ import annotations

import torch

NUM_AXES = 3


def rotary_axes(head_dim: int, sections: tuple[int, int, int] | None) -> list[int]:
    """The axis (0 time, 1 row, 2 column) that turns each of the head_dim / 2 pairs of channels, fastest first.

    sections: number of consecutive pairs for each axis (Qwen2.5-VL's M-RoPE); None: the axes take turns. ValueError if
    they do not sum to all pairs.
    """
    pairs = head_dim // 2
    if sections is None:
        return [pair % NUM_AXES for pair in range(pairs)]
    if sum(sections) != pairs:
        raise ValueError(f"RoPE sections {sections} do not make the {pairs} pairs of head_dim {head_dim}")
    return [axis for axis, count in enumerate(sections) for _ in range(count)]


def next_position(positions: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """(B,) the position that a token after a prompt has.

    positions: (3, B, S) of the prompt's tokens, as Qwen2-VL counts them: after an image of r x c tokens the text
    continues max(r, c) further. mask: (B, S) bool, True for tokens; None if no prompt is padded.
    """
    if mask is not None:
        positions = positions.masked_fill(~mask, -1)
    return positions.amax(dim=(0, 2)) + 1


def rotary_tables(
    positions: torch.Tensor, head_dim: int, theta: float, sections: tuple[int, int, int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (B, 1, N, head_dim) float32, for positions (B, N, 3); `sections` as in `rotary_axes`."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    inverse_frequency = 1.0 / (theta**exponents)
    angles = positions.float()[..., rotary_axes(head_dim, sections)] * inverse_frequency
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return angles.cos(), angles.sin()


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x (B, heads, N, head_dim) by the tables of `rotary_tables`, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + rotated * sin).to(x.dtype)


def query_positions(start: torch.Tensor, rows: int, columns: int, reference_grid: int) -> torch.Tensor:
    """(B, rows * columns, 3) positions of the query grid after prompts whose next position is `start` (B,).

    Training used `reference_grid` squared cells. Grids of another size are scaled to that area (position
    interpolation), so that positions stay in the range of training.
    """
    scale = reference_grid / (rows * columns) ** 0.5
    row = (torch.arange(rows, device=start.device, dtype=torch.float32) + 0.5) * scale
    column = (torch.arange(columns, device=start.device, dtype=torch.float32) + 0.5) * scale
    grid = torch.stack(torch.meshgrid(row, column, indexing="ij"), dim=-1).reshape(1, -1, 2)
    first = start.float().view(-1, 1, 1)
    return torch.cat([first.expand(-1, rows * columns, 1), grid + first], dim=-1)
