"""Tokens that a tokenizer of captions does not learn by itself: numbers, fixed phrases, and registers.

A number of one token, whose embedding says its value, is bound to its object far sooner than a row of digits is. A
register is a token after the prompt. The language model learns to hold the camera, or one object, at each of them.
"""

from __future__ import annotations

import math

import torch

from ...backbones.mini import CAMERA_REGISTER, object_registers
from ...world.caption_free import OCTANTS
from ...world.layout_text import PHRASES as LAYOUT_PHRASES

WHOLE_NUMBERS = tuple(str(number) for number in range(100))
TENTHS = tuple(f".{number}" for number in range(10))
# Each takes the space before it: "20.6 m to the left" is " 20", ".6" and " m to the left".
CAPTION_PHRASES = (
    *("m away", "m to the right", "m to the left", "straight ahead", *OCTANTS),
    *("degrees field of view", "degrees down", "degrees up", "m high", "m height"),
)
# Enough for the smallest period and the largest one of the values.
_FREQUENCIES = 16
_PROJECTION_SEED = 5
_SCALE = 0.7


def added_tokens(objects: int) -> list[tuple[str, bool, bool]]:
    """(text, whether it takes the space before it, whether it is special) of each token. objects: of a layout."""
    return [
        *((text, True, False) for text in (*WHOLE_NUMBERS, *CAPTION_PHRASES)),
        *((text, False, False) for text in (*TENTHS, *LAYOUT_PHRASES)),
        *((text, False, True) for text in (CAMERA_REGISTER, *object_registers(objects))),
    ]


@torch.no_grad()
def start_from_values(embedding: torch.Tensor, vocabulary: dict[str, int], std: float) -> None:
    """Set the rows of numbers in an embedding (V, D) to sines and cosines of their values, with about this std.

    Whole numbers: of the value and of its logarithm. Tenths: of the value, beside their random start.
    """
    generator = torch.Generator().manual_seed(_PROJECTION_SEED)
    projection = torch.randn(2 * _FREQUENCIES, embedding.shape[1], generator=generator) * std / _FREQUENCIES**0.5

    def code(value: float, shortest: float, growth: float) -> torch.Tensor:
        angle = value * 2 * math.pi / (shortest * growth ** torch.arange(_FREQUENCIES))
        return torch.cat([angle.cos(), angle.sin()]) @ projection

    for number, text in enumerate(WHOLE_NUMBERS):
        both = code(math.log(number + 0.5), 0.6, 1.35) + code(number / 10, 0.4, 1.4)
        embedding[vocabulary[text]] = (_SCALE * both).to(embedding)
    for number, text in enumerate(TENTHS):
        row = embedding[vocabulary[text]]
        row.mul_(_SCALE).add_(code(number / 10, 0.3, 1.3).to(row))
