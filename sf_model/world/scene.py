"""Scene description of the synthetic metric world: objects on a ground plane, one camera, one sun.

The axes and headings are those of `rendering.frame`; the origin is on the ground under the camera. The camera sits at
(0, -height_m, 0), looks along +z and is pitched down by pitch_deg. Camera axes are OpenCV's (x right, y down, z
forward); pixel centres lie at ((column + 0.5) / W, (row + 0.5) / H).
"""

from dataclasses import dataclass

from ..rendering.frame import heading_vector, right_vector

GROUND_EXTENT_M = 100.0
"""Depth at which the ground ends; beyond it and above the horizon there is only sky, at infinite depth."""


@dataclass(frozen=True)
class SceneObject:
    """One object: `category` and `color` are names, `position_m` is the (x, z) centre of the footprint.

    `size_m` is (length, width, height): along the front axis, across it, and up. `heading_deg` is where the front
    points.
    """

    category: str
    color: str
    position_m: tuple[float, float]
    heading_deg: float
    size_m: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Pinhole camera with square pixels and a centred principal point; `pitch_deg` is positive downwards."""

    height_m: float
    pitch_deg: float
    fov_y_deg: float


@dataclass(frozen=True)
class Scene:
    """A camera, its objects, the kinds of ground and sky, and the direction towards the sun.

    `sun_azimuth_deg` follows the heading convention (0: the sun is on the camera's side, 90: to the right);
    `sun_elevation_deg` is above the horizon, in (0, 90].
    """

    camera: Camera
    objects: tuple[SceneObject, ...]
    ground: str
    sky: str
    sun_azimuth_deg: float
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
