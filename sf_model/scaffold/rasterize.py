"""Draws triangles into a z-buffer: exact depth at pixel centres, for any number of triangles, in bounded memory.

Rasterisation in homogeneous coordinates. The ray d = (u, v, 1) of a pixel hits the triangle (a, b, c), in camera axes,
if d . (b x c), d . (c x a) and d . (a x b) do not differ in sign. The depth is a . (b x c) / their sum. That is the
intersection with the triangle's plane, so depth is perspective-correct. The near plane is a comparison and needs no
clipping. Both sides of a face are visible. Two triangles have the same numbers, up to sign, at a shared edge, so no
pixel falls between them.

Only the pixel centres in a triangle's bounding rectangle are tested. Triangles with more than `LARGE` of them are drawn
one by one. The (triangle, pixel) pairs of the others form one long list. Both are processed in pieces of at most
`PAIRS` pairs. So this takes less than 300 MB beside the vertices, the faces and the z-buffer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..rendering.zbuffer import pack
from .camera import View
from .raycast import NEAR_M, blocks, slopes

FACES = 2**17
PAIRS = 2**18
LARGE = 2**12
# Rectangles are larger by this part of a pixel, so that rounding loses no pixel centre on their border.
_MARGIN_PX = 1e-6

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Pieces:
    """F triangles that may cover pixels."""

    # (F, 12), of `_table`.
    table: Tensor
    # (F, 2): the lower corner (x, y) of the bounding rectangle, and its size, in pixels.
    rectangle: Tensor
    size: Tensor
    # (F,).
    ids: Tensor

    def only(self, chosen: Tensor) -> _Pieces:
        return _Pieces(self.table[chosen], self.rectangle[chosen], self.size[chosen], self.ids[chosen])


def rasterize(
    keys: Tensor, view: View, vertices: Tensor, faces: Tensor, first_id: int, on_progress: OnProgress | None = None
) -> None:
    """Draw triangles into the z-buffer `keys` (H * W,), in place. Triangle k has the id first_id + k.

    vertices: (N, 3) float64 in camera axes, finite. faces: (M, 3) int64, within range. Faces without area, faces seen
    edge-on and parts nearer than NEAR_M are invisible. on_progress(done, total), in faces, is called often and may
    raise to cancel.
    """
    for first, last in blocks(len(faces), FACES):
        corners = vertices[faces[first:last]]
        rectangle, size = _rectangles(corners, view)
        kept = (size.prod(dim=1) > 0).nonzero().squeeze(1)
        pieces = _Pieces(_table(corners[kept]), rectangle[kept], size[kept], kept + (first_id + first))
        is_large = pieces.size.prod(dim=1) > LARGE
        for _ in itertools.chain(
            _draw_small(keys, view, pieces.only(~is_large)), _draw_large(keys, view, pieces.only(is_large))
        ):
            if on_progress is not None:
                on_progress(first, len(faces))
        if on_progress is not None:
            on_progress(last, len(faces))


def _rectangles(corners: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Lower corner and size, both (F, 2) int64 pixels (x, y), of the rectangles around triangles (F, 3, 3)."""
    z = corners[..., 2]
    in_front = z >= NEAR_M
    pixel = corners[..., :2] / z.unsqueeze(-1).clamp(min=NEAR_M) * view.focal_px
    low, high = pixel.amin(dim=1), pixel.amax(dim=1)
    cut = (in_front.any(dim=1) & ~in_front.all(dim=1)).nonzero().squeeze(1)
    if len(cut):
        low[cut], high[cut] = _cut_bounds(corners[cut], pixel[cut], in_front[cut], view)
    limit = torch.tensor([view.width, view.height], dtype=torch.float64)
    first = (low + limit / 2 - (0.5 + _MARGIN_PX)).ceil().clamp(min=0).minimum(limit)
    last = (high + limit / 2 - (0.5 - _MARGIN_PX)).floor().add(1).clamp(min=0).minimum(limit)
    size = (last - first).clamp(min=0) * in_front.any(dim=1, keepdim=True)
    return first.long(), size.long()


