"""All inputs of the spatial transformer and its head.

Shapes: B batch, S prompt tokens, K key/value heads, d the head_dim, F channels of the source image's features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch

from .layout import Layout

KeysValues = Sequence[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class SourceFeatures:
    """Features of the source image of an edit."""

    # (B, N, F), row by row.
    tokens: torch.Tensor
    # Rows and columns of the N tokens.
    grid: tuple[int, int]


@dataclass(frozen=True)
class ExpertInputs:
    """Everything that a depth is predicted from, except the weights."""

    # (K, V) of every MLLM layer, each (B, K, S, d), after RoPE and q/k norms.
    keys_values: KeysValues
    # Size in pixels of the image that the prompt describes.
    height: int
    width: int
    # (B, S) bool, True for tokens of the prompt. None: no prompt is padded.
    prompt_mask: torch.Tensor | None = None
    # (B,) RoPE position that a token after the prompt would have. None: the number of the prompt's tokens.
    next_position: torch.Tensor | None = None
    # The source image of an edit.
    source: SourceFeatures | None = None
    # The scene that the depth is to show. None: the prompt alone says it.
    layout: Layout | None = None
    # (B,) bool, False for samples without a layout. None: all have one.
    has_layout: torch.Tensor | None = None
    # Computing type. None: that of the keys.
    dtype: torch.dtype | None = None
    # Computing type of the head's last layers. None: that of the states, or autocast's. Half precision would turn
    # slopes into steps; float32 does not.
    out_dtype: torch.dtype | None = None
    # Called before every layer of every pass, for progress and cancelling.
    on_layer: Callable[[], None] | None = None

    @property
    def computing_dtype(self) -> torch.dtype:
        """`dtype`, or that of the keys."""
        return self.dtype or self.keys_values[0][0].dtype

    @property
    def query_start(self) -> torch.Tensor:
        """(B,) the RoPE position of the first query."""
        keys = self.keys_values[0][0]
        if self.next_position is not None:
            return self.next_position.to(keys.device)
        if self.prompt_mask is not None:
            return self.prompt_mask.sum(dim=1)
        return torch.full((keys.shape[0],), keys.shape[2], device=keys.device)

    def without_prompt(self, rows: torch.Tensor) -> ExpertInputs:
        """The same, but the samples in `rows` (B,) bool have no prompt, and no image that the MLLM read with it.

        The source's features stay. The queries of these samples begin at position 0.
        """
        keys = self.keys_values[0][0]
        seen = self.prompt_mask
        if seen is None:
            seen = torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool, device=keys.device)
        start = self.query_start
        return replace(
            self,
            prompt_mask=seen & ~rows[:, None],
            next_position=torch.where(rows, torch.zeros_like(start), start),
        )

    def doubled_without_prompt(self, layers: Collection[int]) -> ExpertInputs:
        """The batch, followed by the batch `without_prompt`. Only `layers` of the MLLM's layers may be read then."""
        start = self.query_start
        doubled = replace(
            self,
            keys_values=[
                tuple(torch.cat([x, x]) for x in pair) if layer in layers else pair
                for layer, pair in enumerate(self.keys_values)
            ],
            prompt_mask=None if self.prompt_mask is None else torch.cat([self.prompt_mask] * 2),
            next_position=torch.cat([start, start]),
        )
        if doubled.prompt_mask is None:
            keys = self.keys_values[0][0]
            mask = torch.ones(2 * len(start), keys.shape[2], dtype=torch.bool, device=keys.device)
            doubled = replace(doubled, prompt_mask=mask)
        second = torch.arange(2 * len(start), device=start.device) >= len(start)
        return doubled.without_prompt(second)
