"""Primitives of shapes, and the functions by which the shapes of this folder are written down.

Axes: x to the object's right, y up, z to its front. The functions take ranges (low, high) in metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...rendering.extent import bounds

Array = NDArray[np.float64]
Range = tuple[float, float]
Point = tuple[float, float, float]
_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Primitive:
    """One canonical solid of `rendering.intersect` under an affine map: its points are matrix @ q + centre."""

    # A key of `rendering.intersect.INTERVALS`. The solid fills the cube [-0.5, 0.5]^3.
    solid: str
    # Three rows.
    matrix: tuple[Point, Point, Point]
    centre: Point

    @classmethod
    def of(cls, solid: str, matrix: Array, centre: Array | Sequence[float]) -> Primitive:
        return cls(solid, tuple(tuple(row) for row in np.asarray(matrix).tolist()), tuple(map(float, centre)))

    def arrays(self) -> tuple[Array, Array]:
        """(3, 3) and (3,) float64."""
        return np.array(self.matrix), np.array(self.centre)

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper corner of the exact bounding box."""
        return bounds(self.solid, *self.arrays())


Group = tuple[Primitive, ...]


def _aligned(solid: str, ranges: Sequence[Range], order: Sequence[int], sign: float = 1.0) -> Group:
    """A solid that fills the ranges. order: the object's axis for each canonical axis. sign: that of canonical y."""
    low, high = np.array(ranges).T
    matrix = np.zeros((3, 3))
    for canonical, axis in enumerate(order):
        matrix[axis, canonical] = (high - low)[axis] * (sign if canonical == 1 else 1.0)
    return (Primitive.of(solid, matrix, (low + high) / 2),)


def box(x: Range, y: Range, z: Range) -> Group:
    return _aligned("box", (x, y, z), (0, 1, 2))


def ellipsoid(x: Range, y: Range, z: Range) -> Group:
    return _aligned("ellipsoid", (x, y, z), (0, 1, 2))


def cylinder(x: Range, y: Range, z: Range, axis: str = "y") -> Group:
    return _aligned("cylinder", (x, y, z), _order(axis))


def cone(x: Range, y: Range, z: Range, tip: str = "+y") -> Group:
    """tip: a sign and an axis, the direction of the apex."""
    return _aligned("cone", (x, y, z), _order(tip[1]), -1.0 if tip[0] == "-" else 1.0)


def wedge(x: Range, y: Range, z: Range, ridge: str = "x", tip: str = "+y") -> Group:
    """A gable. ridge: the axis along the ridge. tip: a sign and another axis, from the flat side to the ridge."""
    along, up = _AXES[ridge], _AXES[tip[1]]
    return _aligned("prism", (x, y, z), (along, up, 3 - along - up), -1.0 if tip[0] == "-" else 1.0)


def _order(axis: str) -> tuple[int, int, int]:
    middle = _AXES[axis]
    first, last = (k for k in range(3) if k != middle)
    return first, middle, last


def rod(start: Point, end: Point, thickness: float) -> Group:
    """A round rod between the centres of its two ends."""
    return _between("cylinder", start, end, thickness, thickness)


def beam(start: Point, end: Point, width: float, thickness: float) -> Group:
    """A square bar between the centres of its two ends. width: across, as level as it can be."""
    return _between("box", start, end, width, thickness)


def _between(solid: str, start: Point, end: Point, width: float, thickness: float) -> Group:
    first, last = np.array(start), np.array(end)
    along = last - first
    side = np.cross(along, [0.0, 1.0, 0.0] if abs(along[1]) < 0.999 * np.linalg.norm(along) else [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    other = np.cross(side, along) / np.linalg.norm(along)
    matrix = np.stack([side * width, along, other * thickness], axis=1)
    return (Primitive.of(solid, matrix, (first + last) / 2),)


def turned(group: Group, axis: str, angle_deg: float, about: Point = (0.0, 0.0, 0.0)) -> Group:
    """The group, turned about a line through `about`. Positive: from the next axis to the one after it (x, y, z, x)."""
    first, second = (_AXES[axis] + 1) % 3, (_AXES[axis] + 2) % 3
    rotation = np.eye(3)
    angle = math.radians(angle_deg)
    rotation[first, first] = rotation[second, second] = math.cos(angle)
    rotation[second, first], rotation[first, second] = math.sin(angle), -math.sin(angle)
    return _mapped(group, rotation, np.array(about) - rotation @ np.array(about))


def moved(group: Group, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Group:
    return _mapped(group, np.eye(3), np.array([x, y, z]))


def mirrored(group: Group) -> Group:
    """The group and its mirror image on the object's other side."""
    return group + _mapped(group, np.diag([-1.0, 1.0, 1.0]), np.zeros(3))


def ring(inner: Group, count: int, about: Point = (0.0, 0.0, 0.0)) -> Group:
    """`count` copies of the group, turned about the upright line through `about`."""
    return sum((turned(inner, "y", 360.0 * k / count, about) for k in range(count)), ())


def _mapped(group: Group, matrix: Array, shift: Array) -> Group:
    arrays = [(part.solid, *part.arrays()) for part in group]
    return tuple(Primitive.of(solid, matrix @ inner, matrix @ centre + shift) for solid, inner, centre in arrays)


def extent(group: Group) -> tuple[Array, Array]:
    """Lower and upper corner of the exact bounding box of all primitives."""
    corners = [part.bounds() for part in group]
    return np.min([low for low, _ in corners], axis=0), np.max([high for _, high in corners], axis=0)


def in_unit_box(group: Group) -> Group:
    """The group, moved and stretched until it exactly fills x and z in [-0.5, 0.5] and y in [0, 1]."""
    low, high = extent(group)
    scale = 1.0 / (high - low)
    foot = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return _mapped(group, np.diag(scale), -scale * foot)
