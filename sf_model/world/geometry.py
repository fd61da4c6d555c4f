"""Spatial relations of scenes in metres and degrees: the exact meaning of every word that a caption uses.

Compare angles with `angle_between_deg`. Distances are horizontal, to the nearest point of a footprint.
"""

import math

from ..rendering.frame import heading_vector, right_vector
from .scene import SceneObject, footprint_corners

ALLOCENTRIC_TURN_DEG: dict[str, float] = {"front": 0.0, "left": 90.0, "back": 180.0, "right": 270.0}
"""Direction to something on this side of an object, relative to the object's heading."""

VIEW_HEADING_DEG: dict[str, float] = {"front": 0.0, "right": 90.0, "back": 180.0, "left": 270.0}
"""`view_heading_deg` of an object that shows this side to the camera. Its front then points to the camera ("front"), to
image right ("right"), away or to image left."""


def angle_between_deg(first: float, second: float) -> float:
    """Unsigned angle between two headings, in [0, 180]."""
    return abs((first - second + 180.0) % 360.0 - 180.0)


def bearing_deg(obj: SceneObject) -> float:
    """Angle from the camera to the footprint's centre: 0 straight ahead, positive to the right."""
    return math.degrees(math.atan2(obj.position_m[0], obj.position_m[1]))


def view_heading_deg(obj: SceneObject) -> float:
    """Heading relative to the viewing ray, in [0, 360): 0 to the camera, 90 right, 180 away, 270 left."""
    return (obj.heading_deg + bearing_deg(obj)) % 360.0


def direction_deg(start: SceneObject, end: SceneObject) -> float:
    """Heading of the vector between two footprint centres."""
    dx, dz = end.position_m[0] - start.position_m[0], end.position_m[1] - start.position_m[1]
    return math.degrees(math.atan2(dx, -dz)) % 360.0


def allocentric_deg(reference: SceneObject, other: SceneObject) -> float:
    """Direction to `other` as `reference` sees it: 0 ahead, 90 to its left, 180 behind, 270 to its right."""
    return (direction_deg(reference, other) - reference.heading_deg) % 360.0


def point_distance_m(obj: SceneObject, x: float, z: float) -> float:
    """Horizontal distance from a point to the footprint rectangle; 0 inside."""
    front, right = heading_vector(obj.heading_deg), right_vector(obj.heading_deg)
    dx, dz = x - obj.position_m[0], z - obj.position_m[1]
    along = max(0.0, abs(dx * front[0] + dz * front[1]) - obj.size_m[0] / 2)
    across = max(0.0, abs(dx * right[0] + dz * right[1]) - obj.size_m[1] / 2)
    return math.hypot(along, across)


def camera_distance_m(obj: SceneObject) -> float:
    """Horizontal distance from the camera to the nearest point of the footprint."""
    return point_distance_m(obj, 0.0, 0.0)


def gap_m(first: SceneObject, second: SceneObject) -> float:
    """Smallest distance between two disjoint footprints."""
    # One of the two nearest points is always a corner.
    ours = (point_distance_m(second, *corner) for corner in footprint_corners(first))
    theirs = (point_distance_m(first, *corner) for corner in footprint_corners(second))
    return min(*ours, *theirs)


def image_slope(obj: SceneObject) -> float:
    """x / z of the footprint's centre. It grows from image left to image right."""
    return obj.position_m[0] / obj.position_m[1]


def volume_m3(obj: SceneObject) -> float:
    """Volume of the bounding box."""
    return obj.size_m[0] * obj.size_m[1] * obj.size_m[2]
