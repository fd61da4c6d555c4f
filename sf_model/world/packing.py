"""Turn a batch of scenes into flat arrays of primitives: transforms, colours, bounding rectangles.

Everything is vectorised in float64 numpy over all primitives of the batch. Python only loops over scenes and objects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..rendering.frame import focal_lengths
from .categories import CATEGORIES, SHAPES, Part
from .palette import COLORS, role_color
from .scene import Scene

Array = NDArray[np.float64]
_NEAR_M = 0.02
_CUBE = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True)
class CategoryTable:
    """The P parts of one category as arrays."""

    # (P, 3): centre and size along (a, b, c), in units of the object's size.
    middle: Array
    extent: Array
    # (P, 3): the object's axis for each axis of the canonical solid.
    order: NDArray[np.int64]
    # (P,): index into SHAPES.
    shape: NDArray[np.int64]
    # (P,): whether the part casts a shadow.
    shadow: NDArray[np.bool_]
    # (len(COLORS), P, 3): the part's colour for every body colour.
    rgb: Array


def category_table(parts: Sequence[Part]) -> CategoryTable:
    """Arrays of a category's parts."""
    low = np.array([[p.a[0], p.b[0], p.c[0]] for p in parts])
    high = np.array([[p.a[1], p.b[1], p.c[1]] for p in parts])
    return CategoryTable(
        middle=(low + high) / 2,
        extent=high - low,
        order=np.array([p.order for p in parts]),
        shape=np.array([SHAPES.index(p.shape) for p in parts]),
        shadow=np.array([p.casts_shadow for p in parts]),
        rgb=np.array([[role_color(p.role, color) for p in parts] for color in COLORS]),
    )


CATEGORY_TABLES: dict[str, CategoryTable] = {name: category_table(kind.parts) for name, kind in CATEGORIES.items()}
_COLOR_INDEX = {name: index for index, name in enumerate(COLORS)}


@dataclass(frozen=True)
class Cameras:
    """Cameras and suns of B scenes."""

    # (B, 3) in the world.
    position: Array
    # (B, 3, 3), camera to world.
    rotation: Array
    # (B, 2): fx / W, fy / H.
    focal: Array
    # (B, 3), unit length.
    to_sun: Array


@dataclass(frozen=True)
class Primitives:
    """P primitives, sorted by shape.

    Rectangles are half-open, in pixels: (x0, y0, x1, y1). An empty one has x0 >= x1 or y0 >= y1.
    """

    # (P, 3, 3), about `centre`.
    world_to_canonical: Array
    # (P, 3) in the world.
    centre: Array
    # (P,): index of the scene in the batch.
    scene: NDArray[np.int64]
    # (P,): index of the object in its scene.
    object: NDArray[np.int64]
    # (P,): index into SHAPES.
    shape: NDArray[np.int64]
    # (P, 3).
    rgb: Array
    # (P, 4): contains the image of the primitive.
    rect: NDArray[np.int64]
    # (P, 4): contains the image of its shadow on the ground.
    shadow_rect: NDArray[np.int64]


def pack_cameras(scenes: Sequence[Scene], aspect: float) -> Cameras:
    """Cameras and suns of B scenes for images of aspect W / H."""
    pitch = np.radians([s.camera.pitch_deg for s in scenes])
    rotation = np.zeros((len(scenes), 3, 3))
    rotation[:, 0, 0] = 1.0
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(pitch)
    rotation[:, 1, 2] = np.sin(pitch)
    rotation[:, 2, 1] = -np.sin(pitch)
    azimuth = np.radians([s.sun_azimuth_deg for s in scenes])
    elevation = np.radians([s.sun_elevation_deg for s in scenes])
    level = np.cos(elevation)
    to_sun = np.stack([level * np.sin(azimuth), -np.sin(elevation), -level * np.cos(azimuth)], axis=1)
    position = np.zeros((len(scenes), 3))
    position[:, 1] = [-s.camera.height_m for s in scenes]
    focal = np.array([focal_lengths(s.camera.fov_y_deg, aspect) for s in scenes])
    return Cameras(position, rotation, focal, to_sun)


