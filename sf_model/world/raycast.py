"""Ray casting over flat arrays of (primitive, pixel) pairs.

A primitive is paired only with the pixels of its bounding rectangle. All pairs of one shape are intersected at once, in
the primitive's canonical frame. A scatter minimum then keeps the nearest hit of every pixel. Rays have unit camera z,
so the ray parameter is the z-depth.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..rendering.intersect import INTERVALS, NORMALS, Vec, first_hit
from ..rendering.zbuffer import NO_PRIMITIVE, pack, unpack
from .categories import SHAPES
from .packing import Cameras, Primitives
from .scene import GROUND_EXTENT_M


@dataclass(frozen=True)
class Rays:
    """The rays through the N = H * W pixel centres of B scenes."""

    # (B, N): world direction, with camera z 1.
    x: Tensor
    y: Tensor
    z: Tensor
    # (B, 1).
    camera_height_m: Tensor
    # (B, 1): width of a pixel at unit depth.
    pixel_slope: Tensor


@dataclass(frozen=True)
class DevicePrimitives:
    """`Primitives` on the device, in float32, with the cameras in their canonical frames."""

    # (9, P): the canonical direction of a pixel is ray[0:3] * u + ray[3:6] * v + ray[6:9], with (u, v) at unit depth.
    ray: Tensor
    # (3, P): the camera's position, canonical.
    origin: Tensor
    # (3, P): the direction to the sun, canonical.
    sun: Tensor
    # (P, 3, 3), from the world.
    to_canonical: Tensor
    # (2, P): fx / W, fy / H.
    focal: Tensor
    # (P,) each.
    scene: Tensor
    object: Tensor
    # (P, 3).
    rgb: Tensor
    # Primitives of shape k are those from bounds[k] to bounds[k + 1] - 1.
    bounds: tuple[int, ...]


@dataclass(frozen=True)
class _Pairs:
    """M (primitive, pixel) pairs; all tensors are (M,)."""

    primitive: Tensor
    # Flat index over the pixels of the batch.
    pixel: Tensor
    # Of the ray, canonical.
    direction: Vec
    origin: Vec


def to_device(prims: Primitives, cameras: Cameras, device: torch.device) -> DevicePrimitives:
    to_canonical = prims.world_to_canonical
    ray = to_canonical @ cameras.rotation[prims.scene]
    origin = np.einsum("pij,pj->pi", to_canonical, cameras.position[prims.scene] - prims.centre)
    sun = np.einsum("pij,pj->pi", to_canonical, cameras.to_sun[prims.scene])
    as_float = lambda array: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)  # noqa: E731
    return DevicePrimitives(
        ray=as_float(ray.transpose(2, 1, 0).reshape(9, -1)),
        origin=as_float(origin.T),
        sun=as_float(sun.T),
        to_canonical=as_float(to_canonical),
        focal=as_float(cameras.focal[prims.scene].T),
        scene=torch.from_numpy(prims.scene).to(device),
        object=torch.from_numpy(prims.object).to(device),
        rgb=as_float(prims.rgb),
        bounds=tuple(int(n) for n in np.searchsorted(prims.shape, np.arange(len(SHAPES) + 1))),
    )


def _pairs(prims: DevicePrimitives, rect: np.ndarray, first: int, last: int, width: int, height: int) -> _Pairs | None:
    """Pairs of the primitives first to last - 1 with the pixels of their rectangles. None if there are none."""
    x0, y0, x1, y1 = rect[first:last].T
    rows = np.where(x1 > x0, np.maximum(y1 - y0, 0), 0)
    if not rows.any():
        return None
    # Per row of a rectangle: its primitive, its image row, its pixel count, and column minus index in the pair array.
    local = np.repeat(np.arange(last - first), rows)
    y = np.arange(len(local)) - np.repeat(np.cumsum(rows) - rows, rows) + y0[local]
    counts = (x1 - x0)[local]
    shift = x0[local] - (np.cumsum(counts) - counts)
    device = prims.ray.device
    table = torch.from_numpy(np.stack([local + first, y, shift, counts])).to(device)
    primitive, y_row, shift_row, counts_row = table.unbind(0)
    total = int(counts.sum())
    row = torch.repeat_interleave(torch.arange(len(local), device=device), counts_row, output_size=total)

    focal = prims.focal[:, primitive]
    v = ((y_row + 0.5) / height - 0.5) / focal[1]
    ray = prims.ray[:, primitive]
    per_row = torch.cat([ray[0:3] / (focal[0] * width), ray[3:6] * v + ray[6:9], prims.origin[:, primitive]])
    slope_x, slope_y, slope_z, at_x, at_y, at_z, *origin = per_row[:, row].unbind(0)
    column = torch.arange(total, device=device) + shift_row[row]
    u = column.to(torch.float32) + (0.5 - 0.5 * width)
    direction = (at_x + slope_x * u, at_y + slope_y * u, at_z + slope_z * u)
    row_start = (prims.scene[primitive] * height + y_row) * width
    return _Pairs(primitive[row], row_start[row] + column, direction, tuple(origin))


def camera_rays(cameras: Cameras, width: int, height: int, device: torch.device) -> Rays:
    """The rays of all pixel centres."""
    u = (np.arange(width) + 0.5) / width - 0.5
    v = (np.arange(height) + 0.5) / height - 0.5
    x = u[None] / cameras.focal[:, :1]
    down = v[None] / cameras.focal[:, 1:]
    y = down * cameras.rotation[:, 1, 1, None] + cameras.rotation[:, 1, 2, None]
    z = down * cameras.rotation[:, 2, 1, None] + cameras.rotation[:, 2, 2, None]
    x, y, z = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (x, y, z))
    shape = (cameras.focal.shape[0], height, width)
    return Rays(
        x[:, None, :].expand(shape).flatten(1),
        y[:, :, None].expand(shape).flatten(1),
        z[:, :, None].expand(shape).flatten(1),
        torch.from_numpy(-cameras.position[:, 1:2].astype(np.float32)).to(device),
        torch.from_numpy((1.0 / (cameras.focal[:, 1:] * height)).astype(np.float32)).to(device),
    )


def ground_depth(rays: Rays) -> Tensor:
    """(B, N) metres, inf where the ray does not meet the ground."""
    depth = torch.where(rays.y > 0, rays.camera_height_m / rays.y.clamp(min=1e-9), torch.inf)
    return torch.where(depth <= GROUND_EXTENT_M, depth, torch.inf)


def nearest(
    prims: DevicePrimitives, rect: np.ndarray, ground: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Depth and primitive id (B * N,) of the nearest surface. The id is NO_PRIMITIVE for ground and sky."""
    keys = pack(ground.flatten(), NO_PRIMITIVE)
    for name, first, last in zip(SHAPES, prims.bounds[:-1], prims.bounds[1:]):
        pairs = _pairs(prims, rect, first, last, width, height)
        if pairs is None:
            continue
        t = first_hit(*INTERVALS[name](pairs.origin, pairs.direction))
        hit = torch.isfinite(t).nonzero().squeeze(1)
        keys.scatter_reduce_(0, pairs.pixel[hit], pack(t[hit], pairs.primitive[hit]), "amin")
    return unpack(keys)


