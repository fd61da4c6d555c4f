"""Edits of a metric depth under masks: blend two, scale, shift, move to a distance, clamp, lower the confidence.

Soft masks act in log depth: half way between 1 m and 4 m is 2 m, so a feathered edge is equally smooth near and far.
Where the mask is exactly 0 or 1, the depth is exactly the original or the edited one. Only a blend can turn surface
into sky or sky into surface. Masks are on the depth's device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .enlarging import enlarge
from .fitting import check_aspect, fit_mask, resize, same_batch
from .metric_depth import MetricDepth

# At the edge of a 50 degree image, one degree moves a point by 2% of its distance from the centre.
FOV_TOLERANCE_DEG = 1.0


@dataclass(frozen=True)
class DepthAdjustment:
    """What `adjust_depth` does, in this order. Raises ValueError for values that are out of range or contradict."""

    # Above 0.
    scale: float = 1.0
    shift_m: float = 0.0
    # The region's median surface is moved to this distance. 0: off.
    distance_m: float = 0.0
    # On: distance_m scales all of the image. Off: only the region.
    distance_moves_all: bool = False
    # Depth is clamped to these. 0: no limit.
    min_m: float = 0.0
    max_m: float = 0.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"set scale above 0: it is {self.scale:g}")
        if min(self.distance_m, self.min_m, self.max_m) < 0:
            raise ValueError("set distance_m, min_m and max_m to 0 or more: metres from the camera cannot be negative")
        if 0 < self.max_m < self.min_m:
            raise ValueError(
                f"swap min_m and max_m, or set one to 0 (no limit): min_m {self.min_m:g} is above max_m {self.max_m:g}"
            )


def resize_depth(depth: MetricDepth, height: int, width: int) -> MetricDepth:
    """The same view at another size. ValueError where the aspect ratio differs.

    A smaller size averages the log depth of the surfaces in a pixel; a pixel that is mostly sky becomes sky. A larger
    size keeps the edges of objects sharp.
    """
    own_height, own_width = depth.depth.shape[-2:]
    if (own_height, own_width) == (height, width):
        return depth
    check_aspect("the second geometry", (own_height, own_width), "the first", (height, width))
    if own_height <= height and own_width <= width:
        return _enlarged(depth, height, width)
    surface = depth.valid.float()
    log_depth = torch.where(depth.valid, depth.depth, torch.ones_like(depth.depth)).log()
    share = resize(surface, height, width)
    resized = (resize(log_depth * surface, height, width) / share.clamp_min(1e-6)).exp()
    return MetricDepth(
        depth=torch.where(share >= 0.5, resized, torch.full_like(resized, torch.inf)),
        confidence=resize(depth.confidence, height, width).clamp(0, 1),
        fov_y_deg=depth.fov_y_deg,
    )


def _enlarged(depth: MetricDepth, height: int, width: int) -> MetricDepth:
    valid = depth.valid
    log_depth = torch.where(valid, depth.depth, torch.ones_like(depth.depth)).log()
    maps = torch.stack([log_depth, depth.confidence, valid.to(log_depth.dtype)], dim=1)
    log_depth, confidence, surface = enlarge(maps, log_depth, valid, height, width).unbind(1)
    return MetricDepth(
        torch.where(surface > 0.5, log_depth.exp(), torch.full_like(log_depth, torch.inf)),
        confidence.clamp(0, 1),
        depth.fov_y_deg,
    )


def repeat_depth(depth: MetricDepth, count: int) -> MetricDepth:
    """The depth of one image, `count` times. A batch of `count` stays as it is."""
    return MetricDepth(
        depth.depth.expand(count, -1, -1), depth.confidence.expand(count, -1, -1), depth.fov_y_deg.expand(count)
    )


def blend_depths(a: MetricDepth, b: MetricDepth, mask: torch.Tensor, ignore_camera: bool = False) -> MetricDepth:
    """a where the mask is 0, b where it is 1, and a blend in log depth between. Size and camera are those of a.

    Where only one of the two has a surface, mask values below 0.5 take a and others b. The confidence is blended
    linearly. b and the mask (..., h, w) are resized to a. Raises ValueError where aspect ratios or batches do not fit,
    or where fields of view differ by more than FOV_TOLERANCE_DEG without `ignore_camera`.
    """
    height, width = a.depth.shape[-2:]
    weight = fit_mask(mask, height, width)
    b = resize_depth(b, height, width)
    count = same_batch({"geometry_a": a.depth.shape[0], "geometry_b": b.depth.shape[0], "mask": weight.shape[0]})
    a, b, weight = repeat_depth(a, count), repeat_depth(b, count), weight.expand(count, -1, -1)
    difference = (a.fov_y_deg - b.fov_y_deg).abs()
    if not ignore_camera and (difference > FOV_TOLERANCE_DEG).any():
        worst = int(difference.argmax())
        raise ValueError(
            "measure or make both with the same camera, or set ignore_camera to use the first's for both: the vertical "
            f"fields of view differ by more than {FOV_TOLERANCE_DEG:g} degrees. They are {a.fov_y_deg[worst]:.1f} and "
            f"{b.fov_y_deg[worst]:.1f} degrees"
        )
    chosen = torch.where(weight < 0.5, a.depth, b.depth)
    blended = torch.where(a.valid & b.valid, _log_blend(a.depth, b.depth, weight), chosen)
    return MetricDepth(blended, torch.lerp(a.confidence, b.confidence, weight), a.fov_y_deg)


def adjust_depth(depth: MetricDepth, adjustment: DepthAdjustment, region: torch.Tensor | None = None) -> MetricDepth:
    """Scale, shift, move to a distance and clamp the surfaces under a mask.

    region: (..., h, w), where 1 is all of the change. None: all of the image.
    distance_m scales the depth of each image until the median over the region (mask at least 0.5) is at that distance
    along the optical axis. No other change of distance keeps every silhouette and shape; the object's real size changes
    in proportion. shift_m adds metres along the optical axis: thickness stays, width and height follow the distance.
    Raises ValueError where a shift ends behind the camera, or where distance_m is set and the region has no surface.
    """
    height, width = depth.depth.shape[-2:]
    weight = torch.ones_like(depth.depth[:1]) if region is None else fit_mask(region, height, width)
    count = same_batch({"geometry": depth.depth.shape[0], "mask": weight.shape[0]})
    depth, weight = repeat_depth(depth, count), weight.expand(count, -1, -1)
    metres = depth.depth
    if adjustment.scale != 1 or adjustment.shift_m != 0:
        metres = _log_blend(metres, _scale_and_shift(metres, weight, adjustment), weight)
    if adjustment.distance_m > 0:
        factor = (adjustment.distance_m / _medians(metres, weight)).view(-1, 1, 1)
        moved = metres * factor
        metres = moved if adjustment.distance_moves_all else _log_blend(metres, moved, weight)
    if adjustment.min_m > 0 or adjustment.max_m > 0:
        clamped = metres.clamp(adjustment.min_m or None, adjustment.max_m or None)
        metres = _log_blend(metres, clamped, weight)
    return replace(depth, depth=metres)


def scale_confidence(depth: MetricDepth, mask: torch.Tensor) -> MetricDepth:
    """The confidence times a mask (..., h, w). 1 keeps it; 0 leaves the diffusion model free there."""
    weight = fit_mask(mask, *depth.depth.shape[-2:], name="confidence_mask")
    depth = repeat_depth(depth, same_batch({"geometry": depth.depth.shape[0], "confidence_mask": weight.shape[0]}))
    return replace(depth, confidence=depth.confidence * weight)


def _scale_and_shift(metres: torch.Tensor, weight: torch.Tensor, adjustment: DepthAdjustment) -> torch.Tensor:
    """The new metres where the mask is above 0. ValueError where a surface would be behind the camera."""
    moved = torch.where(weight > 0, metres * adjustment.scale + adjustment.shift_m, metres)
    if (moved <= 0).any():
        nearest = (metres * adjustment.scale)[moved <= 0].min()
        raise ValueError(
            f"shift by less, or use scale or distance_m: shift_m {adjustment.shift_m:g} moves surfaces behind the "
            f"camera. The nearest is {nearest:.3g} m away{' after scaling' if adjustment.scale != 1 else ''}"
        )
    return moved


def _medians(metres: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(B,) median depth over the surfaces where the mask is at least 0.5."""
    medians = []
    for index, (image, mask) in enumerate(zip(metres, weight)):
        surfaces = image[(mask >= 0.5) & torch.isfinite(image)]
        if surfaces.numel() == 0:
            raise ValueError(
                "paint the mask over the object, or set distance_m to 0: distance_m needs a surface to measure, but "
                f"the mask of image {index + 1} covers none. It is black, or on the sky"
            )
        medians.append(surfaces.median())
    return torch.stack(medians)


def _log_blend(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """exp((1 - weight) log a + weight log b), for depths with the same sky. Exact where the weight is 0 or 1."""
    between = torch.lerp(a.log(), b.log(), weight).exp()
    between = torch.where(weight == 0, a, torch.where(weight == 1, b, between))
    return torch.where(torch.isfinite(a), between, a)
