"""Pictures of a metric depth for other models: disparity for depth ControlNets, normals, and masks of a metric range.

The conventions are those of ComfyUI's Render MoGe Geometry: near is white. Without a surface, a depth picture is black
and a normal map is middle grey.
"""

from __future__ import annotations

import math

import torch

from .metric_depth import MetricDepth

# The automatic range leaves out the ends, so that single pixels do not set it.
LOW_QUANTILE, HIGH_QUANTILE = 0.001, 0.999
# The limit of torch.quantile.
MAX_QUANTILE_VALUES = 2**24
MIN_DISPARITY_RANGE = 1e-6
# From normals in OpenCV axes (x right, y down, z forward) to the directions of red, green and blue.
NORMAL_SIGNS: dict[str, tuple[float, float, float]] = {
    "opengl": (1.0, -1.0, -1.0),  # right, up, towards the camera
    "directx": (1.0, 1.0, -1.0),  # right, down, towards the camera
    "controlnet": (-1.0, -1.0, -1.0),  # left, up, towards the camera: as in ScanNet and NormalBae
}


def disparity_picture(
    depth: MetricDepth, near_m: float = 0.0, far_m: float = 0.0, one_range: bool = True
) -> torch.Tensor:
    """(B, H, W) float32 in [0, 1]: 1 / metres, white at near_m, black at far_m and where there is no surface.

    A limit of 0 is chosen for each image, at a quantile of its surfaces. With `one_range` all images then get the
    widest of these limits, so that the same metres have the same grey in all of them. Without limits, a constant depth
    is black.
    Raises ValueError where near_m is not below far_m, and where all surfaces of the batch lie beyond one limit,
    so that all pictures would be white or black.
    """
    if 0 < far_m <= near_m:
        raise ValueError(
            f"swap near_m and far_m, or set one to 0 (automatic): near_m {near_m:g} must be below far_m {far_m:g}"
        )
    _check_limits(depth, near_m, far_m)
    ranges = [_range(image, near_m, far_m) for image in depth.depth]
    if one_range and (known := [own for own in ranges if own is not None]):
        lows, highs = zip(*known)
        ranges = [(torch.stack(lows).amin(), torch.stack(highs).amax())] * len(ranges)
    return torch.stack([_disparity(image, own) for image, own in zip(depth.depth, ranges)])


def _check_limits(depth: MetricDepth, near_m: float, far_m: float) -> None:
    if near_m <= 0 and far_m <= 0 or not depth.valid.any():
        return
    surfaces = depth.depth[depth.valid]
    nearest, farthest = surfaces.min().item(), surfaces.max().item()
    remedy = f"set near_m and far_m within this depth, from {nearest:.4g} to {farthest:.4g} m, or to 0 (automatic)"
    if farthest < near_m:
        raise ValueError(f"{remedy}: near_m {near_m:g} is behind everything, so the picture would be white")
    if 0 < far_m < nearest:
        raise ValueError(f"{remedy}: far_m {far_m:g} is in front of everything, so the picture would be black")


def _range(metres: torch.Tensor, near_m: float, far_m: float) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The disparities of black and white for one image. None for one without a surface."""
    values = 1 / metres[torch.isfinite(metres)]
    if not values.numel():
        return None
    values = values[:: math.ceil(values.numel() / MAX_QUANTILE_VALUES)]
    low = values.new_tensor(1 / far_m) if far_m > 0 else values.quantile(LOW_QUANTILE)
    high = values.new_tensor(1 / near_m) if near_m > 0 else values.quantile(HIGH_QUANTILE)
    return low, high


def _disparity(metres: torch.Tensor, limits: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
    surface = torch.isfinite(metres)
    if limits is None:
        return torch.zeros_like(metres)
    low, high = limits
    position = ((1 / metres - low) / (high - low).clamp_min(MIN_DISPARITY_RANGE)).clamp(0, 1)
    return torch.where(surface, position, torch.zeros_like(position))


def range_mask(depth: MetricDepth, min_m: float = 0.0, max_m: float = 0.0) -> torch.Tensor:
    """(B, H, W) float32: 1 for surfaces from min_m to max_m metres, else 0. max_m 0: no limit."""
    if 0 < max_m < min_m:
        raise ValueError(
            f"swap mask_min_m and mask_max_m, or set one to 0 (no limit): mask_min_m {min_m:g} is above mask_max_m "
            f"{max_m:g}"
        )
    inside = depth.valid & (depth.depth >= min_m)
    if max_m > 0:
        inside &= depth.depth <= max_m
    return inside.float()


def surface_normals(depth: MetricDepth) -> torch.Tensor:
    """(B, H, W, 3) unit normals in OpenCV axes, facing the camera. 0 where there is no surface.

    They come from the neighbours on both sides of a pixel; at the border and beside the sky, from one side. The normal
    of a surface pixel without neighbours points to the camera.
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
    """(B, H, W, 3) OpenCV normals -> colours in [0, 1]. convention: a key of NORMAL_SIGNS. Zero normals are grey."""
    return (normals * normals.new_tensor(NORMAL_SIGNS[convention]) * 0.5 + 0.5).clamp(0, 1)


def _differences(points: torch.Tensor, valid: torch.Tensor, dim: int) -> torch.Tensor:
    """The sum of the steps from and to the neighbours along `dim`. Steps beside a pixel without surface count 0."""
    size = points.shape[dim]
    both = valid.narrow(dim, 0, size - 1) & valid.narrow(dim, 1, size - 1)
    steps = (points.narrow(dim, 1, size - 1) - points.narrow(dim, 0, size - 1)) * both.unsqueeze(-1)
    differences = torch.zeros_like(points)
    differences.narrow(dim, 0, size - 1).add_(steps)
    differences.narrow(dim, 1, size - 1).add_(steps)
    return differences
