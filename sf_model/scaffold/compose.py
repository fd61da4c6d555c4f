"""Renders objects, ground and camera: exact metric depth, the object at each pixel, and a shaded picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..depth.metric_depth import MetricDepth
from ..rendering.zbuffer import GROUND_INDEX, NO_PRIMITIVE, SKY_INDEX, pack, unpack
from .camera import ScaffoldCamera, View
from .objects import ScaffoldMesh, ScaffoldObject, ScaffoldSolid
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
class _Scene:
    """Objects with their primitive ids."""

    objects: Sequence[ScaffoldObject]
    # Vertices of the meshes in the world, by object.
    world: dict[int, Tensor]
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
) -> Composition:
    """Render what the camera sees at width x height pixels, each pixel by the ray through its centre.

    ground_extent_m: the depth at which the ground ends. None: no ground. Confidence is 1 on objects.
    on_progress(done, total), in primitives, is called often. It may raise to cancel.
    Raises ValueError for sizes below 1 and for too many faces.
    """
    if min(width, height) < 1:
        raise ValueError(f"width and height must be positive, got {width}x{height}")
    scene = _scene(objects, camera, View.of(camera, width, height))
    keys = pack(torch.full((height * width,), torch.inf), NO_PRIMITIVE)
    if ground_extent_m is not None:
        cast_ground(keys, scene.view, camera, ground_extent_m, scene.ground)
    _draw_objects(keys, scene, on_progress)
    depth, primitive = unpack(keys)
    index = torch.searchsorted(scene.first, primitive, right=True) - 1
    index[primitive == scene.ground] = GROUND_INDEX
    index[primitive == NO_PRIMITIVE] = SKY_INDEX
    picture = torch.empty(height * width, 3)
    for first, last in blocks(height * width):
        picture[first:last] = _shade(scene, first, depth[first:last], primitive[first:last], index[first:last])
        if on_progress is not None:
            on_progress(scene.total, scene.total)
    confidence = torch.ones_like(depth)
    confidence[index == GROUND_INDEX] = ground_confidence
    confidence[index == SKY_INDEX] = background_confidence
    shape = (1, height, width)
    metric = MetricDepth(depth.view(shape), confidence.view(shape), torch.tensor([camera.fov_y_deg]))
    return Composition(metric, index.view(height, width), picture.view(height, width, 3))


def _scene(objects: Sequence[ScaffoldObject], camera: ScaffoldCamera, view: View) -> _Scene:
    counts = [len(thing.faces) if isinstance(thing, ScaffoldMesh) else 1 for thing in objects]
    if sum(counts) >= NO_PRIMITIVE:
        raise ValueError(f"decimate the meshes: {sum(counts)} faces are too many for one scene")
    first = torch.tensor([0, *counts]).cumsum(dim=0)
    world = {k: thing.world_vertices() for k, thing in enumerate(objects) if isinstance(thing, ScaffoldMesh)}
    return _Scene(objects, world, first, camera, view)


def _draw_objects(keys: Tensor, scene: _Scene, on_progress: OnProgress | None) -> None:
    camera = scene.camera
    for k, thing in enumerate(scene.objects):
        first = int(scene.first[k])
        if isinstance(thing, ScaffoldSolid):
            cast_solid(keys, scene.view, camera, thing, first)
            if on_progress is not None:
                on_progress(first + 1, scene.total)
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
    thing = scene.objects[k]
    if isinstance(thing, ScaffoldSolid):
        return solid_normals(thing, scene.camera, *at)
    a, b, c = scene.world[k][thing.faces[primitive - scene.first[k]]].unbind(dim=1)
    return torch.linalg.cross(b - a, c - a)
