"""Measures of metric depth: AbsRel and delta1 (Eigen et al. 2014), and the boundary F1 of its edges."""

from __future__ import annotations

import torch

DELTA1_RATIO = 1.25
# How much farther the other side of an edge is, as a share. Each threshold is its own weight (Depth Pro, section 4.2).
BOUNDARY_THRESHOLDS = torch.linspace(0.05, 0.25, 10).tolist()


def abs_rel(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) mean of |depth - true| / true over pixels with a true surface. true_m (B, H, W) is inf for sky."""
    return _mean_over_surface((depth_m / _finite(true_m) - 1).abs(), true_m)


def delta1(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) share of the pixels with a true surface whose depth is within a factor of DELTA1_RATIO."""
    ratio = depth_m / _finite(true_m)
    return _mean_over_surface((torch.maximum(ratio, 1 / ratio) < DELTA1_RATIO).float(), true_m)


def boundaries(depth_m: torch.Tensor, threshold: float) -> torch.Tensor:
    """(B, 4, H, W) bool: whether the neighbour to the right, left, below or above is farther by more than a share.

    depth_m: (B, H, W) metres, inf for sky. threshold: that share.
    """
    found = torch.zeros(len(depth_m), 4, *depth_m.shape[1:], dtype=torch.bool, device=depth_m.device)
    ratio = 1 + threshold
    here, there = depth_m[:, :, :-1], depth_m[:, :, 1:]
    found[:, 0, :, :-1], found[:, 1, :, 1:] = there > ratio * here, here > ratio * there
    here, there = depth_m[:, :-1], depth_m[:, 1:]
    found[:, 2, :-1], found[:, 3, 1:] = there > ratio * here, here > ratio * there
    return found


def boundary_f1(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) scale-invariant boundary F1 (Depth Pro, arXiv 2410.02073, section 4.2). Maps are (B, H, W), inf for sky.

    An edge is a hit if the other map has an edge at the same pixel with the same side in front. 0 without any hit.
    """
    total = torch.zeros(len(depth_m), device=depth_m.device)
    for threshold in BOUNDARY_THRESHOLDS:
        predicted, true = boundaries(depth_m, threshold), boundaries(true_m, threshold)
        hits, predictions, truths = (x.flatten(1).sum(1).float() for x in (predicted & true, predicted, true))
        # 2PR / (P + R) with P = hits / predictions, R = hits / truths.
        total += threshold * 2 * hits / (predictions + truths).clamp_min(1)
    return total / sum(BOUNDARY_THRESHOLDS)


def _finite(true_m: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isfinite(true_m), true_m, torch.ones_like(true_m))


def _mean_over_surface(values: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    valid = torch.isfinite(true_m)
    return torch.where(valid, values, torch.zeros_like(values)).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
