"""A metric depth map as a triangle mesh and as a point cloud, in glTF axes (x right, y up, z backward), in metres.

The host's mesh nodes drop every pixel whose 3x3 neighbourhood spans more than a share of its depth. This also drops a
floor seen at a low angle, above all at the low resolution of a predicted depth. Here a step between neighbours is a
silhouette only if neither surface continues to the other pixel. Along a line of pixels the inverse depth of a plane is
linear, at any angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .metric_depth import MetricDepth

GLTF_FROM_OPENCV = (1.0, -1.0, -1.0)


@dataclass(frozen=True)
class DepthMesh:
    """A textured mesh of N vertices and M faces."""

    # (N, 3) float32 metres in glTF axes.
    vertices: torch.Tensor
    # (M, 3) int64, anticlockwise as the camera sees them.
    faces: torch.Tensor
    # (N, 2) in [0, 1]; the origin is the image's top left.
    uvs: torch.Tensor
    # (N,) int64: row-major index of each vertex's pixel.
    pixels: torch.Tensor


def usable_pixels(
    depth: MetricDepth, stride: int = 1, confidence_threshold: float = 0.0, max_depth_m: float = torch.inf
) -> torch.Tensor:
    """(H, W) bool of one image (B = 1): every stride-th pixel across and down with a surface.

    Surfaces farther than max_depth_m or with a lower confidence than confidence_threshold do not count.
    """
    usable = torch.zeros_like(depth.valid[0])
    usable[::stride, ::stride] = True
    return usable & depth.valid[0] & (depth.depth[0] <= max_depth_m) & (depth.confidence[0] >= confidence_threshold)


def depth_to_mesh(
    depth: MetricDepth, usable: torch.Tensor, stride: int = 1, discontinuity_threshold: float = 0.05
) -> DepthMesh:
    """The mesh of one image (B = 1). Pixels without a triangle are left out.

    usable: of `usable_pixels` with the same stride. discontinuity_threshold: how far a pixel may lie from its
    neighbour's surface, as a share of the depth. 0 joins all.
    """
    _, height, width = depth.depth.shape
    device = depth.depth.device
    points = depth.points()[0, ::stride, ::stride]
    pixels = torch.arange(height * width, device=device).view(height, width)[::stride, ::stride]
    faces = _grid_faces(points[..., 2], usable[::stride, ::stride], discontinuity_threshold)
    used, faces = torch.unique(faces, return_inverse=True)
    vertices = points.reshape(-1, 3)[used] * torch.tensor(GLTF_FROM_OPENCV, device=device)
    pixels = pixels.reshape(-1)[used]
    uvs = torch.stack([(pixels % width + 0.5) / width, (pixels // width + 0.5) / height], dim=-1)
    return DepthMesh(vertices, faces.view(-1, 3), uvs, pixels)


def depth_to_points(depth: MetricDepth, usable: torch.Tensor) -> torch.Tensor:
    """(N, 3) metres in glTF axes: the usable pixels of one image (B = 1), row by row."""
    return depth.points()[0][usable] * torch.tensor(GLTF_FROM_OPENCV, device=usable.device)


def _grid_faces(z: torch.Tensor, usable: torch.Tensor, threshold: float) -> torch.Tensor:
    """(M, 3) indices into the flattened grid: up to two triangles for each square of neighbours.

    a - b      If a and c are both joined to their neighbours: adb and bdc. If one of the four is missing or cut off:
    |   |      the triangle of the other three. So the mesh follows a silhouette to the pixel.
    d - c
    """
    rows, columns = z.shape
    numbers = torch.arange(rows * columns, device=z.device).view(rows, columns)
    a, b, c, d = numbers[:-1, :-1], numbers[:-1, 1:], numbers[1:, 1:], numbers[1:, :-1]
    across = usable[:, 1:] & usable[:, :-1] & ~_breaks(z, usable, threshold)
    down = usable[1:] & usable[:-1] & ~_breaks(z.T, usable.T, threshold).T
    top, bottom, left, right = across[:-1], across[1:], down[:, :-1], down[:, 1:]
    at_a, at_b, at_c, at_d = top & left, top & right, bottom & right, bottom & left
    neither = ~(at_a | at_c)
    # All are anticlockwise in the image.
    triangles = (
        (at_a, (a, d, b)),
        (at_c, (b, d, c)),
        (at_b & neither, (a, c, b)),
        (at_d & neither, (a, d, c)),
    )
    return torch.cat([torch.stack([corner[chosen] for corner in corners], -1) for chosen, corners in triangles])


def _breaks(z: torch.Tensor, usable: torch.Tensor, threshold: float) -> torch.Tensor:
    """(rows, columns - 1) bool: whether a surface ends between a pixel and its right-hand neighbour."""
    if threshold <= 0:
        return torch.zeros_like(usable[:, 1:])
    nan = torch.full_like(z[:, :1], torch.nan)
    inverse = torch.where(usable, 1 / z, torch.nan)
    left, right = inverse[:, :-1], inverse[:, 1:]
    step = (left - right).abs()
    # The left surface, continued to the right pixel, misses it by this much; and vice versa. NaN at the borders.
    missed_right = (2 * left - torch.cat([nan, inverse[:, :-2]], dim=1) - right).abs()
    missed_left = (2 * right - torch.cat([inverse[:, 2:], nan], dim=1) - left).abs()
    missed = torch.fmin(torch.fmin(missed_right, missed_left), step)
    # A step of a share t in depth is a step of t / (1 + t) in inverse depth, relative to the nearer of the two.
    return missed / torch.maximum(left, right) > threshold / (1 + threshold)
