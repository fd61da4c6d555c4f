"""MetricDepth <-> the host's geometry dicts.

MOGE_GEOMETRY: depth (B, H, W) metres, inf or masked where there is no surface; mask (B, H, W) bool; intrinsics
(B, 3, 3) normalised by width and height (panoramas have none); points (B, H, W, 3) OpenCV axes; image (B, H, W, 3);
and, where it is ours, confidence (B, H, W) in [0, 1].
DA3_GEOMETRY: depth (B, H, W) and mode. The Metric model, the only one whose depth is in metres, adds the sky's
probability (B, H, W); so does Mono, which therefore cannot be told from it. Small and Base add a confidence instead.
"""

from __future__ import annotations

import math
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
    """The depth in either of the host's geometry dicts. ValueError, with the remedy, where it is not in metres.

    Nothing in the dicts tells Depth Anything 3 Mono from Metric, or MoGe 1 from MoGe 2: all are taken as metres.
    """
    if "depth" not in geometry:
        raise ValueError("this geometry has no depth; use a model that gives depth, or Predict Metric Depth")
    depth = geometry["depth"].float()
    if depth.ndim != 3:
        raise ValueError(f"a geometry's depth is (batch, height, width), got {tuple(depth.shape)}")
    is_da3 = "mode" in geometry
    if is_da3:
        _check_metres(geometry)
    surface = geometry["sky"] < 0.5 if "sky" in geometry else geometry.get("mask")
    if surface is not None:
        depth = torch.where(surface.to(depth.device).bool(), depth, torch.full_like(depth, torch.inf))
    try:
        return MetricDepth(
            depth=depth,
            confidence=_confidence(geometry, depth),
            fov_y_deg=_da3_fov_y_deg(depth) if is_da3 else _fov_y_deg(geometry, depth),
        )
    except ValueError as error:
        raise ValueError(
            f"this geometry cannot be used: {error}. Connect Predict Metric Depth, or a depth estimator that "
            "gives metres"
        ) from error


def _check_metres(geometry: dict[str, Any]) -> None:
    """ValueError for a Depth Anything 3 geometry of the models whose depth has no unit."""
    if "confidence" in geometry or "sky" not in geometry:
        raise ValueError(
            "this Depth Anything 3 geometry is not in metres: the Small and Base models give depth without a scale. "
            "Load the Depth Anything 3 Metric model, use MoGe 2, or connect a geometry whose depth is scaled to metres"
        )


def _confidence(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "confidence" in geometry:
        return geometry["confidence"].to(depth)
    return torch.ones_like(depth)


def _fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "intrinsics" not in geometry:
        raise ValueError("it has no camera (a panorama?)")
    focal = geometry["intrinsics"].to(depth)[:, 1, 1]
    return torch.rad2deg(2 * torch.atan(0.5 / focal))


def _da3_fov_y_deg(depth: torch.Tensor) -> torch.Tensor:
    """The metric model gives no camera."""
    batch, height, width = depth.shape
    fov_y = 2 * math.atan(0.5 * height / (DA3_DEFAULT_FOCAL * width))
    return depth.new_full((batch,), math.degrees(fov_y))
