"""Enlarges depth maps without the flying pixels of plain interpolation.

Bilinear interpolation across the edge of an object makes false surfaces between the object and its background. Here a
pixel mixes its nearest sample only with samples of the same surface. So slopes stay slopes and edges stay edges.
"""

from __future__ import annotations

import torch

# Two neighbouring samples are one surface up to this difference in log depth (10% of the depth), ...
SAME_SURFACE = 0.1
# ... or up to this many times the slope on both sides of them, as on a floor at a low angle.
SLOPE_FACTOR = 3.0


def enlarge(maps: torch.Tensor, log_depth: torch.Tensor, valid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, C, h, w) -> (B, C, height, width), pixel centres aligned as in `F.interpolate(align_corners=False)`.

    log_depth: (B, h, w) natural logarithm of the metres. valid: (B, h, w) bool, where there is a surface. Samples with
    and without a surface are never mixed. Differentiable in `maps`.
    """
    across, down = (_is_one_surface(log_depth.detach(), valid, axis) for axis in (2, 1))
    top, near_row, share_y = _samples(height, maps.shape[-2], maps.device)
    left, near_column, share_x = _samples(width, maps.shape[-1], maps.device)
    far_row = 2 * top + 1 - near_row
    far_column = 2 * left + 1 - near_column
    rows, columns = maps.shape[-2] - 1, maps.shape[-1] - 1
    far_row, far_column = far_row.clamp(max=rows), far_column.clamp(max=columns)

    def at(values: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return values.index_select(-2, row).index_select(-1, column)

    near_across, far_across = at(across, near_row, left), at(across, far_row, left)
    near_down, far_down = at(down, top, near_column), at(down, top, far_column)
    # The diagonal sample is of the nearest one's surface if one of the two paths to it stays on that surface.
    diagonal = (near_across & far_down) | (near_down & far_across)
    y, x = share_y[:, None], share_x[None, :]
    parts = (
        (near_row, near_column, y * x, torch.ones_like(diagonal)),
        (near_row, far_column, y * (1 - x), near_across),
        (far_row, near_column, (1 - y) * x, near_down),
        (far_row, far_column, (1 - y) * (1 - x), diagonal),
    )
    total = torch.zeros((), dtype=maps.dtype, device=maps.device)
    weights = torch.zeros((), dtype=maps.dtype, device=maps.device)
    for row, column, share, is_same in parts:
        weight = (share * is_same).to(maps.dtype).unsqueeze(1)
        total = total + weight * at(maps, row, column)
        weights = weights + weight
    return total / weights


def _samples(size: int, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each of `size` pixels over `count` samples: the sample before it, the nearest sample, and its weight."""
    place = ((torch.arange(size, device=device) + 0.5) * count / size - 0.5).clamp(0, count - 1)
    before = place.floor().long().clamp(max=max(0, count - 2))
    part = place - before
    near = (before + (part > 0.5).long()).clamp(max=count - 1)
    return before, near, torch.maximum(part, 1 - part)


def _is_one_surface(log_depth: torch.Tensor, valid: torch.Tensor, axis: int) -> torch.Tensor:
    """(B, h, w) bool: whether a sample and the next one along `axis` (1 down, 2 across) are of one surface.

    The last sample has no next one. Its value is never used.
    """
    count = log_depth.shape[axis]
    if count == 1:
        return torch.ones_like(valid)
    # The depth of a sample without a surface has no meaning.
    log_depth = torch.where(valid, log_depth, torch.zeros_like(log_depth))
    step = (log_depth.narrow(axis, 1, count - 1) - log_depth.narrow(axis, 0, count - 1)).abs()
    same_kind = valid.narrow(axis, 1, count - 1) == valid.narrow(axis, 0, count - 1)
    # A step to or from the sky is no slope.
    slopes = torch.where(same_kind, step, torch.zeros_like(step))
    slope = torch.zeros_like(step)
    if count > 2:
        # The steps before and after each step. At a border there is only one.
        first, last = slopes.narrow(axis, 1, 1), slopes.narrow(axis, count - 3, 1)
        before = torch.cat([first, slopes.narrow(axis, 0, count - 2)], dim=axis)
        after = torch.cat([slopes.narrow(axis, 1, count - 2), last], dim=axis)
        slope = torch.minimum(before, after)
    one = same_kind & (step <= torch.clamp(SLOPE_FACTOR * slope, min=SAME_SURFACE))
    return torch.cat([one, torch.ones_like(one.narrow(axis, 0, 1))], dim=axis)
