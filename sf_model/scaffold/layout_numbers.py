"""Layouts as text and layouts as numbers: from `scaffold.layout` to `models.layout` and back.

A checkpoint that predicts a layout before the depth has it as numbers, for a few objects of the kinds and colours that
it was trained on. People and other nodes have it as a scene in words and metres.

| | scene (`scaffold.layout.Layout`) | numbers (`models.layout.Layout`) |
|---|---|---|
| kind and colour | shape, and a word of the name | one-hot category and colour |
| place | (x, y, z), y from the ground up | (x, z); every object stands on the ground |
| size | (width, height, length) | (length, width, height) |
| heading, camera | the same degrees and metres | the same |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import LayoutConfig
from ..models.layout import NEAREST_M
from ..models.layout import Layout as LayoutNumbers
from .layout import MAX_POSITION_M, Layout, LayoutCamera, LayoutObject
from .layout_view import projected_boxes
from .shapes import named_shapes

# The shape of a kind that has no shape of its own.
PLAIN_SHAPE = "box"
# People wear their colour.
PERSON = "person"
# Its logarithm is one of the numbers.
MIN_CAMERA_HEIGHT_M = 0.05
# What a place without an object holds. Trainings have the same (`training.data.layouts`).
EMPTY_POSITION_M, EMPTY_SIZE_M = (0.0, 4.0), (1.0, 1.0, 1.0)
# Places are written with 0.1 mm.
_SAME_M = 1e-3


@dataclass(frozen=True)
class GivenLayout:
    """A layout for a checkpoint."""

    # A batch of one.
    numbers: LayoutNumbers
    # What of the scene the numbers hold.
    layout: Layout
    # What was left out or changed, each with its remedy.
    notes: tuple[str, ...]


def object_name(category: str, color: str) -> str:
    """ "red car", and "person in red". The captions that the checkpoint was trained on say the same."""
    return f"{category} in {color}" if category == PERSON else f"{color} {category}"


def scene_of(numbers: LayoutNumbers, words: LayoutConfig, index: int = 0) -> Layout:
    """The layout `index` of a batch as a scene. words: the kinds and colours of the checkpoint."""
    present = (numbers.present[index] > 0.5).nonzero().flatten().tolist()
    height_m, pitch_deg, fov_y_deg = numbers.camera[index].tolist()
    objects = tuple(_object(numbers, words, index, place) for place in present)
    return Layout(LayoutCamera(height_m, pitch_deg, fov_y_deg), True, objects)


def _object(numbers: LayoutNumbers, words: LayoutConfig, index: int, place: int) -> LayoutObject:
    category = words.categories[int(numbers.category[index, place].argmax())]
    color = words.colors[int(numbers.color[index, place].argmax())]
    x, z = numbers.position_m[index, place].clamp(-MAX_POSITION_M, MAX_POSITION_M).tolist()
    length, width, height = numbers.size_m[index, place].tolist()
    return LayoutObject(
        name=object_name(category, color),
        shape=category if category in named_shapes() else PLAIN_SHAPE,
        position_m=(x, 0.0, z),
        heading_deg=float(numbers.heading_deg[index, place]) % 360.0,
        size_m=(width, height, length),
    )


def given_layout(layout: Layout, words: LayoutConfig, width: int, height: int) -> GivenLayout:
    """A scene as the numbers of a checkpoint, for an image of width x height pixels.

    Objects that the image does not show are left out. What the numbers cannot hold is changed. Both are in the notes.
    Raises ValueError, with the remedy, for more objects than the checkpoint holds and for a kind that it does not know.
    """
    notes: list[str] = []
    objects = _in_the_picture(layout, width, height, notes)
    if len(objects) > words.objects:
        raise ValueError(
            f"remove objects: the layout has {len(objects)} in the picture, and the checkpoint holds at most "
            f"{words.objects}"
        )
    objects = [_known(thing, words, notes) for thing in objects]
    if not layout.ground:
        notes.append("switch the layout's ground on: the checkpoint knows only scenes with a ground, and draws it")
    if any(thing.confidence != 1 for thing in objects):
        notes.append("use confidence in Compose Depth Scaffold: a prediction does not use that of objects")
    camera = layout.camera
    if camera.height_m < MIN_CAMERA_HEIGHT_M:
        notes.append(f"raise the camera: it was taken as {MIN_CAMERA_HEIGHT_M:g} m high, which is the least")
        camera = replace(camera, height_m=MIN_CAMERA_HEIGHT_M)
    colors = [_color(thing, words, notes) for thing in objects]
    used = Layout(camera, True, tuple(objects))
    return GivenLayout(_numbers(used, colors, words), used, tuple(notes))


def _in_the_picture(layout: Layout, width: int, height: int, notes: list[str]) -> list[LayoutObject]:
    seen = []
    for thing, box in zip(layout.objects, projected_boxes(layout, width, height)):
        if box is not None and box.seen_share(width, height) > 0 and thing.position_m[2] >= NEAREST_M:
            seen.append(thing)
        else:
            notes.append(f"move {_quoted(thing)} into the picture, ahead of the camera: it was left out")
    return seen


def _known(thing: LayoutObject, words: LayoutConfig, notes: list[str]) -> LayoutObject:
    """The object as one of the checkpoint's kinds, on the ground."""
    kind = _kind(thing, words)
    if kind is None:
        raise ValueError(
            f"choose another shape for {_quoted(thing)}, one of {', '.join(words.categories)}: the checkpoint does not "
            f"know {thing.shape!r}"
        )
    if kind != thing.shape and kind in named_shapes():
        notes.append(
            f"choose the shape {kind!r} for {_quoted(thing)}: it was taken as that, because the checkpoint does not "
            f"know {thing.shape!r}"
        )
        thing = replace(thing, shape=kind)
    x, y, z = thing.position_m
    if abs(y) > _SAME_M:
        notes.append(f"set y of {_quoted(thing)} to 0: the checkpoint's objects stand on the ground, and so it was put")
    return replace(thing, position_m=(x, 0.0, z))


