"""AbsRel and delta1, the two usual measures of metric depth (Eigen et al. 2014)."""

from __future__ import annotations

import torch

DELTA1_RATIO = 1.25


def abs_rel(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) mean of |depth - true| / true over the pixels with a true surface; true_m (B, H, W) is inf for sky."""
    return _mean_over_surface((depth_m / _finite(true_m) - 1).abs(), true_m)


def delta1(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) share of the pixels with a true surface whose depth is within a factor of 1.25."""
    ratio = depth_m / _finite(true_m)
    return _mean_over_surface((torch.maximum(ratio, 1 / ratio) < DELTA1_RATIO).float(), true_m)


def _finite(true_m: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isfinite(true_m), true_m, torch.ones_like(true_m))


def _mean_over_surface(values: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    valid = torch.isfinite(true_m)
    return torch.where(valid, values, torch.zeros_like(values)).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
