"""What becomes of measured normals when the depth is edited. MoGe 2 measures normals finer than those of its points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .images import surface_normals
from .metric_depth import MetricDepth

# Two factors that differ by less are one: several times the rounding of float32. With a focal length of 1000 pixels a
# slope of the factor of 1e-6 a pixel turns a surface by 0.06 degrees.
_FACTOR_TOLERANCE = 1e-6


def adjusted_normals(after: MetricDepth, before: MetricDepth, own: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) unit normals, in OpenCV axes, of a depth that was edited. own: those before the edit.

    A normal is kept where the edit scaled the surface by one factor, since scaling from the camera turns no surface.
    Elsewhere it is computed from the edited depth.
    """
    kept = _only_scaled(_ratio(before, after))
    return torch.where(kept.unsqueeze(-1), own.to(after.depth), surface_normals(after))


def blended_normals(after: MetricDepth, sources: Sequence[tuple[MetricDepth, torch.Tensor]]) -> torch.Tensor:
    """(B, H, W, 3) unit normals, in OpenCV axes, of a depth that was put together of others.

    sources: depths of its size and camera, with their normals; the first ones have priority. A normal is taken where
    the depth is the source's, else computed.
    """
    normals = surface_normals(after)
    for before, own in reversed(sources):
        ratio = _ratio(before, after)
        taken = _only_scaled(ratio) & ((ratio - 1).abs() <= _FACTOR_TOLERANCE)
        normals = torch.where(taken.unsqueeze(-1), own.to(normals), normals)
    return normals


def resized_normals(normals: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, h, w, 3) -> (B, height, width, 3): the nearest ones, so that none lies between two surfaces."""
    if normals.shape[1:3] == (height, width):
        return normals
    return F.interpolate(normals.movedim(-1, 1), size=(height, width), mode="nearest-exact").movedim(1, -1)


def _ratio(before: MetricDepth, after: MetricDepth) -> torch.Tensor:
    """(B, H, W) by what the depth was multiplied; NaN where there was or is no surface."""
    return torch.where(before.valid & after.valid, after.depth / before.depth, torch.nan)


def _only_scaled(ratio: torch.Tensor) -> torch.Tensor:
    """(B, H, W) bool: a surface before and after, and one neighbour in each direction was scaled by the same factor."""
    return torch.isfinite(ratio) & _agrees(ratio, dim=1) & _agrees(ratio, dim=2)


def _agrees(ratio: torch.Tensor, dim: int) -> torch.Tensor:
    """Whether the ratio is that of the neighbour before or after along `dim`. Alone in its line: yes."""
    size = ratio.shape[dim]
    if size == 1:
        return torch.ones_like(ratio, dtype=torch.bool)
    first, second = ratio.narrow(dim, 0, size - 1), ratio.narrow(dim, 1, size - 1)
    same = (first / second - 1).abs() <= _FACTOR_TOLERANCE
    agrees = torch.zeros_like(ratio, dtype=torch.bool)
    agrees.narrow(dim, 0, size - 1).logical_or_(same)
    agrees.narrow(dim, 1, size - 1).logical_or_(same)
    return agrees
