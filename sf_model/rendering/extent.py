"""How far the canonical solids of `intersect` reach in a direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _prism(d: Array) -> Array:
    ridge = 0.5 * d[..., 1]
    foot = 0.5 * abs(d[..., 2]) - 0.5 * d[..., 1]
    return 0.5 * abs(d[..., 0]) + np.maximum(ridge, foot)


def _cone(d: Array) -> Array:
    return np.maximum(0.5 * d[..., 1], 0.5 * np.hypot(d[..., 0], d[..., 2]) - 0.5 * d[..., 1])


REACH: dict[str, Callable[[Array], Array]] = {
    "box": lambda d: 0.5 * abs(d).sum(axis=-1),
    "cylinder": lambda d: 0.5 * (np.hypot(d[..., 0], d[..., 2]) + abs(d[..., 1])),
    "ellipsoid": lambda d: 0.5 * np.linalg.norm(d, axis=-1),
    "cone": _cone,
    "prism": _prism,
}
"""The largest d . q over the points q of the solid, for directions d (..., 3): the solid's support function."""


def bounds(solid: str, matrix: Array, centre: Array) -> tuple[Array, Array]:
    """Lower and upper corner, both (3,), of the exact bounding box of the points matrix @ q + centre of a solid."""
    return centre - REACH[solid](-matrix), centre + REACH[solid](matrix)
