"""Scene description of the synthetic metric world: objects on a ground plane, one camera, one sun.

Axes and headings are those of `rendering.frame`. The origin is on the ground under the camera. The camera is at
(0, -height_m, 0), looks along +z and is pitched down by pitch_deg. Camera axes are OpenCV's (x right, y down, z
forward). Pixel centres lie at ((column + 0.5) / W, (row + 0.5) / H).
"""

from dataclasses import dataclass

from ..rendering.frame import heading_vector, right_vector

GROUND_EXTENT_M = 100.0
"""Depth at which the ground ends. Beyond it and above the horizon is sky, at infinite depth."""


@dataclass(frozen=True)
class SceneObject:
    """One object on the ground."""

    # A name of `categories.CATEGORIES`.
    category: str
    # A name of `palette.COLORS`.
    color: str
    # (x, z) of the footprint's centre.
    position_m: tuple[float, float]
    # Where the front points.
    heading_deg: float
    # (length, width, height): along the front axis, across it, and up.
    size_m: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Pinhole camera with square pixels and a centred principal point."""

    height_m: float
    # Positive downwards.
    pitch_deg: float
    fov_y_deg: float


@dataclass(frozen=True)
class Scene:
    """Objects on a ground, under a sky, in front of a camera."""

    camera: Camera
    objects: tuple[SceneObject, ...]
    # A name of `palette.GROUNDS`.
    ground: str
    # A name of `palette.SKIES`.
    sky: str
    # A heading. 0: the sun is on the camera's side, 90: to the right.
    sun_azimuth_deg: float
    # Above the horizon, in (0, 90].
    sun_elevation_deg: float


def footprint_corners(obj: SceneObject) -> tuple[tuple[float, float], ...]:
    """The four (x, z) corners of the footprint rectangle, in order around it."""
    front, right = heading_vector(obj.heading_deg), right_vector(obj.heading_deg)
    half_length, half_width = obj.size_m[0] / 2, obj.size_m[1] / 2
    return tuple(
        (
            obj.position_m[0] + along * half_length * front[0] + across * half_width * right[0],
            obj.position_m[1] + along * half_length * front[1] + across * half_width * right[1],
        )
        for along, across in ((1, 1), (1, -1), (-1, -1), (-1, 1))
    )
