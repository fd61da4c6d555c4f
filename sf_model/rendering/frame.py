"""The axes of a scene, and the pinhole camera's focal lengths.

World frame: right-handed, x right, y down, z forward. The ground is the plane y = 0. Headings are degrees, seen from
above: 0 points to the camera's side (-z), 90 to image right (+x), 180 away (+z), 270 to image left (-x). An object
whose front points to image right shows its right side to the camera.
"""

import math


def heading_vector(heading_deg: float) -> tuple[float, float]:
    """Unit (x, z) vector of a heading."""
    angle = math.radians(heading_deg)
    return math.sin(angle), -math.cos(angle)


def right_vector(heading_deg: float) -> tuple[float, float]:
    """Unit (x, z) vector to the right-hand side of an object with this heading."""
    front_x, front_z = heading_vector(heading_deg)
    return front_z, -front_x


def focal_lengths(fov_y_deg: float, aspect: float) -> tuple[float, float]:
    """Normalised focal lengths (fx / W, fy / H) for square pixels and aspect = W / H."""
    fy = 0.5 / math.tan(math.radians(fov_y_deg) / 2)
    return fy / aspect, fy
