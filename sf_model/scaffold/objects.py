"""The objects of a composed scene: immutable values that nodes pass on in tuples.

World frame and headings are those of `rendering.frame`. An object's own axes are (right, up, front). Its size along
them is (width, height, length).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..rendering.extent import REACH
from ..rendering.frame import heading_vector, right_vector
from ..rendering.intersect import INTERVALS
from .shapes import named_shapes

Array = NDArray[np.float64]
SHAPES: dict[str, str] = {"box": "box", "sphere": "ellipsoid", "cylinder": "cylinder"}
"""The canonical solid of `rendering.intersect` for each shape, by the name that users see."""
SIZE_AXES = ("height", "width", "length", "longest side")
MAX_FACES = 50_000_000
# From (right, up, front) to glTF's mesh axes: y up, front +z, so x points to the object's left.
_MESH_AXES = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Pose:
    """Position and attitude of an object. The attitude is heading, then pitch, then roll, about the object's centre.

    Raises ValueError for values that are not finite.
    """

    # (x_m, z_m) is the object's centre, seen from above.
    x_m: float = 0.0
    # Height of the lowest point above the ground, at every attitude.
    y_m: float = 0.0
    z_m: float = 3.0
    heading_deg: float = 0.0
    # Positive tips the front down.
    pitch_deg: float = 0.0
    # Positive leans to the object's own right.
    roll_deg: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"give a finite number for {name}: it is {value}")

    def rotation(self) -> Array:
        """(3, 3): the columns are the object's right, up and front axes in the world."""
        front, right = heading_vector(self.heading_deg), right_vector(self.heading_deg)
        yaw = np.array([[right[0], 0.0, front[0]], [0.0, -1.0, 0.0], [right[1], 0.0, front[1]]])
        p, r = math.radians(self.pitch_deg), math.radians(self.roll_deg)
        pitch = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
        roll = np.array([[math.cos(r), math.sin(r), 0], [-math.sin(r), math.cos(r), 0], [0, 0, 1]])
        return yaw @ pitch @ roll


@dataclass(frozen=True, eq=False)
class PlacedSolid:
    """A canonical solid of `rendering.intersect` in the world: its points are matrix @ q + centre."""

    solid: str
    # (3, 3).
    matrix: Array
    # (3,).
    centre: Array


@dataclass(frozen=True)
class ScaffoldSolid:
    """A box, an upright elliptic cylinder or an ellipsoid.

    Raises ValueError for an unknown shape and for sizes that are not positive and finite.
    """

    # A key of SHAPES.
    shape: str
    # (width, height, length).
    size_m: tuple[float, float, float]
    pose: Pose

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"choose one of {', '.join(SHAPES)}: there is no shape {self.shape!r}")
        _check_size(self.size_m)

    @property
    def canonical(self) -> str:
        """The solid's name in `rendering.intersect`."""
        assert SHAPES[self.shape] in INTERVALS
        return SHAPES[self.shape]

    def placement(self) -> tuple[Array, Array]:
        """(3, 3) matrix and (3,) centre: world = matrix @ canonical + centre, canonical in [-0.5, 0.5]^3."""
        matrix = self.pose.rotation() * np.array(self.size_m)
        reach = float(REACH[self.canonical](matrix[1]))
        return matrix, np.array([self.pose.x_m, -self.pose.y_m - reach, self.pose.z_m])

    def placed(self) -> tuple[PlacedSolid, ...]:
        return (PlacedSolid(self.canonical, *self.placement()),)


@dataclass(frozen=True)
class ScaffoldFigure:
    """A named shape of `shapes`, stretched to a size.

    Raises ValueError for an unknown shape and for sizes that are not positive and finite.
    """

    # A name of named_shapes().
    shape: str
    # (width, height, length): the shape's exact bounding box along the object's own axes.
    size_m: tuple[float, float, float]
    pose: Pose

    def __post_init__(self) -> None:
        if self.shape not in named_shapes():
            raise ValueError(f"choose one of {', '.join(named_shapes())}: there is no shape {self.shape!r}")
        _check_size(self.size_m)

    def placed(self) -> tuple[PlacedSolid, ...]:
        """The shape's primitives in the world."""
        matrix = self.pose.rotation() * np.array(self.size_m)
        parts = []
        for part in named_shapes()[self.shape].primitives:
            inner, centre = part.arrays()
            parts.append((part.solid, matrix @ inner, matrix @ (centre - (0.0, 0.5, 0.0))))
        lowest = max(centre[1] + float(REACH[solid](inner[1])) for solid, inner, centre in parts)
        shift = np.array([self.pose.x_m, -self.pose.y_m - lowest, self.pose.z_m])
        return tuple(PlacedSolid(solid, inner, centre + shift) for solid, inner, centre in parts)


