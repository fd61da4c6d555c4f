"""Scene description of the synthetic metric world: objects on a ground plane, one camera, one sun.

World frame: right-handed, x right, y down, z forward, origin on the ground under the camera, ground plane y = 0.
The camera sits at (0, -height_m, 0), looks along +z and is pitched down by pitch_deg. Camera axes are OpenCV's
(x right, y down, z forward); pixel centres lie at ((column + 0.5) / W, (row + 0.5) / H).

Headings are seen from above: 0 points towards the camera side (-z), 90 to image right (+x), 180 away (+z), 270 to
image left (-x). An object whose front points to image right shows its right side to the camera.
"""

import math
from dataclasses import dataclass

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


def heading_vector(heading_deg: float) -> tuple[float, float]:
    """Unit (x, z) vector of a heading."""
    angle = math.radians(heading_deg)
    return math.sin(angle), -math.cos(angle)


def right_vector(heading_deg: float) -> tuple[float, float]:
    """Unit (x, z) vector that points to the right-hand side of something with this heading."""
    front_x, front_z = heading_vector(heading_deg)
    return front_z, -front_x


def focal_lengths(fov_y_deg: float, aspect: float) -> tuple[float, float]:
    """Normalised focal lengths (fx / W, fy / H) for square pixels and aspect = W / H."""
    fy = 0.5 / math.tan(math.radians(fov_y_deg) / 2)
    return fy / aspect, fy


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
