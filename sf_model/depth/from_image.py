"""A depth picture from a preprocessor, grey values in [0, 1], to metres between two given distances."""

from __future__ import annotations

import torch

from .fitting import fit_mask
from .metric_depth import MetricDepth

DISPARITY, DEPTH = "disparity", "depth"
# Lossy files colour grey pictures a little, colour maps colour them a lot.
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
    """Metres of a grey picture: white is near_m and black far_m, the other way round if `invert`.

    image: (B, H, W, C) in [0, 1], C = 1, 3 or 4. encoding: what the grey values are linear in: "disparity" 1/z, as
    depth estimators draw it, or "depth" z. no_surface: (1 or B, h, w), above 0.5 where there is none; resized to the
    picture, whose aspect ratio it has. Raises ValueError, with the remedy.
    """
    if not 0 < near_m < far_m:
        raise ValueError(f"near_m ({near_m:g}) must be above 0 and below far_m ({far_m:g}); exchange or change them")
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
        raise ValueError("the image has NaN or infinite values; if they are metres, use Load Metric Depth")
    low, high = colors.min().item(), colors.max().item()
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(
            f"the image has values from {low:g} to {high:g}, but a depth picture has 0 to 1; if they are metres, use "
            "Load Metric Depth"
        )
    spread = colors.amax(-1) - colors.amin(-1)
    if (spread > _COLOR_TOLERANCE).float().mean() > 0.01:
        raise ValueError(
            "the image is coloured, so its greys have no order from near to far; switch the colour map of the "
            "preprocessor off"
        )
    return colors.mean(-1).clamp(0, 1)


def _without_surface(mask: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """(1 or B, H, W) bool."""
    count, height, width = depth.shape
    # On the CPU: Apple's MPS has no antialiased resizing.
    mask = fit_mask(mask.cpu(), height, width, other_name="the image")
    if len(mask) not in (1, count):
        raise ValueError(
            f"the mask has a batch of {len(mask)}, but the image a batch of {count}; give one mask, or one each"
        )
    return (mask > 0.5).to(depth.device)
