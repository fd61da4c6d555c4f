"""A layout -> tokens for the spatial transformer: one for the camera and one for each object.

Each object's token stands at the object's place in the picture. Its numbers are those that the picture shows: the
projected box, the depth, the heading relative to the viewing ray. Sines and cosines of them make small differences
count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..config import LayoutConfig
from .layout import CAMERA_NUMBERS, PICTURE_NUMBERS, Layout, picture_numbers

_BANDS = 8
# Of the sinusoids: the first has a period of 8, each next one half of it.
_FIRST_BAND = -2


@dataclass(frozen=True)
class EncodedLayout:
    """A layout as the spatial transformer reads it."""

    # (B, 1 + N, D): the camera, then the objects.
    tokens: torch.Tensor
    # (B, 1 + N, 2): (row, column) as shares of the picture; the camera's is its middle.
    places: torch.Tensor
    # (B, D), added to all queries.
    camera: torch.Tensor

    def doubled(self) -> EncodedLayout:
        """The batch, followed by itself."""
        return EncodedLayout(*(torch.cat([value] * 2) for value in (self.tokens, self.places, self.camera)))


class LayoutEncoder(nn.Module):
    """Projects the numbers of a layout to the spatial transformer's width."""

    def __init__(
        self,
        config: LayoutConfig,
        hidden_size: int,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        features = 2 * _BANDS + 1
        choices = len(config.categories) + len(config.colors)
        self.object_in = operations.Linear(PICTURE_NUMBERS * features + choices, 2 * hidden_size, **factory)
        self.object_out = operations.Linear(2 * hidden_size, hidden_size, **factory)
        self.camera_in = operations.Linear(CAMERA_NUMBERS * features, 2 * hidden_size, **factory)
        self.camera_out = operations.Linear(2 * hidden_size, hidden_size, **factory)
        # For samples without a layout, and for objects that do not exist.
        self.absent = operations.Embedding(2, hidden_size, **factory)

    def forward(
        self, layout: Layout, aspect: float, dtype: torch.dtype, is_known: torch.Tensor | None = None
    ) -> EncodedLayout:
        """aspect: width / height of the picture. is_known: (B,) bool, False for samples without a layout."""
        objects, centres, camera = picture_numbers(layout, aspect)
        numbers, choices = objects[..., :PICTURE_NUMBERS], objects[..., PICTURE_NUMBERS:]
        read = torch.cat([sinusoids(numbers), choices], dim=-1).to(dtype)
        tokens = self.object_out(F.silu(self.object_in(read)))
        view = self.camera_out(F.silu(self.camera_in(sinusoids(camera).to(dtype))))
        unknown, missing = self.absent(torch.arange(2, device=tokens.device)).to(dtype)
        tokens = torch.where((layout.present > 0.5)[..., None], tokens, missing)
        if is_known is not None:
            known = is_known[:, None]
            view = torch.where(known, view, unknown)
            tokens = torch.where(known[..., None], tokens, unknown)
            centres = torch.where(known[..., None], centres, torch.full_like(centres, 0.5))
        places = torch.cat([torch.full_like(centres[:, :1], 0.5), centres], dim=1)
        return EncodedLayout(torch.cat([view[:, None], tokens], dim=1), places, view)


def sinusoids(numbers: torch.Tensor) -> torch.Tensor:
    """(..., n) -> (..., n (2 _BANDS + 1)): the numbers, and their sines and cosines."""
    rates = math.pi * 2.0 ** torch.arange(_FIRST_BAND, _FIRST_BAND + _BANDS, device=numbers.device)
    angles = (numbers[..., None] * rates).flatten(-2)
    return torch.cat([numbers, angles.sin(), angles.cos()], dim=-1)
