"""Loosens a metric depth from "exact" to "rough", for models that draw the very shape that they see.

A depth ControlNet draws a box where it sees a box. A rough depth keeps every distance, and says less about outlines:

- Behind each silhouette, what is there is drawn forward in a soft slope (in log depth) to the surface in front. What is
  in front, and the inside of every surface, keeps its metres.
- The confidence falls, most beside the silhouettes. Depth Adapter Apply then leaves the model freer there.
- `end_percent` says at which part of sampling the depth should end, so that the model makes the details by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .metric_depth import MAX_DEPTH_M, MetricDepth

# At looseness 1: how far a slope reaches, as a share of the image's shorter side.
REACH = 0.06
# At looseness 1: what is left of the confidence of a surface, and the end of the depth's use.
ROUGH_CONFIDENCE = 0.5
ROUGH_END = 0.4
# A silhouette is where the next pixel is farther by this factor, and the depth does not just go on as it did before.
STEP = math.log(1.05)
STEP_OVER_SLOPE = 2.0
# Where a slope has come this close to MAX_DEPTH_M (in log depth), there is the sky again.
SKY_MARGIN = 0.05
# Slopes are averaged over this part of their reach.
SMOOTHED_SHARE = 6
FAR_AWAY = 1e9


@dataclass(frozen=True)
class LooseDepth:
    """A loosened depth and when to stop using it."""

    depth: MetricDepth
    # In [0, 1]: for end_percent of a ControlNet or of Depth Adapter Apply.
    end_percent: float


def loosen(depth: MetricDepth, looseness: float, on_step: Callable[[], None] | None = None) -> LooseDepth:
    """looseness: 0 is exact and changes nothing, 1 is rough. on_step is called often; it may raise to cancel.

    ValueError for a looseness outside of [0, 1].
    """
    if not 0 <= looseness <= 1:
        raise ValueError(f"set looseness between 0 (exact) and 1 (rough): it is {looseness:g}")
    end_percent = 1 - (1 - ROUGH_END) * looseness
    reach = reach_px(looseness, *depth.depth.shape[-2:])
    if looseness == 0:
        return LooseDepth(depth, end_percent)
    images = [_loosened(depth[number : number + 1], looseness, reach, on_step) for number in range(len(depth.depth))]
    return LooseDepth(MetricDepth.joined(images), end_percent)


def reach_px(looseness: float, height: int, width: int) -> int:
    """How many pixels a slope reaches beyond a silhouette: at least one."""
    return max(1, round(REACH * looseness * min(height, width)))


def silhouettes(log_depth: torch.Tensor) -> torch.Tensor:
    """(H, W) bool for a log depth (H, W): the pixels of a surface beside which the depth jumps back.

    A floor that runs to the horizon gets farther from row to row, but in every row about as much as in the one before.
    That is no silhouette.
    """
    found = torch.zeros_like(log_depth, dtype=torch.bool)
    for image, marks in ((log_depth, found), (log_depth.T, found.T)):
        marks[:-1] |= _jumps_to_the_next_row(image)
        marks[1:] |= _jumps_to_the_next_row(image.flip(0)).flip(0)
    return found


def _jumps_to_the_next_row(rows: torch.Tensor) -> torch.Tensor:
    """(H - 1, W) bool for all rows but the last: whether the next one is behind a silhouette."""
    steps = rows.diff(dim=0)
    # The first row has no step before it. It is compared with the step after it.
    before = torch.cat([steps[1:2] if len(steps) > 1 else torch.zeros_like(steps[:1]), steps[:-1]])
    return (steps > STEP) & (steps > STEP_OVER_SLOPE * before.clamp_min(0))


def nearest(
    places: torch.Tensor, values: torch.Tensor, reach: int, on_step: Callable[[], None] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """For every pixel the distance (H, W) to the nearest of the `places` (H, W) bool, and the value (H, W) there.

    Exact up to `reach` pixels; farther away, the distance is more than `reach` and the value means nothing.
    """
    square = torch.where(places, 0.0, FAR_AWAY).to(values)
    # Along the rows, then along the columns: the square of the distance is a sum of both.
    for dim in (1, 0):
        best, best_value = square.clone(), values.clone()
        size = square.shape[dim]
        for offset in range(1, min(reach, size - 1) + 1):
            if on_step is not None:
                on_step()
            for here, there in ((offset, 0), (0, offset)):
                own, own_value = (image.narrow(dim, here, size - offset) for image in (best, best_value))
                other = square.narrow(dim, there, size - offset) + offset**2
                closer = other < own
                own_value.copy_(torch.where(closer, values.narrow(dim, there, size - offset), own_value))
                own.copy_(torch.where(closer, other, own))
        square, values = best, best_value
    return square.sqrt(), values


def _loosened(depth: MetricDepth, looseness: float, reach: int, on_step: Callable[[], None] | None) -> MetricDepth:
    """One image."""
    exact = depth.log_depth()[0]
    distance, front = nearest(silhouettes(exact), exact, reach, on_step)
    is_behind = (distance <= reach) & (exact - front > STEP)
    radius = reach // SMOOTHED_SHARE
    share = (distance / (reach - radius + 1)).clamp(max=1)
    # From 1 at the silhouette to 0 at the reach, level at both ends.
    weight = torch.where(is_behind, 1 - share.square() * (3 - 2 * share), torch.zeros_like(share))
    forward = _smoothed(weight * (exact - front), is_behind | (distance > reach), radius) * is_behind
    loose = exact - forward
    metres = torch.where(forward > 0, loose.exp(), depth.depth[0])
    was_sky = ~depth.valid[0]
    is_sky = was_sky & (loose > math.log(MAX_DEPTH_M) - SKY_MARGIN)
    metres = torch.where(is_sky, torch.full_like(metres, torch.inf), metres)
    confidence = depth.confidence[0] * (1 - (1 - ROUGH_CONFIDENCE) * looseness) * (1 - looseness * weight)
    return MetricDepth(metres[None], confidence[None], depth.fov_y_deg)


def _smoothed(values: torch.Tensor, region: torch.Tensor, radius: int) -> torch.Tensor:
    """(H, W) values averaged over the pixels of the region around each: no creases where two slopes meet."""
    if radius == 0:
        return values
    inside = region.to(values)
    size = 2 * radius + 1
    kernel = torch.full((1, 1, 1, size), 1 / size).to(values)

    def mean(image: torch.Tensor) -> torch.Tensor:
        padded = F.pad(image[None, None], (radius, radius, radius, radius))
        return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[0, 0]

    return mean(values * inside) / mean(inside).clamp_min(1 / size**2)