def _kind(thing: LayoutObject, words: LayoutConfig) -> str | None:
    """The checkpoint's kind for an object: its shape, or else the last one that its name says. None: neither."""
    if thing.shape in words.categories:
        return thing.shape
    return next(reversed(_said(thing.name, words.categories)), None)


def _color(thing: LayoutObject, words: LayoutConfig, notes: list[str]) -> int:
    """The index of the first of the checkpoint's colours that the name says. Without one it is the first of all."""
    for color in _said(thing.name, words.colors):
        return words.colors.index(color)
    notes.append(
        f"write a colour into the name of {_quoted(thing)}, one of {', '.join(words.colors)}: it was taken as "
        f"{words.colors[0]}"
    )
    return 0


def _numbers(layout: Layout, colors: Sequence[int], words: LayoutConfig) -> LayoutNumbers:
    objects, camera = layout.objects, layout.camera
    free = words.objects - len(objects)
    kinds = [words.categories.index(_kind(thing, words)) for thing in objects]
    places = [(thing.position_m[0], thing.position_m[2]) for thing in objects]
    sizes = [(length, width, height) for width, height, length in (thing.size_m for thing in objects)]
    headings = [thing.heading_deg % 360.0 for thing in objects]
    return LayoutNumbers(
        present=_row([1.0] * len(objects), 0.0, free),
        category=F.one_hot(_row(kinds, 0, free).long(), len(words.categories)).float(),
        color=F.one_hot(_row(colors, 0, free).long(), len(words.colors)).float(),
        position_m=_row(places, EMPTY_POSITION_M, free),
        heading_deg=_row(headings, 0.0, free),
        size_m=_row(sizes, EMPTY_SIZE_M, free),
        camera=torch.tensor([[camera.height_m, camera.pitch_deg, camera.fov_y_deg]], dtype=torch.float32),
    )


def _row(values: Sequence[Any], empty: Any, free: int) -> Tensor:
    """(1, N, ...): the objects' values, then `free` times the one of an empty place."""
    return torch.tensor([[*values, *[empty] * free]], dtype=torch.float32)


def _said(name: str, options: Sequence[str]) -> list[str]:
    """Those of the options that are whole words of a name, in their order there."""
    places = ((re.search(rf"\b{re.escape(option)}\b", name.lower()), option) for option in options)
    return [option for _, option in sorted((place.start(), option) for place, option in places if place)]


def _quoted(thing: LayoutObject) -> str:
    return repr(thing.name[:40])
