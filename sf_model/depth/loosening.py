"""Loosens a metric depth from "exact" to "rough", for models that draw the very shape that they see.

A depth ControlNet draws a box where it sees a box. A rough depth keeps every distance, and says less about outlines:

- Around each silhouette, what lies behind is drawn forward, in a curve of log depth that begins at the surface in
  front: metres = front * exp((distance / sigma)^2 / 2), as far as that is nearer than what is there. In a disparity
  picture this is a Gaussian halo. What is in front, and the inside of every surface, keeps its metres.
- The confidence falls, most where the depth was drawn forward. Depth Adapter Apply leaves the model freer there.
- `end_percent` says at which part of sampling the depth should end, so that the model makes the details by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .metric_depth import MAX_DEPTH_M, MIN_DEPTH_M, MetricDepth

# At looseness 1: the sigma of the halo, as a share of the image's shorter side.
SIGMA = 0.04
# At looseness 1: what is left of the confidence of a surface, and the end of the depth's use.
ROUGH_CONFIDENCE = 0.5
ROUGH_END = 0.4
# A pixel that was drawn forward by this factor, or more, has no confidence at looseness 1.
UNSURE = math.log(2.0)
# A silhouette is where the next pixel is farther by this factor, and the depth does not just go on as it did before.
# A halo begins this much behind the silhouette, so that it never reaches the slanted surface that it belongs to.
STEP = math.log(1.05)
STEP_OVER_SLOPE = 2.0
# Where a halo has come this close to MAX_DEPTH_M (in log depth), there is the sky again.
SKY_MARGIN = 0.05
LOG_MAX = math.log(MAX_DEPTH_M)
# From the nearest to the farthest depth: no halo goes on beyond.
LONGEST_RISE = math.log(MAX_DEPTH_M / MIN_DEPTH_M)
# Halos are smooth. Larger images compute them at a part of their size.
MAX_SIDE_PX = 1024


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
    if looseness == 0:
        return LooseDepth(depth, end_percent)
    images = [_loosened(depth[number : number + 1], looseness, on_step) for number in range(len(depth.depth))]
    return LooseDepth(MetricDepth.joined(images), end_percent)


def sigma_px(looseness: float, height: int, width: int) -> float:
    """The sigma of the halos of an image, in pixels."""
    return SIGMA * looseness * min(height, width)


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


def halo(
    fronts: torch.Tensor, sigma: float, stride: int = 1, on_step: Callable[[], None] | None = None
) -> torch.Tensor:
    """(H, W): the smallest fronts + (distance / sigma)^2 / 2 over all pixels of `fronts` (H, W).

    fronts: log depth at silhouettes, LOG_MAX or more elsewhere. Values from LOG_MAX on are not exact. stride: compute
    it at a part of the size. A front then counts for its whole block.
    """
    height, width = fronts.shape
    nearest = -F.max_pool2d(-fronts[None, None], stride, ceil_mode=True)[0, 0]
    rise = (stride / sigma) ** 2 / 2
    reach = math.ceil(math.sqrt(LONGEST_RISE / rise))
    # Along the rows, then along the columns: the square of the distance is a sum of both.
    for dim in (1, 0):
        given, nearest = nearest, nearest.clone()
        size = given.shape[dim]
        for offset in range(1, min(reach, size - 1) + 1):
            if on_step is not None:
                on_step()
            for here, there in ((offset, 0), (0, offset)):
                other = given.narrow(dim, there, size - offset) + rise * offset**2
                own = nearest.narrow(dim, here, size - offset)
                torch.minimum(own, other, out=own)
    nearest = nearest.clamp(max=LOG_MAX)
    if stride == 1:
        return nearest
    blocks = (nearest.shape[0] * stride, nearest.shape[1] * stride)
    return F.interpolate(nearest[None, None], size=blocks, mode="bilinear")[0, 0, :height, :width]


def _loosened(depth: MetricDepth, looseness: float, on_step: Callable[[], None] | None) -> MetricDepth:
    """One image."""
    exact = depth.log_depth()[0]
    fronts = torch.where(silhouettes(exact), exact + STEP, torch.full_like(exact, LOG_MAX))
    stride = math.ceil(min(exact.shape) / MAX_SIDE_PX)
    forward = (exact - halo(fronts, sigma_px(looseness, *exact.shape), stride, on_step)).clamp_min(0)
    loose = exact - forward
    metres = torch.where(forward > 0, loose.exp(), depth.depth[0])
    is_sky = ~depth.valid[0] & (loose > LOG_MAX - SKY_MARGIN)
    metres = torch.where(is_sky, torch.full_like(metres, torch.inf), metres)
    unsure = (forward / UNSURE).clamp(max=1)
    confidence = depth.confidence[0] * (1 - (1 - ROUGH_CONFIDENCE) * looseness) * (1 - looseness * unsure)
    return MetricDepth(metres[None], confidence[None], depth.fov_y_deg)
