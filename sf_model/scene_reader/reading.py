"""The scene reader's result for an image, and its conversion to and from scenes of the world.

Camera axes are OpenCV's (x right, y down, z forward). A view heading is relative to the viewing ray, as in
`world.geometry`: 0 faces the camera, 90 points to image right, 180 away, 270 to image left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..world.geometry import bearing_deg, view_heading_deg
from ..world.scene import Camera, SceneObject


@dataclass(frozen=True)
class CameraReading:
    """Pitch (positive downwards) and vertical field of view."""

    pitch_deg: float
    fov_y_deg: float


@dataclass(frozen=True)
class FoundObject:
    """An object that was found in an image."""

    category: str
    color: str
    # Centre of the footprint on the ground, in camera axes.
    position_m: tuple[float, float, float]
    # Length, width, height.
    size_m: tuple[float, float, float]
    view_heading_deg: float
    # In [0, 1]: how certain it is that there is an object.
    confidence: float = 1.0


@dataclass(frozen=True)
class SceneReading:
    """The objects, most certain first, and the camera."""

    objects: tuple[FoundObject, ...]
    camera: CameraReading


def footprint_in_camera(obj: SceneObject, camera: Camera) -> tuple[float, float, float]:
    """Centre of the footprint in camera axes, in metres."""
    x, z = obj.position_m
    sin_p, cos_p = math.sin(math.radians(camera.pitch_deg)), math.cos(math.radians(camera.pitch_deg))
    return x, camera.height_m * cos_p - z * sin_p, camera.height_m * sin_p + z * cos_p


# A found object is matched to the true one with the nearest direction from the camera, within this angle.
MAX_MATCH_DEG = 8.0


def sight_angle_deg(first: Sequence[float], second: Sequence[float]) -> float:
    """Angle between two positions as the camera sees them."""
    dot = sum(a * b for a, b in zip(first, second)) / (math.hypot(*first) * math.hypot(*second))
    return math.degrees(math.acos(max(-1.0, min(1.0, dot))))


# Heights that are wrong by a larger factor are not corrected.
MAX_SCALE = 2.0


def camera_height_m(found: FoundObject, pitch_deg: float) -> float:
    """The camera's height above the ground under the object, if the object's position is right."""
    _, y, depth = found.position_m
    return y * math.cos(math.radians(pitch_deg)) + depth * math.sin(math.radians(pitch_deg))


def seen_from(found: FoundObject, pitch_deg: float, height_m: float) -> FoundObject:
    """Rescale an object so that its camera has this height.

    A picture has no scale: a larger object, farther from a higher camera, looks the same. An object whose height is
    wrong by more than a factor of MAX_SCALE is not changed.
    """
    own_m = camera_height_m(found, pitch_deg)
    if own_m <= 0 or not 1 / MAX_SCALE <= height_m / own_m <= MAX_SCALE:
        return found
    x, y, depth = (height_m / own_m * extent for extent in found.position_m)
    length, width, height = (height_m / own_m * extent for extent in found.size_m)
    return replace(found, position_m=(x, y, depth), size_m=(length, width, height))


def seen_from_one_height(found: Sequence[FoundObject], pitch_deg: float) -> list[FoundObject]:
    """Rescale the objects of one picture to one camera height: the geometric mean of their heights.

    The reader tends to give an object the usual size of its category. For a larger object the camera height is then
    too low.
    """
    heights = [camera_height_m(obj, pitch_deg) for obj in found]
    if not heights or min(heights) <= 0:
        return list(found)
    common_m = math.exp(sum(map(math.log, heights)) / len(heights))
    return [seen_from(obj, pitch_deg, common_m) for obj in found]


def on_ground(found: FoundObject, pitch_deg: float) -> SceneObject:
    """The object in the world's frame, whose x-z plane is level and whose origin is under the camera."""
    x, y, depth = found.position_m
    sin_p, cos_p = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
    obj = SceneObject(found.category, found.color, (x, depth * cos_p - y * sin_p), 0.0, found.size_m)
    heading_deg = (found.view_heading_deg - bearing_deg(obj)) % 360.0
    return SceneObject(obj.category, obj.color, obj.position_m, heading_deg, obj.size_m)


def true_object(obj: SceneObject, camera: Camera) -> FoundObject:
    """The result of a perfect reader for an object."""
    return FoundObject(
        obj.category, obj.color, footprint_in_camera(obj, camera), obj.size_m, view_heading_deg(obj), confidence=1.0
    )


def find(reading: SceneReading, category: str, color: str) -> FoundObject | None:
    """The most certain object of this category and colour."""
    return next((found for found in reading.objects if (found.category, found.color) == (category, color)), None)
