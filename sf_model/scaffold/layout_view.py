"""Where the objects of a layout are in the picture: exact boxes, without drawing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..rendering.extent import REACH
from .camera import ScaffoldCamera, View
from .layout import Layout
from .objects import PlacedSolid
from .raycast import NEAR_M

Array = NDArray[np.float64]
# Halvings of the angle: pi / 2^46 is 4e-14.
_HALVINGS = 46


@dataclass(frozen=True)
class ProjectedBox:
    """The smallest rectangle around an object's outline, in pixels from the image's upper left corner.

    It may reach beyond the image, and does not know what hides the object. Sides are infinite where the object reaches
    behind the camera.
    """

    left: float
    top: float
    right: float
    bottom: float
    # Depths of the nearest and the farthest point, along the optical axis.
    nearest_m: float
    farthest_m: float

    def seen_share(self, width: int, height: int) -> float:
        """The share of the rectangle that is in the image, in [0, 1]. An infinite rectangle has the share 1 or 0."""
        across = min(self.right, width) - max(self.left, 0.0)
        down = min(self.bottom, height) - max(self.top, 0.0)
        if across <= 0 or down <= 0:
            return 0.0
        area = (self.right - self.left) * (self.bottom - self.top)
        return across * down / area if math.isfinite(area) else 1.0


def projected_boxes(layout: Layout, width: int, height: int) -> list[ProjectedBox | None]:
    """The box of every object at width x height pixels. None for an object that is behind the camera."""
    camera = layout.camera.scaffold()
    view = View.of(camera, width, height)
    return [projected_box(thing.scaffold().placed(), camera, view) for thing in layout.objects]


def projected_box(parts: Sequence[PlacedSolid], camera: ScaffoldCamera, view: View) -> ProjectedBox | None:
    """The box of solids in the world. None where all are nearer than `raycast.NEAR_M`, or behind the camera."""
    slopes, depths = [], []
    for solid in dict.fromkeys(part.solid for part in parts):
        same = [part for part in parts if part.solid == solid]
        matrix = np.stack([camera.rotation.T @ part.matrix for part in same])
        centre = np.stack([camera.to_camera(part.centre) for part in same])
        ahead = matrix[:, 2]
        depth = np.stack([centre[:, 2] - REACH[solid](-ahead), centre[:, 2] + REACH[solid](ahead)], axis=1)
        seen = depth[:, 1] > NEAR_M
        if seen.any():
            slopes.append(_slopes(solid, matrix[seen], centre[seen], depth[seen, 0] > NEAR_M))
            depths.append(depth[seen])
    if not slopes:
        return None
    largest = np.concatenate(slopes).max(axis=0)
    depth = np.concatenate(depths)
    right, left, bottom, top = largest * (1.0, -1.0, 1.0, -1.0) * view.focal_px
    return ProjectedBox(
        float(left + view.width / 2),
        float(top + view.height / 2),
        float(right + view.width / 2),
        float(bottom + view.height / 2),
        float(max(depth[:, 0].min(), NEAR_M)),
        float(depth[:, 1].max()),
    )


def _slopes(solid: str, matrix: Array, centre: Array, is_whole: NDArray[np.bool_]) -> Array:
    """(P, 4): the largest x/z, -x/z, y/z and -y/z of P solids in camera axes; inf for those that are not `is_whole`.

    All points have x/z <= tan(a) exactly where (cos a, 0, -sin a) . p <= 0. The support function of the solid gives the
    largest value of that product. Its sign changes once, and halving finds where.
    """
    low, high = np.full((len(matrix), 4), -np.pi / 2), np.full((len(matrix), 4), np.pi / 2)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        across, ahead = np.cos(middle), -np.sin(middle)
        normal = np.zeros((*middle.shape, 3))
        normal[:, 0, 0], normal[:, 1, 0] = across[:, 0], -across[:, 1]
        normal[:, 2, 1], normal[:, 3, 1] = across[:, 2], -across[:, 3]
        normal[..., 2] = ahead
        reach = REACH[solid](np.einsum("psk,pkj->psj", normal, matrix)) + np.einsum("psk,pk->ps", normal, centre)
        low, high = np.where(reach > 0, middle, low), np.where(reach > 0, high, middle)
    return np.where(is_whole[:, None], np.tan(high), np.inf)
