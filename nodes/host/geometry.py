"""MetricDepth <-> the host's geometry dicts.

MOGE_GEOMETRY: depth (B, H, W) metres, inf or masked where there is no surface; mask (B, H, W) bool; intrinsics
(B, 3, 3) normalised by width and height (panoramas have none); points (B, H, W, 3) OpenCV axes; image (B, H, W, 3);
and, where it is ours, confidence (B, H, W) in [0, 1]. MoGe's principal point is always the centre: where another
extension's is not, the geometry is refused, as depth files are.
DA3_GEOMETRY: depth (B, H, W) and mode. The Metric model, the only one whose depth is in metres, adds the sky's
probability (B, H, W); so does Mono, which therefore cannot be told from it. Small and Base add a confidence instead,
whose numbers have no upper bound, and several views at once intrinsics (1, B, 3, 3). These are in pixels, but of the
size that the model ran at, not of the depth: only ratios within them mean something, so that the principal point is
taken as the centre. "cam_dec" puts it there; "ray_pose" estimates it, near there. One view alone gets a unit matrix.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
import torch.nn.functional as F

from ...sf_model.depth.colours import depth_picture
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.files.units import CAMERA_TOLERANCE

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


def to_metric_depth(geometry: dict[str, Any], any_scale: bool = False) -> MetricDepth:
    """The depth in either of the host's geometry dicts. ValueError, with the remedy, where it is not in metres.

    Nothing in the dicts tells Depth Anything 3 Mono from Metric, or MoGe 1 from MoGe 2: all are taken as metres.
    any_scale: take depths without a unit too, for a caller that is about to scale them to metres.
    """
    if "depth" not in geometry:
        raise ValueError("this geometry has no depth; use a model that gives depth, or Predict Metric Depth")
    depth = geometry["depth"].float()
    if depth.ndim != 3:
        raise ValueError(f"a geometry's depth is (batch, height, width), got {tuple(depth.shape)}")
    is_da3 = "mode" in geometry
    if is_da3 and not any_scale:
        _check_metres(geometry)
    surface = geometry["sky"] < 0.5 if "sky" in geometry else geometry.get("mask")
    if surface is not None:
        depth = torch.where(surface.to(depth.device).bool(), depth, torch.full_like(depth, torch.inf))
    try:
        return MetricDepth(
            depth=depth,
            confidence=_confidence(geometry, depth),
            fov_y_deg=_da3_fov_y_deg(geometry, depth) if is_da3 else _fov_y_deg(geometry, depth),
        )
    except ValueError as error:
        raise ValueError(
            f"this geometry cannot be used: {error}. Connect Predict Metric Depth, or a depth estimator that "
            "gives metres"
        ) from error


def texture(geometry: dict[str, Any], depth: MetricDepth) -> torch.Tensor:
    """(B, H, W, 3) in [0, 1], of the depth's size and batch: the geometry's image; without one, the depth's colours."""
    count, height, width = depth.depth.shape
    if "image" not in geometry:
        return depth_picture(depth).movedim(1, -1)
    image = geometry["image"].to(depth.depth)[..., :3].movedim(-1, 1)
    if image.shape[-2:] != (height, width):
        image = F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return image.movedim(1, -1).expand(count, -1, -1, -1)


def _check_metres(geometry: dict[str, Any]) -> None:
    """ValueError for a Depth Anything 3 geometry of the models whose depth has no unit."""
    if "confidence" in geometry or "sky" not in geometry:
        raise ValueError(
            "this Depth Anything 3 geometry is not in metres: the Small and Base models give depth without a scale. "
            "Load the Depth Anything 3 Metric model, use MoGe 2, or scale it to metres first: Adjust Metric Depth with "
            "the distance_m of something in the image, moving the whole image"
        )


def _confidence(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "confidence" in geometry and "mode" not in geometry:
        return geometry["confidence"].to(depth)
    return torch.ones_like(depth)


def _fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "intrinsics" not in geometry:
        raise ValueError("it has no camera (a panorama?)")
    batch, height, width = depth.shape
    intrinsics = geometry["intrinsics"].to(depth).reshape(-1, 3, 3).expand(batch, 3, 3)
    focal_x_px, focal_y_px = intrinsics[:, 0, 0] * width, intrinsics[:, 1, 1] * height
    if not ((focal_x_px / focal_y_px - 1).abs() <= CAMERA_TOLERANCE).all():
        raise ValueError(
            f"its intrinsics contradict its size: at {width}x{height} pixels the focal length is "
            f"{focal_x_px[0]:.1f} pixels across and {focal_y_px[0]:.1f} down, but pixels are square"
        )
    _check_centre(intrinsics[:, :2, 2])
    return torch.rad2deg(2 * torch.atan(0.5 / intrinsics[:, 1, 1]))


def _check_centre(point: torch.Tensor) -> None:
    """ValueError for a principal point (B, 2), in parts of the size, that is not in the centre: one rule with files."""
    off = (point - 0.5).abs().amax(dim=1)
    if not (off <= CAMERA_TOLERANCE).all():
        x, y = point[off.argmax()].tolist()
        raise ValueError(
            f"its principal point is off the centre, at {x:.2f} of its width and {y:.2f} of its height (a cropped "
            "picture?), but the camera has to look through the centre; measure the depth after the crop"
        )


def _da3_fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    """Of several views from their cameras, whose principal point is half the size.

    What the host assumes where there is no camera: for one view alone, and where its search for a camera failed.
    """
    batch, height, width = depth.shape
    assumed = depth.new_full((batch,), 0.5 * height / (DA3_DEFAULT_FOCAL * width))
    half_height = assumed
    if "intrinsics" in geometry:
        intrinsics = geometry["intrinsics"].to(depth).reshape(-1, 3, 3)
        half_height = intrinsics[:, 1, 2] / intrinsics[:, 1, 1]
    found = torch.isfinite(half_height) & (half_height > 0)
    return torch.rad2deg(2 * torch.atan(torch.where(found, half_height, assumed)))
