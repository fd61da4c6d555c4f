"""Small things of a house, in metres."""

from __future__ import annotations

from .primitive import Group, box, cone, cylinder, ellipsoid, mirrored, ring, rod, turned


def bottle() -> Group:
    return (
        *cylinder((-0.038, 0.038), (0.0, 0.19), (-0.038, 0.038)),
        *ellipsoid((-0.038, 0.038), (0.15, 0.23), (-0.038, 0.038)),
        *cylinder((-0.014, 0.014), (0.21, 0.30), (-0.014, 0.014)),
    )


def cup() -> Group:
    """A mug with its handle to the right. It is drawn as if it were full."""
    return (
        *cylinder((-0.041, 0.041), (0.0, 0.095), (-0.041, 0.041)),
        *box((0.036, 0.072), (0.072, 0.082), (-0.006, 0.006)),
        *box((0.036, 0.072), (0.020, 0.030), (-0.006, 0.006)),
        *box((0.062, 0.072), (0.020, 0.082), (-0.006, 0.006)),
    )


def wine_glass() -> Group:
    return (
        *cylinder((-0.035, 0.035), (0.0, 0.004), (-0.035, 0.035)),
        *cylinder((-0.005, 0.005), (0.0, 0.11), (-0.005, 0.005)),
        *ellipsoid((-0.042, 0.042), (0.09, 0.19), (-0.042, 0.042)),
        *cylinder((-0.038, 0.038), (0.14, 0.21), (-0.038, 0.038)),
    )


def plate() -> Group:
    return (
        *cylinder((-0.09, 0.09), (0.0, 0.012), (-0.09, 0.09)),
        *cylinder((-0.135, 0.135), (0.012, 0.024), (-0.135, 0.135)),
    )


def bowl() -> Group:
    """Wider at the top. It is drawn as if it were full."""
    return (
        *cylinder((-0.045, 0.045), (0.0, 0.015), (-0.045, 0.045)),
        *cylinder((-0.070, 0.070), (0.010, 0.035), (-0.070, 0.070)),
        *cylinder((-0.080, 0.080), (0.030, 0.075), (-0.080, 0.080)),
    )


def vase() -> Group:
    return (
        *cylinder((-0.05, 0.05), (0.0, 0.02), (-0.05, 0.05)),
        *ellipsoid((-0.09, 0.09), (0.0, 0.22), (-0.09, 0.09)),
        *cylinder((-0.035, 0.035), (0.18, 0.29), (-0.035, 0.035)),
        *cylinder((-0.05, 0.05), (0.28, 0.30), (-0.05, 0.05)),
    )


def laptop() -> Group:
    """Open; the screen looks to the front."""
    screen = turned(box((-0.16, 0.16), (0.018, 0.232), (-0.118, -0.110)), "x", -15.0, (0.0, 0.018, -0.11))
    return (*box((-0.16, 0.16), (0.0, 0.018), (-0.11, 0.11)), *screen)


def television() -> Group:
    return (
        *box((-0.615, 0.615), (0.08, 0.78), (-0.03, 0.03)),
        *mirrored(box((0.38, 0.42), (0.0, 0.10), (-0.02, 0.02))),
        *mirrored(box((0.37, 0.43), (0.0, 0.015), (-0.13, 0.13))),
    )


def monitor() -> Group:
    return (
        *box((-0.305, 0.305), (0.12, 0.48), (-0.02, 0.03)),
        *box((-0.03, 0.03), (0.01, 0.30), (-0.06, -0.02)),
        *box((-0.13, 0.13), (0.0, 0.015), (-0.12, 0.08)),
    )


def book() -> Group:
    """Lying, its cover up and its back to the left."""
    return (
        *box((-0.078, 0.078), (0.0, 0.003), (-0.117, 0.117)),
        *box((-0.076, 0.074), (0.003, 0.022), (-0.113, 0.113)),
        *box((-0.078, 0.078), (0.022, 0.025), (-0.117, 0.117)),
        *box((-0.080, -0.076), (0.0, 0.025), (-0.117, 0.117)),
    )


def umbrella() -> Group:
    """Open and upright, as over a table or in a hand."""
    return (
        *cylinder((-0.02, 0.02), (0.0, 2.20), (-0.02, 0.02)),
        *cone((-1.20, 1.20), (1.85, 2.45), (-1.20, 1.20)),
    )


def guitar() -> Group:
    """Upright, strings to the front."""
    return (
        *ellipsoid((-0.19, 0.19), (0.0, 0.34), (-0.05, 0.05)),
        *ellipsoid((-0.14, 0.14), (0.24, 0.49), (-0.05, 0.05)),
        *box((-0.028, 0.028), (0.42, 0.86), (0.025, 0.05)),
        *box((-0.037, 0.037), (0.84, 1.02), (0.015, 0.04)),
    )


def bag() -> Group:
    """A hand or travel bag with one handle."""
    return (
        *box((-0.25, 0.25), (0.0, 0.26), (-0.12, 0.12)),
        *cylinder((-0.25, 0.25), (0.16, 0.34), (-0.12, 0.12), axis="x"),
        *mirrored(rod((0.11, 0.30, 0.0), (0.09, 0.47, 0.0), 0.02)),
        *box((-0.10, 0.10), (0.46, 0.48), (-0.01, 0.01)),
    )


def fan() -> Group:
    """A standing fan that blows to the front."""
    return (
        *cylinder((-0.20, 0.20), (0.0, 0.03), (-0.20, 0.20)),
        *cylinder((-0.015, 0.015), (0.03, 1.05), (-0.015, 0.015)),
        *cylinder((-0.22, 0.22), (0.83, 1.27), (0.02, 0.12), axis="z"),
        *ellipsoid((-0.07, 0.07), (0.97, 1.13), (-0.14, 0.04)),
    )


def chandelier() -> Group:
    return (
        *cylinder((-0.015, 0.015), (0.20, 0.80), (-0.015, 0.015)),
        *ellipsoid((-0.10, 0.10), (0.06, 0.30), (-0.10, 0.10)),
        *ring(rod((0.0, 0.12, 0.05), (0.0, 0.16, 0.36), 0.025), 6),
        *ring(cylinder((-0.04, 0.04), (0.16, 0.30), (0.32, 0.40)), 6),
        *ellipsoid((-0.04, 0.04), (0.0, 0.10), (-0.04, 0.04)),
    )


SHAPES = {
    "bottle": bottle,
    "cup": cup,
    "wine glass": wine_glass,
    "plate": plate,
    "bowl": bowl,
    "vase": vase,
    "laptop": laptop,
    "television": television,
    "monitor": monitor,
    "book": book,
    "umbrella": umbrella,
    "guitar": guitar,
    "bag": bag,
    "fan": fan,
    "chandelier": chandelier,
}
