"""What the scene reader says of an image, and its way to and from the world's scenes.

Camera axes are OpenCV's (x right, y down, z forward). A view heading is relative to the viewing ray, as in
`world.geometry`: 0 faces the camera, 90 points to image right, 180 away, 270 to image left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...world.geometry import bearing_deg, view_heading_deg
from ...world.scene import Camera, Scene, SceneObject


@dataclass(frozen=True)
class CameraReading:
    """Pitch (positive downwards) and vertical field of view."""

    pitch_deg: float
    fov_y_deg: float


@dataclass(frozen=True)
class FoundObject:
    """`position_m` is the centre of the footprint on the ground, in camera axes; `size_m` is (length, width, height);
    `confidence` in [0, 1] says how sure the reader is that there is an object."""

    category: str
    color: str
    position_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    view_heading_deg: float
    confidence: float = 1.0


@dataclass(frozen=True)
class SceneReading:
    """Objects, the most certain first, and the camera."""

    objects: tuple[FoundObject, ...]
    camera: CameraReading


def footprint_in_camera(obj: SceneObject, camera: Camera) -> tuple[float, float, float]:
    """Centre of the footprint in camera axes, in metres."""
    x, z = obj.position_m
    sin_p, cos_p = math.sin(math.radians(camera.pitch_deg)), math.cos(math.radians(camera.pitch_deg))
    return x, camera.height_m * cos_p - z * sin_p, camera.height_m * sin_p + z * cos_p


def on_ground(found: FoundObject, pitch_deg: float) -> SceneObject:
    """The object in the world's frame, whose x-z plane is level and whose origin is under the camera."""
    x, y, depth = found.position_m
    sin_p, cos_p = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
    obj = SceneObject(found.category, found.color, (x, depth * cos_p - y * sin_p), 0.0, found.size_m)
    heading_deg = (found.view_heading_deg - bearing_deg(obj)) % 360.0
    return SceneObject(obj.category, obj.color, obj.position_m, heading_deg, obj.size_m)


def true_object(obj: SceneObject, camera: Camera) -> FoundObject:
    """What a perfect reader would say of an object."""
    return FoundObject(
        obj.category, obj.color, footprint_in_camera(obj, camera), obj.size_m, view_heading_deg(obj), confidence=1.0
    )


def true_reading(scene: Scene) -> SceneReading:
    """What a perfect reader would say of a scene."""
    camera = CameraReading(scene.camera.pitch_deg, scene.camera.fov_y_deg)
    return SceneReading(tuple(true_object(obj, scene.camera) for obj in scene.objects), camera)


def find(reading: SceneReading, category: str, color: str) -> FoundObject | None:
    """The most certain object of this category and colour."""
    return next((found for found in reading.objects if (found.category, found.color) == (category, color)), None)