def _cut_bounds(corners: Tensor, pixel: Tensor, in_front: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Bounds (F, 2) of the part in front of the near plane: by its corners and the points where edges cross it."""
    following = corners.roll(-1, dims=1)
    step = following[..., 2] - corners[..., 2]
    share = (NEAR_M - corners[..., 2]) / torch.where(step == 0, 1.0, step)
    meeting = corners[..., :2] + share.unsqueeze(-1) * (following - corners)[..., :2]
    points = torch.cat([pixel, meeting / NEAR_M * view.focal_px], dim=1)
    present = torch.cat([in_front, in_front != in_front.roll(-1, dims=1)], dim=1).unsqueeze(-1)
    low = torch.where(present, points, torch.inf).amin(dim=1)
    return low, torch.where(present, points, -torch.inf).amax(dim=1)


def _table(corners: Tensor) -> Tensor:
    """(F, 12): 3 coefficients of 3 edge functions, the determinant, the smallest and the largest depth."""
    a, b, c = corners.unbind(dim=1)
    edges = [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)]
    determinant = (a * edges[0]).sum(dim=1, keepdim=True)
    z = corners[..., 2]
    return torch.cat([*edges, determinant, z.amin(dim=1, keepdim=True), z.amax(dim=1, keepdim=True)], dim=1)


def _draw_small(keys: Tensor, view: View, pieces: _Pieces) -> Iterator[None]:
    """Draw all pairs of these triangles as one list. Yields after every piece."""
    counts = pieces.size.prod(dim=1)
    ends = counts.cumsum(dim=0)
    starts = ends - counts
    for first, last in blocks(int(counts.sum()), PAIRS):
        low = int(torch.searchsorted(ends, first, right=True))
        high = int(torch.searchsorted(ends, last - 1, right=True)) + 1
        here = ends[low:high].clamp(max=last) - starts[low:high].clamp(min=first)
        triangle = torch.repeat_interleave(torch.arange(low, high), here, output_size=last - first)
        local = torch.arange(first, last) - starts[triangle]
        columns = pieces.size[triangle, 0]
        row = torch.div(local, columns, rounding_mode="floor")
        column, row = (pieces.rectangle[triangle] + torch.stack([local - row * columns, row], dim=1)).unbind(dim=1)
        hit, depth = _hits(pieces.table[triangle], *slopes(column, row, view))
        pixel = row[hit] * view.width + column[hit]
        keys.scatter_reduce_(0, pixel, pack(depth.float(), pieces.ids[triangle[hit]]), "amin")
        yield


def _draw_large(keys: Tensor, view: View, pieces: _Pieces) -> Iterator[None]:
    """Draw one triangle after the other, some rows at a time. Yields after every piece."""
    for k, (x0, y0) in enumerate(pieces.rectangle.tolist()):
        columns, rows = pieces.size[k].tolist()
        for first, last in blocks(rows, max(1, PAIRS // columns)):
            row, column = torch.arange(y0 + first, y0 + last), torch.arange(x0, x0 + columns)
            u, v = slopes(column, row, view)
            grid = (len(row), columns)
            hit, depth = _hits(pieces.table[k : k + 1], u.expand(grid).flatten(), v[:, None].expand(grid).flatten())
            target = (row[:, None] * view.width + column).flatten()[hit]
            keys[target] = torch.minimum(keys[target], pack(depth.float(), pieces.ids[k]))
            yield


def _hits(table: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the pairs (P,) that hit, and their depths. table: (P, 12), or (1, 12) of one triangle."""
    edge = [u * table[:, k] + v * table[:, k + 1] + table[:, k + 2] for k in (0, 3, 6)]
    lowest = torch.minimum(torch.minimum(edge[0], edge[1]), edge[2])
    highest = torch.maximum(torch.maximum(edge[0], edge[1]), edge[2])
    inside = ((lowest >= 0) | (highest <= 0)) & ((lowest != 0) | (highest != 0))
    hit = inside.nonzero().squeeze(1)
    determinant, nearest, farthest = (column.expand(len(u))[hit] for column in table[:, 9:].unbind(dim=1))
    depth = determinant / (edge[0][hit] + edge[1][hit] + edge[2][hit])
    # Rounding can put points of very thin triangles outside the triangle's own range of depth.
    depth = torch.minimum(torch.maximum(depth, nearest), farthest)
    seen = (depth >= NEAR_M).nonzero().squeeze(1)
    return hit[seen], depth[seen]
