"""Parts of objects: primitives that are inscribed in boxes along the object's own axes.

A part's extents are in units of the object's size: `a` along the front axis in [-0.5, 0.5] (front positive), `b` up in
[0, 1], `c` to the object's right in [-0.5, 0.5].
"""

from __future__ import annotations

from dataclasses import dataclass

Extent = tuple[float, float]

AXIS_ORDER: dict[str, tuple[int, int, int]] = {"a": (1, 0, 2), "b": (0, 1, 2), "c": (0, 2, 1)}
"""For each axis of the canonical solid, the index in (a, b, c) of the object's axis, by `Part.axis`."""
RIDGE_ORDER: dict[str, tuple[int, int, int]] = {"a": (0, 1, 2), "c": (2, 1, 0)}
"""The same for prisms."""


@dataclass(frozen=True)
class Part:
    """One primitive inscribed in the box of three extents."""

    # A solid of `intersect.INTERVALS`.
    shape: str
    # What it is made of: "body", "trim" or a key of the world's `palette.ROLE_COLORS`.
    role: str
    a: Extent
    b: Extent
    c: Extent
    # "a", "b" or "c": the axis of a cylinder, of a cone (apex at the positive end), or of a prism's ridge at the top.
    axis: str = "b"
    # Off for parts whose shadow does not matter.
    casts_shadow: bool = True

    @property
    def order(self) -> tuple[int, int, int]:
        """The index in (a, b, c) of the object's axis, for each axis of the canonical solid."""
        return (RIDGE_ORDER if self.shape == "prism" else AXIS_ORDER)[self.axis]
