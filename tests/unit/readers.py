"""A reader of a few thousand weights, and what a perfect one would read."""

from __future__ import annotations

from sf_model.scene_reader.network import ReaderConfig
from sf_model.scene_reader.reading import CameraReading, SceneReading, true_object
from sf_model.world import Scene

TINY_READER = ReaderConfig(image_size=32, channels=(8, 16), width=32, num_layers=1, num_heads=2)


def true_reading(scene: Scene) -> SceneReading:
    camera = CameraReading(scene.camera.pitch_deg, scene.camera.fov_y_deg)
    return SceneReading(tuple(true_object(obj, scene.camera) for obj in scene.objects), camera)
