"""Scenes of the synthetic world as layouts: the targets of the layout's flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
import torch.nn.functional as F

from ...models.layout import Layout
from ...world import CATEGORY_NAMES, COLORS, Camera, CaptionedScene, Scene, SceneObject
from ...world.caption_common import name_of
from ...world.geometry import image_slope
from ...world.mentions import object_mentions

# Where an absent object stands. It counts for nothing.
_NOWHERE = SceneObject(CATEGORY_NAMES[0], COLORS[0], (0.0, 4.0), 0.0, (1.0, 1.0, 1.0))


def order_of(item: CaptionedScene) -> list[int]:
    """The objects' indices in the order in which the caption mentions them, then those that it leaves out."""
    mentioned = [mention.index for mention in object_mentions(item)]
    return mentioned + [index for index in range(len(item.scene.objects)) if index not in mentioned]


def union_of(source: Scene, target: Scene) -> Scene:
    """The scene before an edit, with the objects of other names that it has afterwards."""
    names = {name_of(obj) for obj in source.objects}
    added = tuple(obj for obj in target.objects if name_of(obj) not in names)
    return replace(source, objects=(*source.objects, *added))


def edited_layouts(source: Scene, target: Scene, objects: int) -> tuple[Layout, Layout]:
    """The layouts before and after an edit, with every object in the same place of both.

    The source's objects stand from left to right. A new object takes the first free place; a removed one leaves its
    place empty.
    """
    places: list[SceneObject | None] = sorted(source.objects, key=image_slope)
    if len(target.objects) == len(source.objects):
        after = [target.objects[source.objects.index(obj)] for obj in places]
    else:
        after = [obj if obj in target.objects else None for obj in places]
        after += [obj for obj in target.objects if obj not in source.objects]
    before = [*places, *[None] * (len(after) - len(places))]
    return tuple(_layouts([scene.camera], [row], objects) for scene, row in ((source, before), (target, after)))


def joined_layouts(layouts: Sequence[Layout]) -> Layout:
    """One batch of several."""
    names = [field.name for field in fields(Layout)]
    return Layout(**{name: torch.cat([getattr(layout, name) for layout in layouts]) for name in names})


def layouts_of(scenes: Sequence[Scene], orders: Sequence[Sequence[int]], objects: int) -> Layout:
    """The layouts of scenes with at most `objects` objects, in the given orders."""
    rows = [[scene.objects[index] for index in order] for scene, order in zip(scenes, orders)]
    return _layouts([scene.camera for scene in scenes], rows, objects)


def _layouts(cameras: Sequence[Camera], rows: Sequence[Sequence[SceneObject | None]], objects: int) -> Layout:
    """None: an empty place."""
    padded = [[*row[:objects], *[None] * (objects - len(row))] for row in rows]
    present = torch.tensor([[float(obj is not None) for obj in row] for row in padded])
    rows = [[_NOWHERE if obj is None else obj for obj in row] for row in padded]
    categories = torch.tensor([[CATEGORY_NAMES.index(obj.category) for obj in row] for row in rows])
    colors = torch.tensor([[list(COLORS).index(obj.color) for obj in row] for row in rows])
    return Layout(
        present=present,
        category=F.one_hot(categories, len(CATEGORY_NAMES)).float(),
        color=F.one_hot(colors, len(COLORS)).float(),
        position_m=torch.tensor([[obj.position_m for obj in row] for row in rows]),
        heading_deg=torch.tensor([[obj.heading_deg for obj in row] for row in rows]),
        size_m=torch.tensor([[obj.size_m for obj in row] for row in rows]),
        camera=torch.tensor([[camera.height_m, camera.pitch_deg, camera.fov_y_deg] for camera in cameras]),
    )
