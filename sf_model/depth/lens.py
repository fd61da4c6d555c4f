"""Cameras as people state them: focal lengths instead of fields of view, and distances along the rays.

All cameras here have square pixels and look through the centre of the picture.
"""

from __future__ import annotations

import math

import torch

# The longer side of a full-frame sensor. It is Blender's default too. The focal lengths in photos (EXIF's "35 mm
# equivalent") fit the sensor's diagonal: for a picture of 4:3 they give a field of view that is 4% narrower.
FULL_FRAME_MM = 36.0
AXIS, RAY = "optical axis", "ray"
DISTANCES = (AXIS, RAY)


def fov_y_of_focal_mm(focal_mm: float, height: int, width: int) -> float:
    """The vertical field of view in degrees of a lens on a sensor whose longer side is FULL_FRAME_MM."""
    return fov_y_of_focal_px(focal_mm * max(height, width) / FULL_FRAME_MM, height)


def fov_y_of_focal_px(focal_px: float, height: int) -> float:
    """The vertical field of view in degrees of a focal length in pixels of a picture with this height."""
    return math.degrees(2 * math.atan(0.5 * height / focal_px))


def stated_fov_y(fov_y_deg: float, focal_mm: float, focal_px: float, height: int, width: int) -> float:
    """The vertical field of view in degrees that a user states. A focal length of 0 is none.

    A focal length takes the place of fov_y_deg. ValueError for two of them, and for negative ones.
    """
    if min(focal_mm, focal_px) < 0:
        raise ValueError(
            f"set focal_length_mm and focal_length_px to 0 or more: they are {focal_mm:g} and {focal_px:g}"
        )
    if focal_mm > 0 and focal_px > 0:
        raise ValueError(
            "set focal_length_mm or focal_length_px to 0: a camera has one focal length, and both are set, to "
            f"{focal_mm:g} mm and {focal_px:g} pixels"
        )
    if focal_mm > 0:
        return fov_y_of_focal_mm(focal_mm, height, width)
    return fov_y_of_focal_px(focal_px, height) if focal_px > 0 else fov_y_deg


def depth_of_rays(distance_m: torch.Tensor, fov_y_deg: torch.Tensor) -> torch.Tensor:
    """(B, H, W) depth along the optical axis, from distances (B, H, W) along the ray of each pixel.

    fov_y_deg: (B,). Infinite distances stay infinite.
    """
    _, height, width = distance_m.shape
    focal_px = (0.5 * height / torch.tan(torch.deg2rad(fov_y_deg) / 2)).view(-1, 1, 1)
    y = torch.arange(height, device=distance_m.device) + 0.5 - height / 2
    x = torch.arange(width, device=distance_m.device) + 0.5 - width / 2
    return distance_m / (1 + (x.square() + y.square().unsqueeze(-1)) / focal_px.square()).sqrt()
