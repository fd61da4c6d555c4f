"""Plants, buildings and parts of buildings, in metres. Doors and walls look to the front."""

from __future__ import annotations

from .primitive import Group, beam, box, cone, cylinder, ellipsoid, mirrored, ring, rod, wedge


def tree() -> Group:
    return (
        *cylinder((-0.25, 0.25), (0.0, 3.6), (-0.25, 0.25)),
        *ellipsoid((-2.4, 2.4), (2.4, 6.6), (-2.4, 2.4)),
        *ellipsoid((-3.0, 0.8), (2.8, 5.8), (-1.6, 2.0)),
        *ellipsoid((-0.6, 3.0), (3.0, 6.2), (-2.2, 1.2)),
        *ellipsoid((-1.6, 1.7), (4.6, 8.0), (-1.6, 1.6)),
        *ellipsoid((-1.4, 1.6), (2.9, 6.0), (-3.0, 3.0)),
    )


def conifer() -> Group:
    return (
        *cylinder((-0.2, 0.2), (0.0, 1.5), (-0.2, 0.2)),
        *cone((-2.0, 2.0), (1.0, 5.0), (-2.0, 2.0)),
        *cone((-1.6, 1.6), (3.2, 7.4), (-1.6, 1.6)),
        *cone((-1.1, 1.1), (5.8, 10.0), (-1.1, 1.1)),
    )


def palm() -> Group:
    return (
        *rod((0.0, 0.0, 0.0), (0.25, 6.2, 0.1), 0.32),
        *ring(beam((0.25, 6.2, 0.1), (0.25, 6.7, 1.5), 0.5, 0.06), 8, (0.25, 0.0, 0.1)),
        *ring(beam((0.25, 6.7, 1.45), (0.25, 5.9, 2.7), 0.4, 0.05), 8, (0.25, 0.0, 0.1)),
        *ellipsoid((-0.1, 0.6), (5.9, 6.5), (-0.25, 0.45)),
    )


def bush() -> Group:
    return (
        *ellipsoid((-0.60, 0.60), (0.0, 1.00), (-0.55, 0.55)),
        *ellipsoid((-0.80, 0.10), (0.0, 0.75), (-0.45, 0.40)),
        *ellipsoid((-0.10, 0.80), (0.0, 0.82), (-0.40, 0.50)),
        *ellipsoid((-0.35, 0.40), (0.05, 0.85), (-0.75, 0.75)),
    )


def potted_plant() -> Group:
    return (
        *cylinder((-0.14, 0.14), (0.0, 0.26), (-0.14, 0.14)),
        *cylinder((-0.16, 0.16), (0.26, 0.32), (-0.16, 0.16)),
        *cylinder((-0.02, 0.02), (0.30, 0.60), (-0.02, 0.02)),
        *ellipsoid((-0.26, 0.26), (0.48, 1.00), (-0.26, 0.26)),
        *ellipsoid((-0.32, 0.10), (0.42, 0.78), (-0.20, 0.24)),
        *ellipsoid((-0.08, 0.32), (0.46, 0.84), (-0.24, 0.20)),
    )


def flower() -> Group:
    """One flower on its stem, looking up."""
    return (
        *cylinder((-0.004, 0.004), (0.0, 0.40), (-0.004, 0.004)),
        *ring(ellipsoid((-0.018, 0.018), (0.385, 0.402), (0.012, 0.058)), 7),
        *ellipsoid((-0.02, 0.02), (0.38, 0.42), (-0.02, 0.02)),
        *mirrored(ellipsoid((0.0, 0.08), (0.14, 0.17), (-0.012, 0.012))),
    )


def door() -> Group:
    """A closed door in its frame, with a handle at the front's right."""
    return (
        *box((-0.43, 0.43), (0.0, 2.02), (-0.02, 0.02)),
        *mirrored(box((0.43, 0.50), (0.0, 2.10), (-0.06, 0.06))),
        *box((-0.50, 0.50), (2.02, 2.10), (-0.06, 0.06)),
        *box((0.26, 0.38), (1.03, 1.06), (0.02, 0.06)),
    )


def wall() -> Group:
    return box((-2.0, 2.0), (0.0, 2.5), (-0.1, 0.1))


def wall_with_window() -> Group:
    """One sees through the window, between its bars."""
    return (
        *mirrored(box((0.60, 2.0), (0.0, 2.5), (-0.10, 0.10))),
        *box((-0.62, 0.62), (0.0, 0.90), (-0.10, 0.10)),
        *box((-0.62, 0.62), (2.10, 2.5), (-0.10, 0.10)),
        *box((-0.03, 0.03), (0.88, 2.12), (-0.04, 0.04)),
        *box((-0.62, 0.62), (1.50, 1.55), (-0.04, 0.04)),
        *box((-0.70, 0.70), (0.86, 0.90), (-0.10, 0.16)),
    )


