"""A scene as the text of a layout (docs/layouts.md): what a language model learns to write for a caption."""

from __future__ import annotations

from collections.abc import Sequence

from .caption_common import name_of
from .scene import Scene, SceneObject

# The parts between the numbers and the names.
CAMERA, PITCH, FOV, OBJECTS = '{"version":1,"camera":{"height_m":', ',"pitch_deg":', ',"fov_y_deg":', '},"objects":['
NAME, SHAPE, POSITION, HEADING, SIZE = '{"name":"', '","shape":"', '","position_m":[', '],"heading_deg":', ',"size_m":['
END_OBJECT, NEXT_OBJECT, END = "]}", ",", "]}"
PHRASES = (CAMERA, PITCH, FOV, OBJECTS, NAME, SHAPE, POSITION, HEADING, SIZE, END_OBJECT, END_OBJECT + END)


def layout_text(scene: Scene, order: Sequence[int]) -> str:
    """The layout of a scene, with its objects in this order. Metres with one decimal, sizes with two."""
    camera = scene.camera
    start = f"{CAMERA}{camera.height_m:.1f}{PITCH}{camera.pitch_deg:.0f}{FOV}{camera.fov_y_deg:.0f}{OBJECTS}"
    return start + NEXT_OBJECT.join(_object_text(scene.objects[index]) for index in order) + END


def _object_text(obj: SceneObject) -> str:
    (x, z), (length, width, height) = obj.position_m, obj.size_m
    return (
        f"{NAME}{name_of(obj)}{SHAPE}{obj.category}{POSITION}{x:.1f},{z:.1f}{HEADING}{obj.heading_deg % 360:.0f}"
        f"{SIZE}{width:.2f},{height:.2f},{length:.2f}{END_OBJECT}"
    )
