"""The shapes in which programs save depth maps, as (batch, height, width)."""

from __future__ import annotations

import numpy as np


def batched(values: np.ndarray, what: str = "its array") -> np.ndarray:
    """(B, H, W) of one map (H, W), or of maps with an axis of one channel before or after them.

    A last axis of 2 to 4 is that of colours or points, and never the width of a map. Equal channels are one map: grey
    pictures are saved so. Raises ValueError for others. Shapes that are none of these are returned as they are.
    """
    if values.ndim >= 3 and values.shape[-1] in (2, 3, 4):
        values = _one_of_equal(values, what)
    elif values.ndim == 4 and 1 in (values.shape[-1], values.shape[1]):
        values = values[..., 0] if values.shape[-1] == 1 else values[:, 0]
    elif values.ndim == 3 and values.shape[0] != 1 and values.shape[-1] == 1:
        values = values[..., 0]
    return values[None] if values.ndim == 2 else values


def _one_of_equal(values: np.ndarray, what: str) -> np.ndarray:
    # The fourth channel of a picture is its alpha.
    first, *others = np.moveaxis(values[..., :3], -1, 0)
    if all(np.array_equal(first, other, equal_nan=values.dtype.kind == "f") for other in others):
        return first
    raise ValueError(
        f"save one number a pixel, (height, width), because {what} {values.shape} has {values.shape[-1]} different "
        "values a pixel, such as colours or points; of points (x, y, z), save the z"
    )