def window() -> Group:
    """A window with its frame, for a wall that is another object."""
    return (
        *mirrored(box((0.53, 0.60), (0.0, 1.20), (-0.05, 0.05))),
        *box((-0.56, 0.56), (0.0, 0.07), (-0.05, 0.05)),
        *box((-0.56, 0.56), (1.13, 1.20), (-0.05, 0.05)),
        *box((-0.03, 0.03), (0.05, 1.15), (-0.03, 0.03)),
        *box((-0.54, 0.54), (0.05, 1.15), (-0.008, 0.008)),
    )


def stairs() -> Group:
    """Ten steps, which rise from the front to the back."""
    steps = (box((-0.50, 0.50), (0.0, 0.18 * (k + 1)), (-1.45, 1.45 - 0.29 * k)) for k in range(10))
    return sum(steps, ())


def fence() -> Group:
    posts = (box((x - 0.05, x + 0.05), (0.0, 1.10), (-0.05, 0.05)) for x in (-1.45, -0.483, 0.483, 1.45))
    slats = (box((x - 0.04, x + 0.04), (0.10, 1.0), (0.05, 0.07)) for x in (-1.2, -0.96, -0.72, -0.24, 0.0, 0.24))
    more = (box((x - 0.04, x + 0.04), (0.10, 1.0), (0.05, 0.07)) for x in (0.72, 0.96, 1.2))
    rails = (box((-1.5, 1.5), (y, y + 0.08), (-0.03, 0.05)) for y in (0.28, 0.78))
    return sum((*posts, *slats, *more, *rails), ())


def street_lamp() -> Group:
    """The lamp hangs over the front."""
    return (
        *cylinder((-0.12, 0.12), (0.0, 0.8), (-0.12, 0.12)),
        *cylinder((-0.06, 0.06), (0.8, 5.8), (-0.06, 0.06)),
        *rod((0.0, 5.75, 0.0), (0.0, 6.0, 1.1), 0.08),
        *box((-0.15, 0.15), (5.90, 6.02), (0.8, 1.5)),
    )


def traffic_light() -> Group:
    lights = (cylinder((-0.10, 0.10), (y, y + 0.20), (0.10, 0.18), axis="z") for y in (2.26, 2.52, 2.78))
    return (
        *cylinder((-0.06, 0.06), (0.0, 2.9), (-0.12, 0.0)),
        *box((-0.16, 0.16), (2.20, 3.04), (-0.10, 0.10)),
        *sum(lights, ()),
    )


def tower() -> Group:
    return (
        *box((-2.6, 2.6), (0.0, 16.0), (-2.6, 2.6)),
        *box((-3.0, 3.0), (15.0, 16.5), (-3.0, 3.0)),
        *cone((-3.0, 3.0), (16.4, 22.0), (-3.0, 3.0)),
    )


def high_rise() -> Group:
    floors = (box((-10.1, 10.1), (4.0 + 7.0 * k, 6.2 + 7.0 * k), (-10.1, 10.1)) for k in range(8))
    return (
        *box((-10.0, 10.0), (0.0, 60.0), (-10.0, 10.0)),
        *box((-4.0, 4.0), (60.0, 63.0), (-4.0, 4.0)),
        *sum(floors, ()),
    )


def column() -> Group:
    return (
        *box((-0.40, 0.40), (0.0, 0.20), (-0.40, 0.40)),
        *cylinder((-0.30, 0.30), (0.20, 3.75), (-0.30, 0.30)),
        *box((-0.42, 0.42), (3.75, 4.0), (-0.42, 0.42)),
    )


def arch() -> Group:
    """A gate that one walks through from the front."""
    return (
        *mirrored(box((1.0, 1.5), (0.0, 2.2), (-0.4, 0.4))),
        *mirrored(beam((1.22, 2.1, 0.0), (0.85, 2.95, 0.0), 0.8, 0.5)),
        *mirrored(beam((0.95, 2.85, 0.0), (0.0, 3.35, 0.0), 0.8, 0.5)),
        *box((-1.5, 1.5), (3.3, 3.7), (-0.4, 0.4)),
        *mirrored(box((1.1, 1.5), (2.0, 3.5), (-0.4, 0.4))),
    )


def tent() -> Group:
    return wedge((-1.05, 1.05), (0.0, 1.20), (-1.10, 1.10), ridge="z")


def mountain() -> Group:
    return (
        *cone((-300.0, 300.0), (0.0, 300.0), (-300.0, 300.0)),
        *cone((-420.0, 80.0), (0.0, 190.0), (-250.0, 250.0)),
        *cone((-60.0, 420.0), (0.0, 220.0), (-260.0, 240.0)),
    )


SHAPES = {
    "tree": tree,
    "conifer": conifer,
    "palm": palm,
    "bush": bush,
    "potted plant": potted_plant,
    "flower": flower,
    "door": door,
    "wall": wall,
    "wall with window": wall_with_window,
    "window": window,
    "stairs": stairs,
    "fence": fence,
    "street lamp": street_lamp,
    "traffic light": traffic_light,
    "tower": tower,
    "high-rise": high_rise,
    "column": column,
    "arch": arch,
    "tent": tent,
    "mountain": mountain,
}
