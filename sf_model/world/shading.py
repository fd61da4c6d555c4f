"""Colours of the world: lit surfaces, patterned ground and sky. Display-referred RGB, no tone mapping."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .palette import GROUNDS, SKIES
from .scene import GROUND_EXTENT_M, Scene


def _pattern(kind: str, x: Tensor, z: Tensor) -> Tensor:
    """The pattern in [-1, 1] at ground coordinates in units of its period."""
    if kind == "blobs":
        return torch.sin(4.1 * x + 1.3 * torch.sin(3.3 * z)) * torch.sin(4.7 * z + 1.1 * torch.sin(3.7 * x))
    if kind == "ripples":
        return torch.sin(2 * torch.pi * (z + 0.25 * torch.sin(1.5 * x)))
    if kind == "planks":
        return (3 * torch.sin(torch.pi * x)).clamp(-1, 1)
    return (4 * torch.sin(torch.pi * x) * torch.sin(torch.pi * z)).clamp(-1, 1)


def ground_albedo(scenes: Sequence[Scene], x_m: Tensor, z_m: Tensor, pixel_x_m: Tensor, pixel_z_m: Tensor) -> Tensor:
    """Albedo (B, N, 3) of ground points (B, N). The pattern fades where a pixel covers more than a quarter of a period.

    pixel_x_m, pixel_z_m (B, N): size of a pixel on the ground, across and along the view.
    """
    grounds = [GROUNDS[s.ground] for s in scenes]
    rows = [[*g.base, *g.second, g.period_m, g.contrast] for g in grounds]
    material = torch.tensor(rows, dtype=torch.float32, device=x_m.device)
    base, second = material[:, None, 0:3], material[:, None, 3:6]
    period, contrast = material[:, 6:7], material[:, 7:8]
    value = torch.zeros_like(x_m)
    coverage = torch.zeros_like(x_m)
    for kind in sorted({g.pattern for g in grounds}):
        index = torch.tensor([b for b, g in enumerate(grounds) if g.pattern == kind], device=x_m.device)
        value[index] = _pattern(kind, x_m[index] / period[index], z_m[index] / period[index])
        coverage[index] = pixel_x_m[index] if kind == "planks" else torch.maximum(pixel_x_m[index], pixel_z_m[index])
    fade = (1.5 - 2.0 * coverage / period).clamp(0.0, 1.0)
    mix = 0.5 + 0.5 * contrast * fade * value
    return base + (second - base) * mix[..., None]


def sky_parameters(scenes: Sequence[Scene], device: torch.device) -> Tensor:
    """(B, 13): horizon, zenith, sun and ambient RGB, cloud contrast."""
    skies = [SKIES[s.sky] for s in scenes]
    rows = [[*k.horizon, *k.zenith, *k.sun, *k.ambient, k.cloud_contrast] for k in skies]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def sky_color(parameters: Tensor, direction_x: Tensor, direction_y: Tensor, direction_z: Tensor) -> Tensor:
    """Sky RGB (B, N, 3) for ray directions (B, N). parameters: of `sky_parameters`."""
    level = (direction_x * direction_x + direction_z * direction_z).sqrt().clamp(min=1e-6)
    slope = (-direction_y / level).clamp(min=0.0)
    height = slope / (slope + 0.45)
    turn = direction_x / level
    cloud = torch.sin(7.0 * turn + 2.0 * torch.sin(9.0 * slope)) * torch.sin(11.0 * slope + 3.0 * turn)
    horizon, zenith = parameters[:, None, 0:3], parameters[:, None, 3:6]
    color = horizon + (zenith - horizon) * height[..., None]
    return color + (0.10 * parameters[:, 12:13] * cloud)[..., None]


def distance_haze(color: Tensor, depth_m: Tensor, parameters: Tensor) -> Tensor:
    """Blend ground colours (B, N, 3) towards the horizon's colour with depth (B, N)."""
    weight = 0.6 * (depth_m / GROUND_EXTENT_M).clamp(max=1.0) ** 1.5
    return color + (parameters[:, None, 0:3] - color) * weight[..., None]
