"""Depth baselines that see no caption. A prediction must be better."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Baselines:
    """`constant_m`: one depth in metres. `mean_map_m`: (H, W) metres."""

    constant_m: float
    mean_map_m: torch.Tensor


def fit_baselines(maps: torch.Tensor) -> Baselines:
    """The baselines for training depth maps (B, H, W) in metres, inf for sky."""
    return Baselines(_best_constant(maps[torch.isfinite(maps)]), _mean_map(maps))


def _best_constant(depths: torch.Tensor) -> float:
    """The c that minimises sum |c - d| / d: the median of d weighted by 1 / d."""
    ordered = depths.double().sort().values
    weight = (1 / ordered).cumsum(0)
    return ordered[torch.searchsorted(weight, weight[-1:] / 2)].item()


def _mean_map(maps: torch.Tensor) -> torch.Tensor:
    valid = torch.isfinite(maps)
    logs = torch.where(valid, maps, torch.ones_like(maps)).log()
    overall = logs[valid].mean()
    count = valid.sum(dim=0)
    mean = logs.sum(dim=0) / count.clamp_min(1)
    return torch.where(count > 0, mean, overall).exp()
