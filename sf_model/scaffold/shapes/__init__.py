"""Named shapes: silhouettes of primitives that a user, a language model or a browser chooses by name.

Every shape is plain data: primitives in a box that is 1 wide (x, to the object's right, in [-0.5, 0.5]), 1 high (y,
up, in [0, 1]) and 1 long (z, to its front, in [-0.5, 0.5]). They touch all six sides of it. So an object's size is the
exact bounding box of its shape.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...rendering.category_parts import CATEGORY_PARTS
from ...rendering.parts import Part
from . import furniture, living, outdoors, things, vehicles
from .primitive import Group, Primitive, box, cone, cylinder, ellipsoid, extent, in_unit_box, wedge

FORMAT_VERSION = 1

# (width, height, length) in metres: the middle of the sizes that the world draws.
_CATEGORY_SIZES = {
    "car": (1.80, 1.50, 4.20),
    "bus": (2.50, 3.00, 8.50),
    "chair": (0.55, 1.00, 0.55),
    "sofa": (1.95, 0.90, 0.90),
    "house": (7.50, 5.50, 7.50),
    "person": (0.58, 1.75, 0.50),
    "dog": (0.33, 0.65, 0.90),
    "robot": (0.75, 1.30, 0.65),
    "cabinet": (1.05, 1.50, 0.50),
    "mailbox": (0.34, 1.15, 0.58),
}
_UNIT = ((-0.5, 0.5), (0.0, 1.0), (-0.5, 0.5))
_SOLIDS = {"box": box, "sphere": ellipsoid, "cylinder": cylinder, "cone": cone, "wedge": wedge}


@dataclass(frozen=True)
class NamedShape:
    """A shape."""

    name: str
    # (width, height, length) in metres, as it was drawn.
    size_m: tuple[float, float, float]
    # In the box of 1 x 1 x 1.
    primitives: tuple[Primitive, ...]


def _from_parts(parts: Sequence[Part]) -> Group:
    """The primitives of a category's parts, whose axes are (front, up, right)."""
    group = []
    for part in parts:
        low, high = np.array([part.a, part.b, part.c]).T
        matrix = np.zeros((3, 3))
        for canonical, axis in enumerate(part.order):
            matrix[2 - axis, canonical] = (high - low)[axis]
        group.append(Primitive.of(part.shape, matrix, ((low + high) / 2)[::-1]))
    return tuple(group)


def _drawn(name: str, group: Group) -> NamedShape:
    low, high = extent(group)
    return NamedShape(name, tuple(float(f"{side:.3g}") for side in high - low), in_unit_box(group))


@functools.cache
def named_shapes() -> dict[str, NamedShape]:
    """All shapes by name. They are made at the first call, so that ComfyUI starts faster. Do not change the dict."""
    solids = [NamedShape(name, (1.0, 1.0, 1.0), make(*_UNIT)) for name, make in _SOLIDS.items()]
    categories = [NamedShape(name, _CATEGORY_SIZES[name], _from_parts(parts)) for name, parts in CATEGORY_PARTS.items()]
    drawn = [
        _drawn(name, make())
        for module in (living, vehicles, furniture, things, outdoors)
        for name, make in module.SHAPES.items()
    ]
    return {shape.name: shape for shape in (*solids, *categories, *drawn)}


def shapes_as_json() -> dict[str, Any]:
    """All shapes as values that `json.dumps` takes, for a program in another language.

    {"version": 1, "shapes": {name: {"size_m": [width, height, length], "primitives": [{"solid": "box",
    "matrix": 3 rows of 3, "centre": 3 numbers}, ...]}}}. A primitive's points are matrix @ q + centre, for the points q
    of the canonical solid in the cube [-0.5, 0.5]^3: box, ellipsoid; cylinder along y; cone with its apex at y = 0.5;
    prism with its ridge along x at y = 0.5. The determinant of a matrix may be negative. In an object with the size
    (w, h, l) a point (x, y, z) is x * w metres to its right, y * h above its foot and z * l to its front.
    """

    def as_dict(part: Primitive) -> dict[str, Any]:
        return {"solid": part.solid, "matrix": [list(row) for row in part.matrix], "centre": list(part.centre)}

    shapes = {
        name: {"size_m": list(shape.size_m), "primitives": [as_dict(part) for part in shape.primitives]}
        for name, shape in named_shapes().items()
    }
    return {"version": FORMAT_VERSION, "shapes": shapes}