@dataclass(frozen=True, eq=False)
class ScaffoldMesh:
    """A triangle mesh. Make it with `prepare_mesh`, which checks the arrays.

    At heading 0 it stands as a 3D viewer shows it. Both sides of a face are visible; holes stay open.
    """

    # (N, 3) float32 metres in glTF axes: y up, front +z.
    vertices: Tensor
    # (M, 3) int64.
    faces: Tensor
    pose: Pose

    def world_vertices(self) -> Tensor:
        """(N, 3) float64 in world coordinates."""
        used = _used(self.vertices, self.faces)
        low, high = (f(self.vertices[used], dim=0) for f in (torch.amin, torch.amax))
        turn = torch.from_numpy(self.pose.rotation() @ _MESH_AXES)
        world = (self.vertices.double() - (low.double() + high.double()) / 2) @ turn.T
        shift = [self.pose.x_m, -self.pose.y_m - world[used, 1].amax().item(), self.pose.z_m]
        return world + torch.tensor(shift, dtype=torch.float64)


ScaffoldObject = ScaffoldSolid | ScaffoldFigure | ScaffoldMesh


def _check_size(size_m: tuple[float, float, float]) -> None:
    if not all(math.isfinite(size) and size > 0 for size in size_m):
        raise ValueError(f"width, height and length must be positive metres, got {size_m}")


def prepare_mesh(vertices: Tensor, faces: Tensor, size_m: float, size_of: str, pose: Pose) -> ScaffoldMesh:
    """A mesh in the given pose.

    vertices (N, 3), faces (M, 3): of any number type. Vertices of no face are ignored, faces without area invisible.
    size_of: one of SIZE_AXES. size_m: the mesh is scaled in proportion until its `size_of` is this. 0: it is not
    scaled, and its vertices are metres.
    Raises ValueError for arrays that are not a mesh and for a size that cannot be scaled.
    """
    vertices, faces = vertices.detach().cpu().float(), faces.detach().cpu().long()
    _check_mesh(vertices, faces)
    used = vertices[_used(vertices, faces)]
    if not torch.isfinite(used).all():
        raise ValueError(
            "export the mesh again, or repair it in a 3D program: "
            f"{int((~torch.isfinite(used)).any(dim=1).sum())} of its {len(used)} vertices are NaN or infinite"
        )
    width, height, length = (used.amax(dim=0) - used.amin(dim=0)).tolist()
    if max(width, height, length) == 0:
        raise ValueError("load another mesh: all vertices of this one are one point")
    if size_m:
        extent = {"width": width, "height": height, "length": length, "longest side": max(width, height, length)}
        if extent[size_of] == 0:
            raise ValueError(f"set another size_of: the mesh's {size_of} is 0 and cannot be scaled to {size_m} m")
        vertices = vertices * (size_m / extent[size_of])
    return ScaffoldMesh(vertices, faces, pose)


def _used(vertices: Tensor, faces: Tensor) -> Tensor:
    """(N,) bool: whether a vertex belongs to a face."""
    return torch.zeros(len(vertices), dtype=torch.bool).index_fill_(0, faces.flatten(), True)


def _check_mesh(vertices: Tensor, faces: Tensor) -> None:
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise ValueError(f"use a mesh of triangles: its {name} must be (count, 3), got {tuple(array.shape)}")
    if not len(vertices) or not len(faces):
        raise ValueError(
            "check the node that made the mesh, or make the point cloud into a mesh: it has "
            f"{len(vertices)} vertices and {len(faces)} faces"
        )
    if len(faces) > MAX_FACES:
        raise ValueError(f"decimate the mesh: it has {len(faces)} faces, at most {MAX_FACES} are possible")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        raise ValueError(
            f"export the mesh again: the mesh's faces name vertices {low} to {high}, but it has only {len(vertices)}, "
            "counted from 0"
        )
