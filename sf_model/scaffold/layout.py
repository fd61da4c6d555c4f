"""Layouts: scenes as text. A camera, a ground, and objects with a name, a shape, a place, a heading and a size.

A layout is what a person drags, what a language model writes and what a workflow stores. docs/layouts.md describes the
JSON, and layout_schema.json is its JSON Schema. `layout_reading` reads it leniently; this module writes it strictly.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..depth.metric_depth import MetricDepth
from .camera import ScaffoldCamera
from .compose import compose_depth
from .objects import Pose, ScaffoldFigure
from .shapes import named_shapes

FORMAT_VERSION = 1
MAX_OBJECTS = 256
MAX_NAME_LENGTH = 200
MIN_SIZE_M, MAX_SIZE_M = 0.001, 1000.0
MAX_POSITION_M = 1000.0
MAX_CAMERA_HEIGHT_M = 1000.0
MIN_FOV_DEG, MAX_FOV_DEG = 1.0, 170.0
# The height of the 35 mm film of 36 x 24 mm.
FILM_HEIGHT_MM = 24.0
_DECIMALS_M, _DECIMALS_DEG = 4, 3


def fov_of_lens(focal_mm: float) -> float:
    """Vertical field of view in degrees of a lens on 35 mm film (36 x 24 mm)."""
    return math.degrees(2 * math.atan(0.5 * FILM_HEIGHT_MM / focal_mm))


def lens_of_fov(fov_y_deg: float) -> float:
    """Focal length in mm, on 35 mm film, of a vertical field of view in degrees."""
    return 0.5 * FILM_HEIGHT_MM / math.tan(math.radians(fov_y_deg) / 2)


def _check_range(what: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"give {what} between {low:g} and {high:g}: it is {value:g}")


@dataclass(frozen=True)
class LayoutCamera:
    """Above the origin, looking along +z. Raises ValueError for values out of range."""

    height_m: float = 1.5
    # Positive downwards.
    pitch_deg: float = 5.0
    fov_y_deg: float = 50.0

    def __post_init__(self) -> None:
        _check_range("the camera's height_m", self.height_m, 0.0, MAX_CAMERA_HEIGHT_M)
        _check_range("the camera's pitch_deg", self.pitch_deg, -90.0, 90.0)
        _check_range("the camera's fov_y_deg", self.fov_y_deg, MIN_FOV_DEG, MAX_FOV_DEG)

    def scaffold(self) -> ScaffoldCamera:
        return ScaffoldCamera.level(self.height_m, self.pitch_deg, self.fov_y_deg)


@dataclass(frozen=True)
class LayoutObject:
    """One object. Raises ValueError for values out of range and for an unknown shape."""

    # Words for the object, in any script: "red car".
    name: str
    # A name of `shapes.named_shapes()`.
    shape: str
    # (x, y, z): metres to the right of the camera, from the ground up to the lowest point, and ahead.
    position_m: tuple[float, float, float]
    # Where the front points, seen from above: 0 to the camera's side, 90 image right, 180 away, 270 image left.
    heading_deg: float
    # (width, height, length): from side to side, from bottom to top, from front to back.
    size_m: tuple[float, float, float]
    # How much the image has to keep to it: 1 exactly, 0 not at all.
    confidence: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_LENGTH:
            raise ValueError(f"give each object a name of 1 to {MAX_NAME_LENGTH} characters: {self.name[:40]!r}")
        label = f"of {self.name[:40]!r}"
        if self.shape not in named_shapes():
            shapes = ", ".join(named_shapes())
            raise ValueError(f"choose one of these shapes for {self.name[:40]!r}: {shapes}. It is {self.shape!r}")
        for value in self.position_m:
            _check_range(f"position_m {label}", value, -MAX_POSITION_M, MAX_POSITION_M)
        for value in self.size_m:
            _check_range(f"size_m {label}", value, MIN_SIZE_M, MAX_SIZE_M)
        _check_range(f"heading_deg {label}", self.heading_deg, -1e6, 1e6)
        _check_range(f"confidence {label}", self.confidence, 0.0, 1.0)

    def scaffold(self) -> ScaffoldFigure:
        x, y, z = self.position_m
        return ScaffoldFigure(self.shape, self.size_m, Pose(x, y, z, self.heading_deg))


@dataclass(frozen=True)
class Layout:
    """A scene. Raises ValueError for more than MAX_OBJECTS objects."""

    camera: LayoutCamera = field(default_factory=LayoutCamera)
    # Whether there is a ground plane.
    ground: bool = True
    objects: tuple[LayoutObject, ...] = ()

    def __post_init__(self) -> None:
        if len(self.objects) > MAX_OBJECTS:
            raise ValueError(f"remove objects: the layout has {len(self.objects)}, at most {MAX_OBJECTS} are possible")

    def to_dict(self) -> dict[str, Any]:
        """The strict form: every field, in a fixed order, with at most 0.1 mm and 0.001 degrees."""
        camera = self.camera
        return {
            "version": FORMAT_VERSION,
            "camera": {
                "height_m": _metres(camera.height_m),
                "pitch_deg": _number(camera.pitch_deg, _DECIMALS_DEG),
                "fov_y_deg": _number(camera.fov_y_deg, _DECIMALS_DEG),
            },
            "ground": self.ground,
            "objects": [_object_dict(thing) for thing in self.objects],
        }

    def __str__(self) -> str:
        """`to_json`. ComfyUI's Preview as Text shows it."""
        return self.to_json()

    def to_json(self) -> str:
        """The strict form for people: one object a line."""
        parts = self.to_dict()
        objects = ",\n".join(f"    {_compact(thing, spaced=True)}" for thing in parts["objects"])
        listed = f"[\n{objects}\n  ]" if objects else "[]"
        camera = _compact(parts["camera"], spaced=True)
        return (
            f'{{\n  "version": {FORMAT_VERSION},\n  "camera": {camera},\n  "ground": {json.dumps(self.ground)},\n'
            f'  "objects": {listed}\n}}'
        )

    def to_compact_json(self) -> str:
        """The strict form in one line without spaces, as language models write it."""
        return _compact(self.to_dict(), spaced=False)


