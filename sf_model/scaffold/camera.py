"""Pinhole cameras of composed scenes: from height and pitch, or from a y-up 3D viewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# From a viewer's world (x right, y up, z towards the viewer, right-handed) to ours (x right, y down, z forward).
_FROM_Y_UP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class ScaffoldCamera:
    """A camera in the world frame of `rendering.frame`, with square pixels and a centred principal point.

    Raises ValueError for values that are not finite and for a field of view out of range.
    """

    # (3,).
    position_m: Array
    # (3, 3): the columns are the camera's right, down and forward axes.
    rotation: Array
    # In (0, 180).
    fov_y_deg: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.position_m).all() and np.isfinite(self.rotation).all()):
            raise ValueError("set the camera again: its position or direction is not finite")
        if not 0 < self.fov_y_deg < 180:
            raise ValueError(f"set the camera's field of view between 0 and 180 degrees: it is {self.fov_y_deg}")

    @classmethod
    def level(cls, height_m: float, pitch_deg: float, fov_y_deg: float) -> ScaffoldCamera:
        """A camera above the origin that looks along z and is pitched down by pitch_deg, as in `world.scene`."""
        p = math.radians(pitch_deg)
        rotation = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
        return cls(np.array([0.0, -height_m, 0.0]), rotation, fov_y_deg)

    @classmethod
    def look_at(cls, position: Sequence[float], target: Sequence[float], fov_y_deg: float) -> ScaffoldCamera:
        """A camera at `position` that looks at `target`, without roll. Both are in a viewer's y-up world.

        For a view straight up or down, image right is the viewer's +x, as in three.js. Raises ValueError if the two
        are one point.
        """
        eye, goal = np.array(position, dtype=np.float64), np.array(target, dtype=np.float64)
        distance = np.linalg.norm(goal - eye)
        if distance == 0:
            raise ValueError("move the camera or its target: the camera's position and target are one point")
        forward = (goal - eye) / distance
        right = np.cross(forward, [0.0, 1.0, 0.0])
        length = np.linalg.norm(right)
        right = right / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
        return cls._from_y_up(eye, right, np.cross(right, forward), forward, fov_y_deg)

    @classmethod
    def from_quaternion(
        cls, position: Sequence[float], quaternion_xyzw: Sequence[float], fov_y_deg: float
    ) -> ScaffoldCamera:
        """A viewer's camera by its rotation. Without rotation it looks along -z, with +y up. Raises ValueError."""
        x, y, z, w = np.array(quaternion_xyzw, dtype=np.float64)
        norm = math.sqrt(x * x + y * y + z * z + w * w)
        if not (math.isfinite(norm) and norm > 0):
            raise ValueError("set the camera again: its quaternion is zero or not finite")
        x, y, z, w = x / norm, y / norm, z / norm, w / norm
        right = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
        up = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
        return cls._from_y_up(np.array(position, dtype=np.float64), right, up, np.cross(up, right), fov_y_deg)

    @classmethod
    def _from_y_up(cls, eye: Array, right: Array, up: Array, forward: Array, fov_y_deg: float) -> ScaffoldCamera:
        return cls(_FROM_Y_UP @ eye, _FROM_Y_UP @ np.stack([right, -up, forward], axis=1), fov_y_deg)

    def to_camera(self, world: Array) -> Array:
        """World points (..., 3) in camera axes."""
        return (world - self.position_m) @ self.rotation


@dataclass(frozen=True)
class View:
    """The pixel grid of a camera. All sizes are in pixels."""

    width: int
    height: int
    focal_px: float

    @classmethod
    def of(cls, camera: ScaffoldCamera, width: int, height: int) -> View:
        return cls(width, height, 0.5 * height / math.tan(math.radians(camera.fov_y_deg) / 2))