def shadowed(
    prims: DevicePrimitives, rect: np.ndarray, depth: Tensor, on_ground: Tensor, width: int, height: int
) -> Tensor:
    """(B * N,) float32: 1 where an object hides the sun from a ground pixel, else 0."""
    shadow = torch.zeros_like(depth)
    for name, first, last in zip(SHAPES, prims.bounds[:-1], prims.bounds[1:]):
        pairs = _pairs(prims, rect, first, last, width, height)
        if pairs is None:
            continue
        t = torch.where(on_ground[pairs.pixel], depth[pairs.pixel], torch.nan)
        start = tuple(o + t * d for o, d in zip(pairs.origin, pairs.direction))
        near, far = INTERVALS[name](start, prims.sun[:, pairs.primitive].unbind(0))
        shadow[pairs.pixel[(near <= far) & (far > 0)]] = 1.0
    return shadow


def surface_normals(prims: DevicePrimitives, rays: Rays, depth: Tensor, primitive: Tensor, pixel: Tensor) -> Tensor:
    """Unit world normals (K, 3) of the visible object pixels `pixel` (K,), whose primitives are `primitive` (K,)."""
    to_canonical = prims.to_canonical[primitive]
    flat = torch.stack([rays.x.flatten()[pixel], rays.y.flatten()[pixel], rays.z.flatten()[pixel]], dim=1)
    offset = torch.einsum("kij,kj->ki", to_canonical, flat * depth[pixel, None])
    q = prims.origin.T[primitive] + offset
    normal = torch.empty_like(q)
    for index, name in enumerate(SHAPES):
        mine = ((primitive >= prims.bounds[index]) & (primitive < prims.bounds[index + 1])).nonzero().squeeze(1)
        normal[mine] = NORMALS[name](q[mine])
    return torch.nn.functional.normalize(torch.einsum("kij,ki->kj", to_canonical, normal), dim=1)
