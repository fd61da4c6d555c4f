"""Renders objects, ground and camera: exact metric depth, the object at each pixel, and a shaded picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..depth.metric_depth import MetricDepth
from ..rendering.zbuffer import GROUND_INDEX, NO_PRIMITIVE, SKY_INDEX, pack, unpack
from .camera import ScaffoldCamera, View
from .objects import PlacedSolid, ScaffoldMesh, ScaffoldObject
from .preview import ground_albedo, object_albedo, shade, sky
from .rasterize import OnProgress, rasterize
from .raycast import blocks, cast_ground, cast_solid, pixel_slopes, solid_normals


@dataclass(frozen=True)
class Composition:
    """A rendered scene."""

    # A batch of one.
    depth: MetricDepth
    # (H, W) int64: the object of each pixel, GROUND_INDEX or SKY_INDEX.
    object_index: Tensor
    # (H, W, 3) float32 in [0, 1].
    picture: Tensor

    def masks(self, count: int) -> Tensor:
        """(count, H, W) float32: 1 where object k is visible. One empty mask if count is 0."""
        return torch.stack([(self.object_index == k).float() for k in range(max(1, count))])


@dataclass(frozen=True)
class SceneDepth:
    """The exact depth of a scene, without a picture."""

    # A batch of one.
    depth: MetricDepth
    # (H, W) int64: the object of each pixel, GROUND_INDEX or SKY_INDEX.
    object_index: Tensor


@dataclass(frozen=True)
class _Scene:
    """Objects with their primitive ids."""

    objects: Sequence[ScaffoldObject]
    # Vertices of the meshes in the world, by object.
    world: dict[int, Tensor]
    # Primitives of the other objects in the world, by object.
    placed: dict[int, tuple[PlacedSolid, ...]]
    # Object k has the ids from first[k] to first[k + 1] - 1. The ground has the last one.
    first: Tensor
    camera: ScaffoldCamera
    view: View

    @property
    def ground(self) -> int:
        return int(self.first[-1])

    @property
    def total(self) -> int:
        """The number of primitives, with the ground."""
        return self.ground + 1


@torch.no_grad()
def compose(
    objects: Sequence[ScaffoldObject],
    camera: ScaffoldCamera,
    width: int,
    height: int,
    ground_extent_m: float | None = 100.0,
    ground_confidence: float = 1.0,
    background_confidence: float = 1.0,
    on_progress: OnProgress | None = None,
    object_confidence: Sequence[float] | None = None,
) -> Composition:
    """Render what the camera sees at width x height pixels, each pixel by the ray through its centre.

    ground_extent_m: the depth at which the ground ends. None: no ground. object_confidence: one for each object; None
    is 1 for all. on_progress(done, total), in primitives, is called often. It may raise to cancel.
    Raises ValueError for sizes below 1 and for too many faces.
    """
    scene, keys = _drawn(objects, camera, width, height, ground_extent_m, on_progress)
    depth, primitive = unpack(keys)
    index = _object_index(scene, primitive)
    picture = torch.empty(height * width, 3)
    for first, last in blocks(height * width):
        picture[first:last] = _shade(scene, first, depth[first:last], primitive[first:last], index[first:last])
        if on_progress is not None:
            on_progress(scene.total, scene.total)
    confidence = _confidence(index, object_confidence, ground_confidence, background_confidence)
    metric, index = _as_image(scene, depth, confidence, index)
    return Composition(metric, index, picture.view(height, width, 3))


@torch.no_grad()
def compose_depth(
    objects: Sequence[ScaffoldObject],
    camera: ScaffoldCamera,
    width: int,
    height: int,
    ground_extent_m: float | None = 100.0,
    ground_confidence: float = 1.0,
    background_confidence: float = 1.0,
    on_progress: OnProgress | None = None,
    object_confidence: Sequence[float] | None = None,
) -> SceneDepth:
    """`compose` without its picture, in a fraction of the time."""
    scene, keys = _drawn(objects, camera, width, height, ground_extent_m, on_progress)
    depth, primitive = unpack(keys)
    index = _object_index(scene, primitive)
    confidence = _confidence(index, object_confidence, ground_confidence, background_confidence)
    return SceneDepth(*_as_image(scene, depth, confidence, index))


def _drawn(
    objects: Sequence[ScaffoldObject],
    camera: ScaffoldCamera,
    width: int,
    height: int,
    ground_extent_m: float | None,
    on_progress: OnProgress | None,
) -> tuple[_Scene, Tensor]:
    """The scene and its z-buffer (H * W,)."""
    if min(width, height) < 1:
        raise ValueError(f"width and height must be positive, got {width}x{height}")
    scene = _scene(objects, camera, View.of(camera, width, height))
    keys = pack(torch.full((height * width,), torch.inf), NO_PRIMITIVE)
    if ground_extent_m is not None:
        cast_ground(keys, scene.view, camera, ground_extent_m, scene.ground)
    _draw_objects(keys, scene, on_progress)
    return scene, keys


def _object_index(scene: _Scene, primitive: Tensor) -> Tensor:
    index = torch.searchsorted(scene.first, primitive, right=True) - 1
    index[primitive == scene.ground] = GROUND_INDEX
    index[primitive == NO_PRIMITIVE] = SKY_INDEX
    return index


def _confidence(index: Tensor, objects: Sequence[float] | None, ground: float, background: float) -> Tensor:
    """The confidence of pixels, by their object indices."""
    confidence = torch.ones(index.shape)
    if objects:
        confidence = torch.tensor(objects, dtype=torch.float32)[index.clamp(min=0)]
    confidence[index == GROUND_INDEX] = ground
    confidence[index == SKY_INDEX] = background
    return confidence


def _as_image(scene: _Scene, depth: Tensor, confidence: Tensor, index: Tensor) -> tuple[MetricDepth, Tensor]:
    shape = (1, scene.view.height, scene.view.width)
    metric = MetricDepth(depth.view(shape), confidence.view(shape), torch.tensor([scene.camera.fov_y_deg]))
    return metric, index.view(shape[1:])


def _scene(objects: Sequence[ScaffoldObject], camera: ScaffoldCamera, view: View) -> _Scene:
    world = {k: thing.world_vertices() for k, thing in enumerate(objects) if isinstance(thing, ScaffoldMesh)}
    placed = {k: thing.placed() for k, thing in enumerate(objects) if not isinstance(thing, ScaffoldMesh)}
    counts = [len(thing.faces) if k in world else len(placed[k]) for k, thing in enumerate(objects)]
    if sum(counts) >= NO_PRIMITIVE:
        raise ValueError(f"decimate the meshes: {sum(counts)} faces are too many for one scene")
    first = torch.tensor([0, *counts]).cumsum(dim=0)
    return _Scene(objects, world, placed, first, camera, view)


def _draw_objects(keys: Tensor, scene: _Scene, on_progress: OnProgress | None) -> None:
    camera = scene.camera
    for k, thing in enumerate(scene.objects):
        first = int(scene.first[k])
        if k in scene.placed:
            for number, solid in enumerate(scene.placed[k], first):
                cast_solid(keys, scene.view, camera, solid, number)
            if on_progress is not None:
                on_progress(first + len(scene.placed[k]), scene.total)
            continue

        def report(done: int, _: int, first: int = first) -> None:
            if on_progress is not None:
                on_progress(first + done, scene.total)

        corners = (scene.world[k] - torch.from_numpy(camera.position_m)) @ torch.from_numpy(camera.rotation)
        rasterize(keys, scene.view, corners, thing.faces, first, report)


def _shade(scene: _Scene, offset: int, depth: Tensor, primitive: Tensor, index: Tensor) -> Tensor:
    """(K, 3) colours of the pixels from `offset` on."""
    u, v = pixel_slopes(torch.arange(offset, offset + len(depth)), scene.view)
    depth = depth.double()
    color = sky(scene.camera, u, v)
    for k in index.unique().tolist():
        if k == SKY_INDEX:
            continue
        here = (index == k).nonzero().squeeze(1)
        at = u[here], v[here], depth[here]
        if k == GROUND_INDEX:
            albedo = ground_albedo(scene.camera, scene.view, *at)
            normal = torch.tensor([[0.0, -1.0, 0.0]], dtype=torch.float64).expand(len(here), 3)
        else:
            albedo = object_albedo(index[here])
            normal = _normals(scene, k, primitive[here], at)
        color[here] = shade(albedo, normal, scene.camera, u[here], v[here])
    return color.clamp(0, 1).float()


def _normals(scene: _Scene, k: int, primitive: Tensor, at: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    own = primitive - scene.first[k]
    if k in scene.world:
        a, b, c = scene.world[k][scene.objects[k].faces[own]].unbind(dim=1)
        return torch.linalg.cross(b - a, c - a)
    normals = torch.empty(len(own), 3, dtype=torch.float64)
    for number in own.unique().tolist():
        here = own == number
        normals[here] = solid_normals(scene.placed[k][number], scene.camera, *(value[here] for value in at))
    return normals