def _compact(value: dict[str, Any], *, spaced: bool) -> str:
    separators = (", ", ": ") if spaced else (",", ":")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators)


def _number(value: float, decimals: int) -> float | int:
    """Rounded, and without ".0" or a negative zero."""
    rounded = round(float(value), decimals) + 0.0
    return int(rounded) if rounded.is_integer() else rounded


def _metres(value: float) -> float | int:
    return _number(value, _DECIMALS_M)


def _object_dict(thing: LayoutObject) -> dict[str, Any]:
    return {
        "name": thing.name,
        "shape": thing.shape,
        "position_m": [_metres(value) for value in thing.position_m],
        "heading_deg": _number(thing.heading_deg % 360.0, _DECIMALS_DEG) % 360,
        "size_m": [_metres(value) for value in thing.size_m],
        "confidence": _number(thing.confidence, 3),
    }


@dataclass(frozen=True)
class LayoutDepth:
    """The exact depth of a layout."""

    layout: Layout
    # A batch of one.
    depth: MetricDepth
    # (H, W) int64: the object of each pixel, or `GROUND_INDEX` or `SKY_INDEX`.
    object_index: Tensor

    def matte(self, index: int) -> Tensor:
        """(H, W) float32: 1 where this object is seen, else 0."""
        return (self.object_index == index).float()

    def mattes(self) -> dict[str, Tensor]:
        """`matte` of every object by its name. Equal names get numbers: "chair", "chair 2"."""
        return {name: self.matte(index) for index, name in enumerate(unique_names(self.layout))}


def unique_names(layout: Layout) -> list[str]:
    """The names of the objects in their order. The second "chair" is "chair 2"."""
    names: list[str] = []
    taken = {thing.name for thing in layout.objects}
    for thing in layout.objects:
        name, number = thing.name, 2
        while name in names or (name != thing.name and name in taken):
            name, number = f"{thing.name} {number}", number + 1
        names.append(name)
    return names


def compose_layout(
    layout: Layout,
    width: int,
    height: int,
    ground_extent_m: float = 100.0,
    ground_confidence: float = 1.0,
    background_confidence: float = 1.0,
) -> LayoutDepth:
    """The exact depth of a layout at width x height pixels, and the object of each pixel.

    ground_extent_m: the depth at which the ground ends. Confidences: of the ground, and of pixels without a surface.
    Raises ValueError for sizes below 1.
    """
    with torch.no_grad():
        scene = compose_depth(
            [thing.scaffold() for thing in layout.objects],
            layout.camera.scaffold(),
            width,
            height,
            ground_extent_m if layout.ground else None,
            ground_confidence,
            background_confidence,
            object_confidence=[thing.confidence for thing in layout.objects],
        )
    return LayoutDepth(layout, scene.depth, scene.object_index)