def _rectangles(
    points: Array, cameras: Cameras, scene: NDArray[np.int64], width: int, height: int
) -> NDArray[np.int64]:
    """Pixel rectangles (P, 4) around the projections of world points (P, 8, 3).

    Where some points are nearer than _NEAR_M it is all of the image, where all are it is empty.
    """
    in_camera = np.einsum("pki,pij->pkj", points - cameras.position[scene][:, None], cameras.rotation[scene])
    z = in_camera[..., 2]
    near = z < _NEAR_M
    safe = np.where(near, 1.0, z)
    focal = cameras.focal[scene][:, None]
    pixel = (in_camera[..., :2] / safe[..., None] * focal + 0.5) * (width, height)
    limit = np.array([width, height])
    # A pixel centre at c + 0.5 is inside [low, high] exactly when ceil(low - 0.5) <= c <= floor(high - 0.5).
    low = np.clip(np.ceil(pixel.min(axis=1) - 0.5 - 1e-6), 0, limit)
    high = np.clip(np.floor(pixel.max(axis=1) - 0.5 + 1e-6) + 1, 0, limit)
    some, every = near.any(axis=1)[:, None], near.all(axis=1)[:, None]
    low = np.where(some, 0, low)
    high = np.where(every, 0, np.where(some, limit, high))
    return np.concatenate([low, high], axis=1).astype(np.int64)


def _shadow_points(corners: Array, to_sun: Array) -> Array:
    """Shadows of the corners (P, 8, 3) on the ground."""
    reach = corners[..., 1] / to_sun[:, None, 1]
    return corners - to_sun[:, None] * reach[..., None]


def pack(scenes: Sequence[Scene], cameras: Cameras, width: int, height: int) -> Primitives:
    """All primitives of the scenes. Raises KeyError for an unknown category or colour."""
    owners = [
        (b, k, obj, CATEGORY_TABLES[obj.category]) for b, s in enumerate(scenes) for k, obj in enumerate(s.objects)
    ]
    if not owners:
        none = np.zeros(0, dtype=np.int64)
        rects = np.zeros((0, 4), dtype=np.int64)
        vectors = np.zeros((0, 3))
        return Primitives(np.zeros((0, 3, 3)), vectors, none, none, none, vectors, rects, rects)
    tables = [table for *_, table in owners]
    repeat = np.repeat(np.arange(len(owners)), [len(t.shape) for t in tables])
    shape = np.concatenate([t.shape for t in tables])
    middle = np.concatenate([t.middle for t in tables])
    extent = np.concatenate([t.extent for t in tables])
    order = np.concatenate([t.order for t in tables])
    shadow = np.concatenate([t.shadow for t in tables])
    rgb = np.concatenate([t.rgb[_COLOR_INDEX[obj.color]] for _, _, obj, t in owners])

    heading = [math.radians(obj.heading_deg) for _, _, obj, _ in owners]
    axes = np.array([[[math.sin(h), 0, -math.cos(h)], [0, -1, 0], [-math.cos(h), 0, -math.sin(h)]] for h in heading])
    size = np.array([(obj.size_m[0], obj.size_m[2], obj.size_m[1]) for _, _, obj, _ in owners])
    ground = np.array([(obj.position_m[0], 0.0, obj.position_m[1]) for _, _, obj, _ in owners])

    axes, size = axes[repeat], size[repeat]
    centre = ground[repeat] + np.einsum("pk,pkj->pj", middle * size, axes)
    half_span = axes * (extent * size)[..., None]
    corners = centre[:, None] + np.einsum("ck,pkj->pcj", _CUBE, half_span)
    world_to_canonical = np.take_along_axis(axes / (extent * size)[..., None], order[..., None], axis=1)

    scene = np.array([b for b, *_ in owners])[repeat]
    rect = _rectangles(corners, cameras, scene, width, height)
    shadow_rect = _rectangles(_shadow_points(corners, cameras.to_sun[scene]), cameras, scene, width, height)
    shadow_rect[~shadow, 2:] = 0
    by_shape = np.argsort(shape, kind="stable")
    index = np.array([k for _, k, *_ in owners])[repeat]
    flat = (world_to_canonical, centre, scene, index, shape, rgb, rect, shadow_rect)
    return Primitives(*(array[by_shape] for array in flat))
