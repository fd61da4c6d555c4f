"""The shaded picture of a composed scene: one colour for each object, a ground with squares of one metre, a sky."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..rendering.shading import lit
from .camera import ScaffoldCamera, View
from .raycast import combine

OBJECT_COLORS = (
    (0.83, 0.33, 0.27),
    (0.27, 0.50, 0.80),
    (0.90, 0.70, 0.25),
    (0.35, 0.65, 0.38),
    (0.60, 0.42, 0.72),
    (0.30, 0.68, 0.70),
    (0.88, 0.52, 0.65),
    (0.62, 0.50, 0.38),
)
GROUND_COLORS = ((0.50, 0.50, 0.48), (0.60, 0.60, 0.58))
HORIZON_COLOR, ZENITH_COLOR = (0.86, 0.90, 0.94), (0.55, 0.70, 0.88)
AMBIENT, SUN = (0.62, 0.63, 0.67), (0.50, 0.48, 0.44)
# The sun is high, to the left and behind the camera.
TO_SUN = (-0.40, -0.72, -0.57)


def sky(camera: ScaffoldCamera, u: Tensor, v: Tensor) -> Tensor:
    """(K, 3) colours of rays that hit nothing, by their slopes (K,)."""
    x, y, z = combine(camera.rotation, u, v)
    height = (-y / (x * x + y * y + z * z).sqrt()).clamp(0, 1).sqrt().unsqueeze(1)
    low, high = torch.tensor([HORIZON_COLOR, ZENITH_COLOR], dtype=torch.float64)
    return low + (high - low) * height


def ground_albedo(camera: ScaffoldCamera, view: View, u: Tensor, v: Tensor, depth: Tensor) -> Tensor:
    """(K, 3) colours of the ground: squares of 1 m, which fade where a pixel is nearly as large."""
    x, y, z = (depth * part for part in combine(camera.rotation, u, v))
    square = ((x + camera.position_m[0]).floor() + (z + camera.position_m[2]).floor()) % 2
    reach = (x * x + y * y + z * z).sqrt()
    pixel_m = reach * reach / y.abs().clamp(min=1e-6) / view.focal_px
    mix = 0.5 + (square - 0.5) * (1.5 - 2 * pixel_m).clamp(0, 1)
    first, second = torch.tensor(GROUND_COLORS, dtype=torch.float64)
    return first + (second - first) * mix.unsqueeze(1)


def object_albedo(index: Tensor) -> Tensor:
    """(K, 3) colours of object indices. They repeat after OBJECT_COLORS."""
    return torch.tensor(OBJECT_COLORS, dtype=torch.float64)[index % len(OBJECT_COLORS)]


def shade(albedo: Tensor, normal: Tensor, camera: ScaffoldCamera, u: Tensor, v: Tensor) -> Tensor:
    """(K, 3) lit colours. normal: (K, 3) in the world, of any length, towards or away from the camera."""
    ray = torch.stack(combine(camera.rotation, u, v), dim=1)
    normal = normalize(normal, dim=1)
    normal = torch.where((normal * ray).sum(dim=1, keepdim=True) > 0, -normal, normal)
    ambient, sun, to_sun = (torch.tensor(value, dtype=torch.float64) for value in (AMBIENT, SUN, TO_SUN))
    facing = (normal @ normalize(to_sun, dim=0)).clamp(min=0)
    return lit(albedo, normal[:, 1], facing, ambient, sun)
