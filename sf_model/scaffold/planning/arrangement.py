"""The objects of a layout while they are arranged: where they are as the camera sees them, and how they are moved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...rendering.frame import heading_vector
from ...rendering.intersect import INTERVALS
from .. import footprint
from ..camera import View
from ..layout import MAX_POSITION_M, MAX_SIZE_M, MIN_SIZE_M, LayoutCamera, LayoutObject
from ..layout_view import ProjectedBox, projected_box
from .claims import Claim

_HALVINGS = 50
# Boxes are compared with the picture by shares, so that any size will do.
_VIEW_HEIGHT = 256
# Claims that do not say where an object is.
NO_PLACE = frozenset(
    (
        "height",
        "width",
        "length",
        "height_ratio",
        "volume_ratio",
        "taller_m",
        "wider_m",
        "longer_m",
        "taller",
        "smaller",
    )
    + ("facing", "facing_object", "same_way", "opposite_ways")
)


class Arrangement:
    """A list of objects that claims move. Indices are those of the layout."""

    def __init__(
        self, things: Sequence[LayoutObject], claims: Sequence[Claim], camera: LayoutCamera, aspect: float
    ) -> None:
        """aspect: width / height of the picture."""
        self.things = list(things)
        self._camera = camera.scaffold()
        self.view = View.of(self._camera, max(1, round(_VIEW_HEIGHT * aspect)), _VIEW_HEIGHT)
        # Half of the camera's horizontal field of view.
        self.half_view_deg = math.degrees(math.atan(aspect * math.tan(math.radians(camera.fov_y_deg) / 2)))
        self.distance_is_said = {claim.subject for claim in claims if claim.kind == "distance"}
        self.side_is_said = {claim.subject for claim in claims if claim.kind in ("left_m", "right_m")}
        self._places = Counter(claim.subject for claim in claims if claim.kind not in NO_PLACE)

    def __getitem__(self, index: int) -> LayoutObject:
        return self.things[index]

    def is_free(self, index: int) -> bool:
        return index not in self.distance_is_said and index not in self.side_is_said

    def moved_and_fixed(self, claim: Claim) -> tuple[int, int]:
        """Which of a claim's two objects moves. The subject does, unless other words place it more than the other."""
        subject, reference = claim.subject, claim.reference
        bound = [(not self.is_free(k), self._places[k] - (k == subject)) for k in (subject, reference)]
        return (reference, subject) if bound[0] > bound[1] else (subject, reference)

    def box(self, index: int) -> ProjectedBox | None:
        """The object's rectangle in a picture of the size of `view`. None behind the camera."""
        return projected_box(self.things[index].scaffold().placed(), self._camera, self.view)

    def put(self, index: int, x: float, z: float, y: float | None = None) -> None:
        thing = self.things[index]
        place = (x, thing.position_m[1] if y is None else y, z)
        limited = tuple(float(min(max(part, -MAX_POSITION_M), MAX_POSITION_M)) for part in place)
        self.things[index] = replace(thing, position_m=limited)

    def shift(self, index: int, step: np.ndarray) -> None:
        x, _, z = self.things[index].position_m
        self.put(index, x + float(step[0]), z + float(step[1]))

    def turn(self, index: int, heading_deg: float) -> None:
        self.things[index] = replace(self.things[index], heading_deg=heading_deg % 360.0)

    def resize(self, index: int, size_m: Sequence[float]) -> None:
        limited = tuple(float(min(max(side, MIN_SIZE_M), MAX_SIZE_M)) for side in size_m)
        self.things[index] = replace(self.things[index], size_m=limited)

    def bearing(self, index: int) -> float:
        """Degrees from straight ahead to the right, in (-180, 180]."""
        return footprint.bearing_deg(self.things[index])

    def centre_distance(self, index: int) -> float:
        return float(np.hypot(*footprint.centre(self.things[index])))

    def half_angle(self, index: int) -> float:
        """Half of the angle that the object's rectangle takes of the view, in degrees."""
        middle = self.bearing(index)
        angles = (math.degrees(math.atan2(x, z)) for x, z in footprint.corners(self.things[index]))
        return max(footprint.turn_deg(angle, middle) for angle in angles)

    def reach(self, index: int, direction: np.ndarray) -> float:
        """How far the rectangle reaches from its centre in a direction (2,) of length 1."""
        thing = self.things[index]
        return float(((footprint.corners(thing) - footprint.centre(thing)) @ direction).max())

    def view_reach(self, index: int) -> float:
        """The reach along the ray from the camera."""
        return self.reach(index, ray(self.bearing(index)))

    def put_on_ray(self, index: int, bearing_deg: float, distance_m: float) -> None:
        """Put the centre at this horizontal distance."""
        x, z = ray(bearing_deg) * distance_m
        self.put(index, float(x), float(z))

    def put_at_distance(self, index: int, bearing_deg: float, distance_m: float) -> None:
        """Put the nearest point at this horizontal distance, with the centre on the ray."""

        def nearest(centre_m: float) -> float:
            self.put_on_ray(index, bearing_deg, centre_m)
            return footprint.camera_distance_m(self.things[index])

        width, _, length = self.things[index].size_m
        solve(nearest, distance_m, 0.0, distance_m + math.hypot(width, length))

    def put_beside(self, index: int, x: float, distance_m: float) -> None:
        """Put the nearest point at this horizontal distance, with the centre x metres to the right."""

        def nearest(z: float) -> float:
            self.put(index, x, z)
            return footprint.camera_distance_m(self.things[index])

        width, _, length = self.things[index].size_m
        solve(nearest, distance_m, 0.0, distance_m + math.hypot(width, length))

    def keep_distance(self, index: int, bearing_deg: float) -> None:
        """Turn the object about the camera to another bearing."""
        if index in self.distance_is_said:
            self.put_at_distance(index, bearing_deg, footprint.camera_distance_m(self.things[index]))
        else:
            self.put_on_ray(index, bearing_deg, self.centre_distance(index))

    def surface_height(self, index: int, x: float, z: float) -> float | None:
        """Height of the object's highest surface at a place seen from above. None beside it."""
        found = [
            height
            for solid in self.things[index].scaffold().placed()
            if (height := _top(solid.solid, solid.matrix, solid.centre, x, z)) is not None
        ]
        return max(found, default=None)


def _top(solid: str, matrix: np.ndarray, centre: np.ndarray, x: float, z: float) -> float | None:
    inverse = np.linalg.inv(matrix)
    start, step = inverse @ (np.array([x, 0.0, z]) - centre), inverse @ np.array([0.0, 1.0, 0.0])
    o, d = (tuple(torch.tensor(part, dtype=torch.float64) for part in vector) for vector in (start, step))
    near, far = INTERVALS[solid](o, d)
    return -float(near) if near <= far else None


def ray(bearing_deg: float) -> np.ndarray:
    """(2,): the direction (x, z) of a bearing."""
    angle = math.radians(bearing_deg)
    return np.array([math.sin(angle), math.cos(angle)])


def direction(heading_deg: float) -> np.ndarray:
    """(2,): the direction (x, z) of a heading."""
    return np.array(heading_vector(heading_deg))


def solve(measure: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The argument in [low, high] where a growing measure is `wanted`. Ends with a call of `measure` at it."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < wanted else (low, middle)
    measure(high)
    return high
