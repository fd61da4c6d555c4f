"""Objects of a layout seen from above: distances, gaps and overlaps of their rectangles on the ground, in metres."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..rendering.frame import heading_vector, right_vector
from .layout import LayoutObject

Array = NDArray[np.float64]


def centre(thing: LayoutObject) -> Array:
    """(2,): x and z."""
    return np.array([thing.position_m[0], thing.position_m[2]])


def axes(thing: LayoutObject) -> Array:
    """(2, 2): the rows are the right and the front axis in (x, z)."""
    return np.array([right_vector(thing.heading_deg), heading_vector(thing.heading_deg)])


def corners(thing: LayoutObject) -> Array:
    """(4, 2), in order around the rectangle."""
    half = np.array([thing.size_m[0], thing.size_m[2]]) / 2
    return centre(thing) + (np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half) @ axes(thing)


def point_distance_m(thing: LayoutObject, point: Array) -> float:
    """Horizontal distance from a point (x, z) to the rectangle; 0 inside."""
    own = axes(thing) @ (point - centre(thing))
    outside = np.maximum(0.0, abs(own) - np.array([thing.size_m[0], thing.size_m[2]]) / 2)
    return float(np.hypot(*outside))


def camera_distance_m(thing: LayoutObject) -> float:
    """Horizontal distance from the camera to the nearest point of the rectangle."""
    return point_distance_m(thing, np.zeros(2))


def gap_m(first: LayoutObject, second: LayoutObject) -> float:
    """Smallest horizontal distance between two rectangles; 0 where they overlap."""
    if push_apart(first, second) is not None:
        return 0.0
    # One of the two nearest points is a corner.
    ours = (point_distance_m(second, corner) for corner in corners(first))
    theirs = (point_distance_m(first, corner) for corner in corners(second))
    return min(*ours, *theirs)


def push_apart(first: LayoutObject, second: LayoutObject) -> Array | None:
    """The shortest (x, z) shift of `second` after which the rectangles touch. None where they do not overlap."""
    shortest, chosen = math.inf, np.zeros(2)
    for axis in (*axes(first), *axes(second)):
        ours, theirs = corners(first) @ axis, corners(second) @ axis
        forward, back = ours.max() - theirs.min(), theirs.max() - ours.min()
        if min(forward, back) <= 0:
            return None
        if min(forward, back) < shortest:
            shortest = min(forward, back)
            chosen = axis * (forward if forward <= back else -back)
    return chosen


def overlap_in_height_m(first: LayoutObject, second: LayoutObject) -> float:
    """The height that both have in common; 0 or less where one is above the other."""
    low = max(first.position_m[1], second.position_m[1])
    return min(first.position_m[1] + first.size_m[1], second.position_m[1] + second.size_m[1]) - low


def bearing_deg(thing: LayoutObject) -> float:
    """Angle from the camera to the centre: 0 straight ahead, positive to the right."""
    return math.degrees(math.atan2(thing.position_m[0], thing.position_m[2]))


def direction_deg(start: LayoutObject, end: LayoutObject) -> float:
    """Heading from one centre to another."""
    dx, dz = centre(end) - centre(start)
    return math.degrees(math.atan2(dx, -dz)) % 360.0


def turn_deg(first: float, second: float) -> float:
    """Unsigned angle between two headings, in [0, 180]."""
    return abs((first - second + 180.0) % 360.0 - 180.0)
