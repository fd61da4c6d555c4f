"""Renders with the targets of the scene reader."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from .. import world
from ..rendering.frame import focal_lengths
from ..world.geometry import view_heading_deg
from ..world.sampling import sample_camera, sample_look
from ..world.scene import Scene, SceneObject
from .reading import footprint_in_camera

Batch = dict[str, torch.Tensor]

MAX_OBJECTS = 4
_CATEGORY_INDEX = {name: index for index, name in enumerate(world.CATEGORY_NAMES)}
_COLOR_INDEX = {name: index for index, name in enumerate(world.COLORS)}
_P_EMPTY = 0.03
_P_RANDOM_SCENE = 0.45


def sample_scene(rng: random.Random) -> Scene:
    """Any scene of the world, of any split: without objects, with a random arrangement, or of a spatial caption.

    The reader must also know the (category, colour) pairs that the image models have not seen.
    """
    choice = rng.random()
    if choice < _P_EMPTY:
        return Scene(sample_camera(rng), (), *sample_look(rng))
    split = rng.choice(world.SPLITS)
    if choice < _P_EMPTY + _P_RANDOM_SCENE:
        return world.sample_scene(rng, split)
    return world.sample(rng, rng.choice(world.SPATIAL_KINDS), split).scene


def project(point: tuple[float, float, float], fov_y_deg: float) -> tuple[float, float]:
    """Normalised image coordinates of a point in camera axes, in a square image."""
    focal, _ = focal_lengths(fov_y_deg, 1.0)
    return 0.5 + focal * point[0] / point[2], 0.5 + focal * point[1] / point[2]


def _object_row(obj: SceneObject, scene: Scene) -> list[float]:
    camera = scene.camera
    foot = footprint_in_camera(obj, camera)
    half = obj.size_m[2] / 2
    pitch = math.radians(camera.pitch_deg)
    middle = (foot[0], foot[1] - half * math.cos(pitch), foot[2] - half * math.sin(pitch))
    return [
        1.0,
        _CATEGORY_INDEX[obj.category],
        _COLOR_INDEX[obj.color],
        *project(middle, camera.fov_y_deg),
        *foot,
        *obj.size_m,
        view_heading_deg(obj),
    ]


OBJECT_COLUMNS: tuple[tuple[str, int], ...] = (
    ("present", 1),
    ("category", 1),
    ("color", 1),
    ("middle", 2),
    ("position_m", 3),
    ("size_m", 3),
    ("view_heading_deg", 1),
)
"""Columns of the object table: `middle` is the projected centre of the bounding box, normalised."""


def scene_targets(scenes: Sequence[Scene]) -> Batch:
    """objects (B, K, columns of OBJECT_COLUMNS), padded with zeros; pitch_deg and fov_y_deg (B,)."""
    columns = sum(size for _, size in OBJECT_COLUMNS)
    objects = torch.zeros(len(scenes), MAX_OBJECTS, columns)
    for index, scene in enumerate(scenes):
        for place, obj in enumerate(scene.objects):
            objects[index, place] = torch.tensor(_object_row(obj, scene))
    return {
        "objects": objects,
        "pitch_deg": torch.tensor([scene.camera.pitch_deg for scene in scenes]),
        "fov_y_deg": torch.tensor([scene.camera.fov_y_deg for scene in scenes]),
    }


def object_columns(objects: torch.Tensor) -> dict[str, torch.Tensor]:
    """The table's columns by name. Columns with one number lose their last axis."""
    parts = objects.split([size for _, size in OBJECT_COLUMNS], dim=-1)
    return {name: part.squeeze(-1) if size == 1 else part for (name, size), part in zip(OBJECT_COLUMNS, parts)}


def sample_scenes(stream: str, seed: int, number: int, count: int) -> list[Scene]:
    """The scenes of batch `number` of a stream."""
    rng = random.Random(f"reader-{stream}-{seed}-{number}")
    return [sample_scene(rng) for _ in range(count)]


def rendered(scenes: Sequence[Scene], image_size: int) -> Batch:
    """rgb (B, 3, S, S) in [-1, 1], depth_m (B, S, S) with inf for sky, and `scene_targets`."""
    rendering = world.render(scenes, image_size, image_size)
    return {"rgb": rendering.rgb * 2 - 1, "depth_m": rendering.depth_m, **scene_targets(scenes)}
