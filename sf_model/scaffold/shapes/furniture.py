"""Furniture, in metres."""

from __future__ import annotations

from .primitive import Group, beam, box, cone, cylinder, ellipsoid, mirrored, ring, rod


def _legs(side: float, front: float, back: float, top: float, thickness: float) -> Group:
    """Four square legs. side, front, back: their outer faces."""
    return (
        *mirrored(box((side - thickness, side), (0.0, top), (front - thickness, front))),
        *mirrored(box((side - thickness, side), (0.0, top), (back, back + thickness))),
    )


def table() -> Group:
    return (
        *box((-0.80, 0.80), (0.71, 0.75), (-0.45, 0.45)),
        *box((-0.72, 0.72), (0.62, 0.71), (-0.38, 0.38)),
        *_legs(0.76, 0.41, -0.41, 0.71, 0.07),
    )


def round_table() -> Group:
    return (
        *cylinder((-0.55, 0.55), (0.71, 0.75), (-0.55, 0.55)),
        *cylinder((-0.06, 0.06), (0.04, 0.71), (-0.06, 0.06)),
        *cylinder((-0.30, 0.30), (0.0, 0.04), (-0.30, 0.30)),
    )


def desk() -> Group:
    """Drawers on the right; the knees go under it from the front."""
    return (
        *box((-0.70, 0.70), (0.70, 0.74), (-0.35, 0.35)),
        *box((0.26, 0.66), (0.04, 0.70), (-0.31, 0.31)),
        *box((-0.68, -0.64), (0.0, 0.70), (-0.31, 0.31)),
        *box((-0.66, 0.66), (0.30, 0.70), (-0.33, -0.30)),
        *box((0.28, 0.64), (0.0, 0.05), (-0.28, 0.28)),
    )


def bed() -> Group:
    """The head end is at the back."""
    return (
        *box((-0.82, 0.82), (0.08, 0.30), (-1.02, 1.02)),
        *box((-0.80, 0.80), (0.30, 0.54), (-0.98, 1.00)),
        *box((-0.82, 0.82), (0.0, 1.00), (-1.08, -1.01)),
        *mirrored(ellipsoid((0.08, 0.74), (0.46, 0.70), (-0.98, -0.55))),
        *mirrored(box((0.70, 0.80), (0.0, 0.10), (0.85, 0.98))),
    )


def shelf() -> Group:
    """An open bookcase with five boards."""
    boards = (box((-0.40, 0.40), (y, y + 0.03), (-0.15, 0.15)) for y in (0.05, 0.47, 0.89, 1.31, 1.77))
    return (
        *mirrored(box((0.37, 0.40), (0.0, 1.80), (-0.15, 0.15))),
        *box((-0.40, 0.40), (0.0, 1.80), (-0.15, -0.14)),
        *sum(boards, ()),
    )


def floor_lamp() -> Group:
    return (
        *cylinder((-0.14, 0.14), (0.0, 0.03), (-0.14, 0.14)),
        *cylinder((-0.015, 0.015), (0.03, 1.40), (-0.015, 0.015)),
        *cylinder((-0.17, 0.17), (1.28, 1.60), (-0.17, 0.17)),
    )


def table_lamp() -> Group:
    return (
        *cylinder((-0.08, 0.08), (0.0, 0.02), (-0.08, 0.08)),
        *ellipsoid((-0.06, 0.06), (0.01, 0.22), (-0.06, 0.06)),
        *cylinder((-0.012, 0.012), (0.18, 0.34), (-0.012, 0.012)),
        *cylinder((-0.15, 0.15), (0.28, 0.48), (-0.15, 0.15)),
    )


def ceiling_lamp() -> Group:
    """A pendant. The top of its cable is the object's top."""
    return (
        *cylinder((-0.01, 0.01), (0.18, 0.90), (-0.01, 0.01)),
        *cone((-0.22, 0.22), (0.03, 0.27), (-0.22, 0.22)),
        *ellipsoid((-0.07, 0.07), (0.0, 0.12), (-0.07, 0.07)),
    )


def stool() -> Group:
    legs = ring(rod((0.10, 0.44, 0.10), (0.16, 0.0, 0.16), 0.035), 4)
    return (*cylinder((-0.18, 0.18), (0.43, 0.47), (-0.18, 0.18)), *legs)


def bench() -> Group:
    """A park bench with a back."""
    return (
        *box((-0.80, 0.80), (0.42, 0.46), (-0.20, 0.25)),
        *beam((0.0, 0.50, -0.20), (0.0, 0.86, -0.28), 1.60, 0.03),
        *mirrored(box((0.66, 0.74), (0.0, 0.42), (0.14, 0.22))),
        *mirrored(beam((0.70, 0.0, -0.24), (0.70, 0.84, -0.27), 0.08, 0.06)),
        *mirrored(box((0.67, 0.73), (0.60, 0.64), (-0.24, 0.25))),
        *mirrored(box((0.67, 0.73), (0.42, 0.62), (0.19, 0.25))),
    )


def office_chair() -> Group:
    return (
        *ring(beam((0.0, 0.06, 0.0), (0.0, 0.05, 0.31), 0.05, 0.04), 5),
        *cylinder((-0.03, 0.03), (0.05, 0.44), (-0.03, 0.03)),
        *box((-0.24, 0.24), (0.43, 0.51), (-0.24, 0.24)),
        *box((-0.22, 0.22), (0.60, 1.10), (-0.28, -0.21)),
        *box((-0.04, 0.04), (0.46, 0.70), (-0.28, -0.23)),
        *mirrored(box((0.25, 0.31), (0.66, 0.69), (-0.16, 0.14))),
        *mirrored(box((0.26, 0.30), (0.46, 0.67), (-0.03, 0.03))),
        *ring(cylinder((-0.03, 0.03), (0.0, 0.06), (0.28, 0.34)), 5),
    )


SHAPES = {
    "table": table,
    "round table": round_table,
    "desk": desk,
    "bed": bed,
    "shelf": shelf,
    "floor lamp": floor_lamp,
    "table lamp": table_lamp,
    "ceiling lamp": ceiling_lamp,
    "stool": stool,
    "bench": bench,
    "office chair": office_chair,
}
