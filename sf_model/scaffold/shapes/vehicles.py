"""Vehicles, in metres. Their lowest point is that of the wheels, or of the hull of a boat."""

from __future__ import annotations

from .primitive import Group, beam, box, cone, cylinder, ellipsoid, mirrored, rod, wedge


def _wheels(radius: float, width: float, side: float, *axles: float) -> Group:
    """A pair of wheels for each axle. side: the outer face's distance from the middle."""
    pairs = (
        mirrored(cylinder((side - width, side), (0.0, 2 * radius), (z - radius, z + radius), axis="x")) for z in axles
    )
    return sum(pairs, ())


def van() -> Group:
    return (
        *_wheels(0.35, 0.22, 0.98, -1.70, 1.75),
        *box((-1.0, 1.0), (0.30, 2.45), (-2.95, 1.60)),
        *box((-1.0, 1.0), (0.30, 1.25), (1.55, 2.95)),
        *wedge((-0.97, 0.97), (1.20, 2.40), (0.50, 2.65), ridge="x"),
    )


def truck() -> Group:
    """A tractor with a box body; the cab is at the front."""
    return (
        *_wheels(0.50, 0.30, 1.22, -3.20, -2.10, 2.80),
        *box((-0.45, 0.45), (0.60, 1.00), (-4.30, 3.80)),
        *box((-1.25, 1.25), (1.00, 3.60), (-4.40, 1.75)),
        *box((-1.22, 1.22), (0.45, 2.95), (1.95, 4.10)),
        *wedge((-1.10, 1.10), (2.95, 3.45), (1.30, 3.30), ridge="x"),
    )


def bicycle() -> Group:
    wheel = 0.34
    return (
        *cylinder((-0.02, 0.02), (0.0, 2 * wheel), (-0.52 - wheel, -0.52 + wheel), axis="x"),
        *cylinder((-0.02, 0.02), (0.0, 2 * wheel), (0.52 - wheel, 0.52 + wheel), axis="x"),
        *rod((0.0, 0.28, 0.0), (0.0, 0.88, -0.18), 0.035),
        *rod((0.0, 0.28, 0.0), (0.0, 0.72, 0.38), 0.04),
        *rod((0.0, 0.78, -0.15), (0.0, 0.78, 0.38), 0.035),
        *rod((0.0, 0.34, -0.52), (0.0, 0.78, -0.15), 0.025),
        *rod((0.0, 0.34, -0.52), (0.0, 0.28, 0.0), 0.025),
        *rod((0.0, 0.34, 0.52), (0.0, 1.02, 0.34), 0.035),
        *rod((-0.30, 1.02, 0.34), (0.30, 1.02, 0.34), 0.03),
        *box((-0.07, 0.07), (0.88, 0.94), (-0.32, -0.06)),
        *rod((-0.16, 0.28, 0.0), (0.16, 0.28, 0.0), 0.03),
    )


def motorcycle() -> Group:
    return (
        *cylinder((-0.08, 0.08), (0.0, 0.62), (-1.05, -0.43), axis="x"),
        *cylinder((-0.06, 0.06), (0.0, 0.62), (0.43, 1.05), axis="x"),
        *box((-0.17, 0.17), (0.25, 0.62), (-0.42, 0.38)),
        *ellipsoid((-0.18, 0.18), (0.60, 0.92), (-0.20, 0.48)),
        *box((-0.15, 0.15), (0.72, 0.82), (-0.85, -0.10)),
        *mirrored(rod((0.10, 0.31, 0.74), (0.10, 1.00, 0.42), 0.06)),
        *rod((-0.38, 1.05, 0.36), (0.38, 1.05, 0.36), 0.04),
        *ellipsoid((-0.11, 0.11), (0.80, 1.02), (0.46, 0.66)),
        *rod((0.18, 0.28, -0.20), (0.18, 0.34, -0.95), 0.10),
    )


def boat() -> Group:
    """An open motor or rowing boat. Its lowest point is the keel."""
    return (
        *wedge((-0.85, 0.85), (0.0, 0.75), (-2.20, 0.60), ridge="z", tip="-y"),
        *box((-0.85, 0.85), (0.40, 0.80), (-2.20, 0.60)),
        *wedge((-0.85, 0.85), (0.35, 0.85), (0.55, 2.30), ridge="y", tip="+z"),
        *box((-0.72, 0.72), (0.80, 0.90), (-0.90, -0.55)),
        *box((-0.20, 0.20), (0.55, 1.20), (-2.45, -2.15)),
    )


def sailing_boat() -> Group:
    return (
        *wedge((-1.30, 1.30), (0.0, 1.30), (-3.60, 1.30), ridge="z", tip="-y"),
        *box((-1.30, 1.30), (0.70, 1.40), (-3.60, 1.30)),
        *wedge((-1.30, 1.30), (0.60, 1.45), (1.20, 4.20), ridge="y", tip="+z"),
        *box((-0.80, 0.80), (1.40, 1.80), (-1.60, 0.90)),
        *rod((0.0, 1.40, 0.80), (0.0, 11.50, 0.60), 0.16),
        *rod((0.0, 2.40, 0.75), (0.0, 2.40, -3.20), 0.12),
        *wedge((-0.03, 0.03), (2.50, 11.20), (-3.20, 4.60), ridge="x"),
    )


def aeroplane() -> Group:
    """A jet airliner on its wheels."""
    return (
        *cylinder((-1.95, 1.95), (1.70, 5.60), (-12.0, 14.0), axis="z"),
        *ellipsoid((-1.95, 1.95), (1.70, 5.60), (10.0, 18.5)),
        *cone((-1.95, 1.95), (2.00, 5.60), (-18.8, -11.9), tip="-z"),
        *mirrored(beam((1.5, 2.6, 1.0), (17.0, 4.0, -4.8), 3.2, 0.35)),
        *mirrored(beam((0.8, 4.6, -15.5), (6.2, 5.0, -17.8), 1.8, 0.22)),
        *beam((0.0, 5.0, -15.0), (0.0, 11.8, -18.2), 0.3, 2.6),
        *mirrored(cylinder((4.6, 6.8), (0.90, 3.10), (-0.6, 3.2), axis="z")),
        *mirrored(rod((2.9, 0.0, -1.0), (2.9, 2.6, -1.0), 0.9)),
        *rod((0.0, 0.0, 13.0), (0.0, 2.2, 13.0), 0.6),
    )


def train() -> Group:
    """One railway carriage with a sloped end at the front."""
    return (
        *box((-1.45, 1.45), (0.55, 3.60), (-12.5, 10.5)),
        *wedge((-1.45, 1.45), (0.55, 3.40), (10.4, 12.5), ridge="x", tip="+z"),
        *cylinder((-1.45, 1.45), (3.20, 4.00), (-12.4, 10.4), axis="z"),
        *box((-1.20, 1.20), (0.0, 0.80), (-10.2, -7.0)),
        *box((-1.20, 1.20), (0.0, 0.80), (6.6, 9.8)),
    )


SHAPES = {
    "van": van,
    "truck": truck,
    "bicycle": bicycle,
    "motorcycle": motorcycle,
    "boat": boat,
    "sailing boat": sailing_boat,
    "aeroplane": aeroplane,
    "train": train,
}
