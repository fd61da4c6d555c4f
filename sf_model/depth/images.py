"""A metric depth as the pictures that other models read: disparity for depth ControlNets, normals, metric ranges.

The conventions are ComfyUI's own (Render MoGe Geometry): near is white, what has no surface is black in a depth picture
and middle grey in a normal map.
"""

from __future__ import annotations

import math

import torch

from .metric_depth import MetricDepth

# Shares of the surfaces that are left out at either end, so that single pixels do not set the range.
LOW_QUANTILE, HIGH_QUANTILE = 0.001, 0.999
# torch.quantile takes no more values than this.
MAX_QUANTILE_VALUES = 2**24
MIN_DISPARITY_RANGE = 1e-6
# Normals in OpenCV axes (x right, y down, z forward, facing the camera) -> what red, green and blue stand for.
NORMAL_SIGNS: dict[str, tuple[float, float, float]] = {
    "opengl": (1.0, -1.0, -1.0),  # right, up, towards the camera
    "directx": (1.0, 1.0, -1.0),  # right, down, towards the camera
    "controlnet": (-1.0, -1.0, -1.0),  # left, up, towards the camera: ScanNet's, which NormalBae learned
}


def disparity_picture(depth: MetricDepth, near_m: float = 0.0, far_m: float = 0.0) -> torch.Tensor:
    """(B, H, W) float32 in [0, 1]: 1 / metres, white at near_m and black at far_m and where there is no surface.

    A limit of 0 is chosen image by image, at the quantile of its surfaces. An image of constant depth, whose range is
    empty, is black without limits. ValueError where near_m is not below far_m, and where the batch's surfaces are all
    beyond one of the limits: the pictures would be all white or all black.
    """
    if 0 < far_m <= near_m:
        raise ValueError(f"near_m {near_m:g} must be below far_m {far_m:g}; swap them, or set one to 0 (automatic)")
    _check_limits(depth, near_m, far_m)
    return torch.stack([_disparity(image, near_m, far_m) for image in depth.depth])


def _check_limits(depth: MetricDepth, near_m: float, far_m: float) -> None:
    if near_m <= 0 and far_m <= 0 or not depth.valid.any():
        return
    surfaces = depth.depth[depth.valid]
    nearest, farthest = surfaces.min().item(), surfaces.max().item()
    reach = f"this depth reaches from {nearest:.4g} to {farthest:.4g} m; set them within that, or to 0 (automatic)"
    if farthest < near_m:
        raise ValueError(f"near_m {near_m:g} is beyond everything, so that all would be white: {reach}")
    if 0 < far_m < nearest:
        raise ValueError(f"far_m {far_m:g} is in front of everything, so that all would be black: {reach}")


def _disparity(metres: torch.Tensor, near_m: float, far_m: float) -> torch.Tensor:
    surface = torch.isfinite(metres)
    disparity = torch.where(surface, 1 / metres, torch.zeros_like(metres))
    if not surface.any():
        return disparity
    values = disparity[surface]
    values = values[:: math.ceil(values.numel() / MAX_QUANTILE_VALUES)]
    low = disparity.new_tensor(1 / far_m) if far_m > 0 else values.quantile(LOW_QUANTILE)
    high = disparity.new_tensor(1 / near_m) if near_m > 0 else values.quantile(HIGH_QUANTILE)
    position = ((disparity - low) / (high - low).clamp_min(MIN_DISPARITY_RANGE)).clamp(0, 1)
    return torch.where(surface, position, torch.zeros_like(position))


def range_mask(depth: MetricDepth, min_m: float = 0.0, max_m: float = 0.0) -> torch.Tensor:
    """(B, H, W) float32: 1 for surfaces from min_m to max_m metres, 0 elsewhere and on the sky; max_m 0 is no limit."""
    if 0 < max_m < min_m:
        raise ValueError(f"mask_min_m {min_m:g} is above mask_max_m {max_m:g}; swap them, or set one to 0 (no limit)")
    inside = depth.valid & (depth.depth >= min_m)
    if max_m > 0:
        inside &= depth.depth <= max_m
    return inside.float()


def surface_normals(depth: MetricDepth) -> torch.Tensor:
    """(B, H, W, 3) unit normals in OpenCV axes, facing the camera; 0 where there is no surface.

    From the points on both sides of a pixel; at the image's border and beside the sky from one side. A surface pixel
    without such a neighbour faces the camera.
    """
    surface = depth.valid.unsqueeze(-1)
    points = torch.where(surface, depth.points(), torch.zeros(()).to(depth.depth))
    across = _differences(points, depth.valid, dim=2)
    down = _differences(points, depth.valid, dim=1)
    normals = torch.linalg.cross(down, across)
    length = normals.norm(dim=-1, keepdim=True)
    facing = normals.new_tensor([0.0, 0.0, -1.0])
    normals = torch.where(length > 0, normals / length.clamp_min(torch.finfo(length.dtype).tiny), facing)
    return torch.where(surface, normals, torch.zeros_like(normals))


def normal_picture(normals: torch.Tensor, convention: str) -> torch.Tensor:
    """(B, H, W, 3) OpenCV normals -> colours in [0, 1] in a convention of NORMAL_SIGNS; zero normals are grey."""
    return (normals * normals.new_tensor(NORMAL_SIGNS[convention]) * 0.5 + 0.5).clamp(0, 1)


def _differences(points: torch.Tensor, valid: torch.Tensor, dim: int) -> torch.Tensor:
    """The steps to the neighbours before and behind along `dim`, added up; those from or to no surface are 0."""
    size = points.shape[dim]
    both = valid.narrow(dim, 0, size - 1) & valid.narrow(dim, 1, size - 1)
    steps = (points.narrow(dim, 1, size - 1) - points.narrow(dim, 0, size - 1)) * both.unsqueeze(-1)
    differences = torch.zeros_like(points)
    differences.narrow(dim, 0, size - 1).add_(steps)
    differences.narrow(dim, 1, size - 1).add_(steps)
    return differences
