"""Turns the grey depth picture of a preprocessor into metres between two given distances."""

from __future__ import annotations

import torch

from .fitting import fit_mask
from .metric_depth import MetricDepth

DISPARITY, DEPTH = "disparity", "depth"
# Lossy compression colours grey pictures a little. Colour maps colour them a lot.
_COLOR_TOLERANCE = 0.15
_RANGE_TOLERANCE = 1e-3


def depth_from_image(
    image: torch.Tensor,
    near_m: float,
    far_m: float,
    fov_y_deg: float,
    encoding: str = DISPARITY,
    invert: bool = False,
    no_surface: torch.Tensor | None = None,
) -> MetricDepth:
    """The metres of a grey picture. White is near_m and black is far_m; `invert` swaps them.

    image: (B, H, W, C) in [0, 1], C = 1, 3 or 4. encoding: what the grey values are linear in, "disparity" (1 / z, as
    depth estimators draw it) or "depth" (z). no_surface: (1 or B, h, w), above 0.5 where there is no surface; resized
    to the picture. Raises ValueError for values out of range, colours, and a mask that does not fit.
    """
    if not 0 < near_m < far_m:
        raise ValueError(
            f"swap near_m and far_m, or change them: near_m ({near_m:g}) must be above 0 and below far_m ({far_m:g})"
        )
    nearness = _grey(image)
    if invert:
        nearness = 1 - nearness
    if encoding == DISPARITY:
        depth = 1 / (1 / far_m + nearness * (1 / near_m - 1 / far_m))
    else:
        depth = far_m + nearness * (near_m - far_m)
    depth = depth.clamp(near_m, far_m)
    if no_surface is not None:
        depth = depth.masked_fill(_without_surface(no_surface, depth), torch.inf)
    return MetricDepth.checked(depth, torch.ones_like(depth), depth.new_full((len(depth),), fov_y_deg))


def _grey(image: torch.Tensor) -> torch.Tensor:
    """(B, H, W) in [0, 1]."""
    colors = image[..., :3].float()
    if not torch.isfinite(colors).all():
        raise ValueError("use Load Metric Depth for metres: the image has NaN or infinite values")
    low, high = colors.min().item(), colors.max().item()
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(
            f"use Load Metric Depth for metres: the image has values from {low:g} to {high:g}, but a depth picture has "
            "0 to 1"
        )
    spread = colors.amax(-1) - colors.amin(-1)
    if (spread > _COLOR_TOLERANCE).float().mean() > 0.01:
        raise ValueError(
            "switch off the colour map of the preprocessor: the image is coloured, so its values have no order from "
            "near to far"
        )
    return colors.mean(-1).clamp(0, 1)


def _without_surface(mask: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """(1 or B, H, W) bool."""
    count, height, width = depth.shape
    # On the CPU: Apple's MPS has no antialiased resizing.
    mask = fit_mask(mask.cpu(), height, width, other_name="the image")
    if len(mask) not in (1, count):
        raise ValueError(
            f"give one mask, or one each: the mask has a batch of {len(mask)}, but the image a batch of {count}"
        )
    return (mask > 0.5).to(depth.device)
