"""Turns the depth picture of a preprocessor into metres, by what its grey values are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .fitting import fit_mask
from .lens import RAY, depth_of_rays
from .metric_depth import MetricDepth

DISPARITY, DEPTH = "disparity", "depth"
# Lossy compression colours grey pictures a little. Colour maps colour them a lot.
_COLOR_TOLERANCE = 0.15
_RANGE_TOLERANCE = 1e-3


def _log(nearness: torch.Tensor, near_m: float, far_m: float) -> torch.Tensor:
    return far_m * (near_m / far_m) ** nearness


def _disparity(nearness: torch.Tensor, near_m: float, far_m: float) -> torch.Tensor:
    return 1 / (1 / far_m + nearness * (1 / near_m - 1 / far_m))


def _depth(nearness: torch.Tensor, near_m: float, far_m: float) -> torch.Tensor:
    return far_m + nearness * (near_m - far_m)


def _relative(nearness: torch.Tensor, near_m: float, far_m: float) -> torch.Tensor:
    """Depth Pro's nodes take 1 / (1 + metres)."""
    low, high = 1 / (1 + far_m), 1 / (1 + near_m)
    return 1 / (low + nearness * (high - low)) - 1


def _inverse(values: torch.Tensor) -> torch.Tensor:
    """The same, not stretched. Values above 1 are no distance; 0 is infinitely far."""
    return torch.where(values <= 1, 1 / values - 1, torch.nan)


# Greys between white (near_m) and black (far_m): by the name of the encoding, metres of a nearness in [0, 1]. The names
# are those of the nodes and models that draw such pictures.
STRETCHED: dict[str, Callable[[torch.Tensor, float, float], torch.Tensor]] = {
    DISPARITY: _disparity,
    DEPTH: _depth,
    "Log (Marigold V2)": _log,
    "Uniform (Marigold V2)": _depth,
    "Disparity (Marigold V2)": _disparity,
    "MarigoldDepthEstimation": _depth,
    "metric (Depth Anything V2)": _depth,
    "v2_style (Render Depth Anything 3)": _depth,
    "min_max (Render Depth Anything 3)": _depth,
    "Metric Depth to Relative (Depth Pro)": _relative,
}
METRIC_DEPTH, INVERSE, DA3_RAW = (
    "metric_depth (Depth Pro)",
    "Metric Depth to Inverse (Depth Pro)",
    "raw (Render Depth Anything 3)",
)
# Images whose values are distances by themselves, and not between near_m and far_m: metres of the values, before the
# factor of `depth_from_image`.
ABSOLUTE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    METRIC_DEPTH: lambda values: values,
    INVERSE: _inverse,
    DA3_RAW: lambda values: values,
}
ENCODINGS = (*STRETCHED, *ABSOLUTE)


@dataclass(frozen=True)
class GreyScale:
    """What the values of a depth picture are. Raises ValueError for a range that is none."""

    # One of ENCODINGS.
    encoding: str = DISPARITY
    # Metres of white and black. Not used by ABSOLUTE encodings.
    near_m: float = 1.0
    far_m: float = 20.0
    # White is far. Not used by ABSOLUTE encodings.
    invert: bool = False
    # What ABSOLUTE values are multiplied by.
    metres_per_value: float = 1.0

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"choose another encoding: there is no {self.encoding!r}")
        if self.encoding in STRETCHED and not 0 < self.near_m < self.far_m:
            raise ValueError(
                f"swap near_m and far_m, or change them: near_m ({self.near_m:g}) must be above 0 and below far_m "
                f"({self.far_m:g})"
            )


def depth_from_image(
    image: torch.Tensor,
    scale: GreyScale,
    fov_y_deg: float,
    no_surface: torch.Tensor | None = None,
    distance: str = "",
) -> MetricDepth:
    """The metres of a depth picture.

    image: (B, H, W, C), C = 1, 3 or 4; in [0, 1] for STRETCHED encodings, else any numbers. Of ABSOLUTE encodings,
    values that are no distance (0 and below, NaN, infinite) are no surface. no_surface: (1 or B, h, w), above 0.5 where
    there is no surface; resized to the picture. distance: one of lens.DISTANCES, what the metres measure.
    Raises ValueError for values out of range, colours, and a mask that does not fit.
    """
    depth = _absolute(image, scale) if scale.encoding in ABSOLUTE else _stretched(image, scale)
    if no_surface is not None:
        depth = depth.masked_fill(_without_surface(no_surface, depth), torch.inf)
    metric = MetricDepth.checked(depth, torch.ones_like(depth), depth.new_full((len(depth),), fov_y_deg))
    return replace(metric, depth=depth_of_rays(depth, metric.fov_y_deg)) if distance == RAY else metric


def _stretched(image: torch.Tensor, scale: GreyScale) -> torch.Tensor:
    colors = image[..., :3].float()
    if not torch.isfinite(colors).all():
        raise ValueError("use Load Metric Depth for metres: the image has NaN or infinite values")
    low, high = colors.min().item(), colors.max().item()
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(
            f"set encoding to {METRIC_DEPTH} if the values are metres, or use Load Metric Depth: the image has values "
            f"from {low:g} to {high:g}, but a picture of {scale.encoding} has 0 to 1"
        )
    _check_grey(colors)
    greys = colors.mean(-1).clamp(0, 1)
    nearness = 1 - greys if scale.invert else greys
    return STRETCHED[scale.encoding](nearness, scale.near_m, scale.far_m).clamp(scale.near_m, scale.far_m)


def _absolute(image: torch.Tensor, scale: GreyScale) -> torch.Tensor:
    colors = image[..., :3].float()
    _check_grey(colors)
    depth = ABSOLUTE[scale.encoding](colors[..., 0]) * scale.metres_per_value
    surface = torch.isfinite(depth) & (depth > 0)
    if not surface.any():
        raise ValueError(
            "connect the metric output of the depth node, or set another encoding: no value of the image is a distance "
            f"by {scale.encoding}"
        )
    return torch.where(surface, depth, torch.inf)


def _check_grey(colors: torch.Tensor) -> None:
    """ValueError for more colour than compression makes of grey."""
    spread = (colors.amax(-1) - colors.amin(-1)).nan_to_num(0.0)
    # Values above 1 are distances, which differ by as much more.
    if (spread > _COLOR_TOLERANCE * colors.amax(-1).abs().clamp_min(1)).float().mean() > 0.01:
        raise ValueError(
            "switch off the colour map of the preprocessor: the image is coloured, so its values have no order from "
            "near to far"
        )


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
