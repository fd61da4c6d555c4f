"""The range of a metric depth in one sentence, for people."""

from __future__ import annotations

import torch

from .metric_depth import MetricDepth

# The median is that of about so many surfaces: enough for three digits.
_MEDIAN_VALUES = 2**20


def range_sentence(depth: MetricDepth) -> str:
    """Of all images together: Surfaces from 1.50 to 8.20 m, median 4.10 m; no surface in 12%."""
    surfaces = depth.depth[depth.valid]
    if surfaces.numel() == 0:
        return "No surface anywhere."
    nearest, farthest = surfaces.amin().item(), surfaces.amax().item()
    sentence = f"Surfaces from {metres(nearest)} to {metres(farthest)} m, median {metres(median(surfaces))} m"
    without = 1 - surfaces.numel() / depth.depth.numel()
    return f"{sentence}; no surface in {without:.0%}." if without > 0 else f"{sentence}."


def median(values: torch.Tensor) -> float:
    """The median of a tensor with at least one value; of many values, that of every n-th."""
    return values.flatten()[:: max(1, values.numel() // _MEDIAN_VALUES)].median().item()


def metres(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}" if value >= 0.001 else f"{value:.1g}"
