"""MetricDepth <-> the host's geometry dicts.

MOGE_GEOMETRY: depth (B, H, W) metres, inf or masked where there is no surface; mask (B, H, W) bool; intrinsics
(B, 3, 3) normalised by width and height (panoramas have none); points (B, H, W, 3) OpenCV axes; image (B, H, W, 3);
and, where it is ours, confidence (B, H, W) in [0, 1].
DA3_GEOMETRY: depth (B, H, W); mode; optional sky probability (B, H, W), raw confidence (B, H, W) >= 1 and, from several
views, intrinsics (1, B, 3, 3) in pixels.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch

from ..sf_model.metric_depth import MetricDepth

# What the host assumes for a Depth Anything 3 geometry without a camera: focal length over width.
DA3_DEFAULT_FOCAL = 0.7


def to_geometry(depth: MetricDepth, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """The MOGE_GEOMETRY of a depth, on the host's intermediate device. image: (B, H, W, 3) in [0, 1], its texture."""
    device = comfy.model_management.intermediate_device()
    geometry = {
        "depth": depth.depth,
        "mask": depth.valid,
        "intrinsics": depth.intrinsics(),
        "points": depth.points(),
        "confidence": depth.confidence,
        "image": image,
    }
    return {name: value.to(device) for name, value in geometry.items()}


def to_metric_depth(geometry: dict[str, Any]) -> MetricDepth:
    """The depth in either of the host's geometry dicts. ValueError, with the remedy, where it has no metres."""
    if "depth" not in geometry:
        raise ValueError("this geometry has no depth; use a model that gives depth, or Predict Metric Depth")
    depth = geometry["depth"].float()
    if depth.ndim != 3:
        raise ValueError(f"a geometry's depth is (batch, height, width), got {tuple(depth.shape)}")
    is_da3 = "mode" in geometry
    surface = geometry["sky"] < 0.5 if "sky" in geometry else geometry.get("mask")
    if surface is not None:
        depth = torch.where(surface.to(depth.device).bool(), depth, torch.full_like(depth, torch.inf))
    try:
        return MetricDepth(
            depth=depth,
            confidence=_da3_confidence(geometry, depth) if is_da3 else _confidence(geometry, depth),
            fov_y_deg=_da3_fov_y_deg(geometry, depth) if is_da3 else _fov_y_deg(geometry, depth),
        )
    except ValueError as error:
        raise ValueError(
            f"this geometry cannot be used: {error}. Connect Predict Metric Depth, or a depth estimator that "
            "gives metres"
        ) from error


def _confidence(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "confidence" in geometry:
        return geometry["confidence"].to(depth)
    return torch.ones_like(depth)


def _da3_confidence(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    """Depth Anything 3 gives 1 + exp(logit); the sigmoid of the same logit is 1 - 1 / that."""
    if "confidence" not in geometry:
        return torch.ones_like(depth)
    return 1 - 1 / geometry["confidence"].to(depth).clamp(min=1)


def _fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "intrinsics" not in geometry:
        raise ValueError("it has no camera (a panorama?)")
    focal = geometry["intrinsics"].to(depth)[:, 1, 1]
    return torch.rad2deg(2 * torch.atan(0.5 / focal))


def _da3_fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    batch, height, width = depth.shape
    if "intrinsics" in geometry:
        focal_px = geometry["intrinsics"].to(depth)[0, :, 1, 1]
    else:
        focal_px = depth.new_full((batch,), DA3_DEFAULT_FOCAL * width)
    return torch.rad2deg(2 * torch.atan(0.5 * height / focal_px))
