"""Draws the ground plane and solids into a z-buffer, with exact depth by `rendering.intersect`.

Rays have unit camera z, so the ray parameter is the depth. All is computed in float64, in blocks of at most
`BLOCK_PIXELS` pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..rendering.intersect import INTERVALS, NORMALS, Vec, first_hit
from ..rendering.zbuffer import pack
from .camera import ScaffoldCamera, View
from .objects import PlacedSolid

NEAR_M = 0.01
"""Surfaces nearer than this along the optical axis are cut off."""
BLOCK_PIXELS = 2**18
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def blocks(total: int, size: int = BLOCK_PIXELS) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive ranges that cover range(total)."""
    for first in range(0, total, size):
        yield first, min(first + size, total)


def slopes(column: Tensor, row: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Camera coordinates u and v, at depth 1, of the centres of these columns and rows."""
    u = (column.double() + (0.5 - 0.5 * view.width)) / view.focal_px
    v = (row.double() + (0.5 - 0.5 * view.height)) / view.focal_px
    return u, v


def pixel_slopes(pixel: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """`slopes` of flat pixel indices."""
    return slopes(pixel % view.width, pixel // view.width, view)


def combine(matrix: np.ndarray, u: Tensor, v: Tensor) -> Vec:
    """matrix @ (u, v, 1) for each pixel, as a triple."""
    return tuple(row[0] * u + row[1] * v + row[2] for row in matrix.tolist())


def cast_ground(keys: Tensor, view: View, camera: ScaffoldCamera, extent_m: float, primitive: int) -> None:
    """Draw the plane y = 0, up to depth extent_m, into the z-buffer `keys` (H * W,), in place.

    A camera in the plane does not see it. A camera below it sees it from below.
    """
    for first, last in blocks(len(keys)):
        u, v = pixel_slopes(torch.arange(first, last), view)
        down = combine(camera.rotation[1:2], u, v)[0]
        t = -camera.position_m[1] / down
        seen = (t >= NEAR_M) & (t <= extent_m)
        _merge(keys, torch.arange(first, last)[seen], t[seen], primitive)


def cast_solid(keys: Tensor, view: View, camera: ScaffoldCamera, solid: PlacedSolid, primitive: int) -> None:
    """Draw a solid into the z-buffer `keys` (H * W,), in place. From inside, its far side is visible."""
    to_canonical, origin = canonical_frame(camera, solid)
    x0, y0, x1, y1 = _rectangle(camera, solid, view)
    if x0 >= x1:
        return
    u, _ = slopes(torch.arange(x0, x1), torch.zeros(1), view)
    image = keys.view(view.height, view.width)
    for first, last in blocks(y1 - y0, max(1, BLOCK_PIXELS // (x1 - x0))):
        rows = slice(y0 + first, y0 + last)
        _, v = slopes(torch.zeros(1), torch.arange(rows.start, rows.stop), view)
        direction = tuple(a * u + (b * v + c)[:, None] for a, b, c in to_canonical.tolist())
        near, far = INTERVALS[solid.solid](origin, direction)
        # The ray starts at the near plane. So a solid that this plane cuts shows its inside.
        t = first_hit(near - NEAR_M, far - NEAR_M) + NEAR_M
        window = image[rows, x0:x1]
        found = torch.where(torch.isfinite(t), pack(t.float(), primitive), window)
        torch.minimum(window, found, out=window)


def canonical_frame(camera: ScaffoldCamera, solid: PlacedSolid) -> tuple[np.ndarray, Vec]:
    """(3, 3) from camera axes to the solid's canonical axes, and the camera's position in these."""
    inverse = np.linalg.inv(solid.matrix)
    origin = inverse @ (camera.position_m - solid.centre)
    return inverse @ camera.rotation, tuple(torch.tensor(value) for value in origin.tolist())


def solid_normals(solid: PlacedSolid, camera: ScaffoldCamera, u: Tensor, v: Tensor, depth: Tensor) -> Tensor:
    """(K, 3) world normals of the solid, of any length, at pixels with these slopes and depths (K,)."""
    to_canonical, origin = canonical_frame(camera, solid)
    point = torch.stack([o + depth * d for o, d in zip(origin, combine(to_canonical, u, v))], dim=1)
    return NORMALS[solid.solid](point) @ torch.from_numpy(np.linalg.inv(solid.matrix))


def _merge(keys: Tensor, pixel: Tensor, depth: Tensor, primitive: int) -> None:
    """Keep the nearer surface. pixel: each at most once."""
    keys[pixel] = torch.minimum(keys[pixel], pack(depth.float(), primitive))


def _rectangle(camera: ScaffoldCamera, solid: PlacedSolid, view: View) -> tuple[int, int, int, int]:
    """Half-open pixel rectangle (x0, y0, x1, y1) around the solid's box. All of the image if the near plane cuts it."""
    corners = camera.to_camera(_CORNERS @ solid.matrix.T + solid.centre)
    if (corners[:, 2] < NEAR_M).all():
        return 0, 0, 0, 0
    if (corners[:, 2] < NEAR_M).any():
        return 0, 0, view.width, view.height
    size = np.array([view.width, view.height])
    pixel = corners[:, :2] / corners[:, 2:] * view.focal_px + size / 2
    low = np.clip(np.ceil(pixel.min(axis=0) - 0.5 - 1e-6), 0, size).astype(int)
    high = np.clip(np.floor(pixel.max(axis=0) - 0.5 + 1e-6) + 1, low, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
