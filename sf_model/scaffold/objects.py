"""What stands in a composed scene: immutable values that nodes pass on in tuples.

World frame and headings are those of `rendering.frame`. An object's own axes are (right, up, front), its size is
(width, height, length) along them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..rendering.frame import heading_vector, right_vector
from ..rendering.intersect import INTERVALS

Array = NDArray[np.float64]
SHAPES: dict[str, str] = {"box": "box", "sphere": "ellipsoid", "cylinder": "cylinder"}
"""Shapes by the name that users see, and the canonical solid of `rendering.intersect` that each is."""
SIZE_AXES = ("height", "width", "length", "longest side")
MAX_FACES = 50_000_000
# From (right, up, front) to a file's or the host's mesh axes: y up, front +z (glTF), so its x points to its left.
_MESH_AXES = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Pose:
    """Where an object stands: centre of its footprint (x_m, z_m), elevation y_m of its lowest point, attitude.

    The attitude is applied as heading, then pitch (positive tips the front down), then roll (positive leans to the
    object's own right), about the object's centre; whatever the attitude, the lowest point is y_m above the ground.
    """

    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 3.0
    heading_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}; give a finite number")

    def rotation(self) -> Array:
        """(3, 3): columns are the object's right, up and front axes in world coordinates."""
        front, right = heading_vector(self.heading_deg), right_vector(self.heading_deg)
        yaw = np.array([[right[0], 0.0, front[0]], [0.0, -1.0, 0.0], [right[1], 0.0, front[1]]])
        p, r = math.radians(self.pitch_deg), math.radians(self.roll_deg)
        pitch = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
        roll = np.array([[math.cos(r), math.sin(r), 0], [-math.sin(r), math.cos(r), 0], [0, 0, 1]])
        return yaw @ pitch @ roll


@dataclass(frozen=True)
class ScaffoldSolid:
    """A box, an upright elliptic cylinder or an ellipsoid; `size_m` is (width, height, length).

    Raises ValueError for an unknown shape and for sizes that are not positive and finite.
    """

    shape: str
    size_m: tuple[float, float, float]
    pose: Pose

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"unknown shape {self.shape!r}; choose one of {', '.join(SHAPES)}")
        if not all(math.isfinite(size) and size > 0 for size in self.size_m):
            raise ValueError(f"width, height and length must be positive metres, got {self.size_m}")

    @property
    def canonical(self) -> str:
        """The solid's name in `rendering.intersect`."""
        assert SHAPES[self.shape] in INTERVALS
        return SHAPES[self.shape]

    def placement(self) -> tuple[Array, Array]:
        """(3, 3) matrix and (3,) centre: world = matrix @ canonical + centre, canonical in [-0.5, 0.5]^3."""
        matrix = self.pose.rotation() * np.array(self.size_m)
        down = np.abs(matrix[1]) / 2
        reach = {"box": down.sum(), "sphere": np.hypot.reduce(down), "cylinder": np.hypot(down[0], down[2]) + down[1]}
        centre = np.array([self.pose.x_m, -self.pose.y_m - reach[self.shape], self.pose.z_m])
        return matrix, centre


@dataclass(frozen=True, eq=False)
class ScaffoldMesh:
    """A triangle mesh in metres: vertices (N, 3) float32, y up, front +z as in glTF; faces (M, 3) int64.

    Make it with `prepare_mesh`, which checks the arrays. At heading 0 it stands as a 3D viewer shows it. Faces are
    seen from both sides; holes are seen through.
    """

    vertices: Tensor
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


ScaffoldObject = ScaffoldSolid | ScaffoldMesh


def prepare_mesh(vertices: Tensor, faces: Tensor, size_m: float, size_of: str, pose: Pose) -> ScaffoldMesh:
    """A mesh scaled, in proportion, so that its `size_of` is `size_m`; 0 leaves it as it is, in metres.

    vertices (N, 3), faces (M, 3) of any number type. Vertices of no face are ignored, faces without area show nothing.
    Raises ValueError, with the remedy, for arrays that are no mesh and for a size that cannot be scaled.
    """
    vertices, faces = vertices.detach().cpu().float(), faces.detach().cpu().long()
    _check_mesh(vertices, faces)
    used = vertices[_used(vertices, faces)]
    if not torch.isfinite(used).all():
        raise ValueError(
            f"{int((~torch.isfinite(used)).any(dim=1).sum())} of the mesh's {len(used)} vertices are NaN or infinite; "
            "export the mesh again, or remove them in a 3D program"
        )
    width, height, length = (used.amax(dim=0) - used.amin(dim=0)).tolist()
    if max(width, height, length) == 0:
        raise ValueError("all vertices of the mesh are one point; load another mesh")
    if size_m:
        extent = {"width": width, "height": height, "length": length, "longest side": max(width, height, length)}
        if extent[size_of] == 0:
            raise ValueError(f"the mesh is flat: its {size_of} is 0 and cannot be scaled to {size_m} m; set size_of")
        vertices = vertices * (size_m / extent[size_of])
    return ScaffoldMesh(vertices, faces, pose)


def _used(vertices: Tensor, faces: Tensor) -> Tensor:
    """(N,) bool: the vertices that belong to a face."""
    return torch.zeros(len(vertices), dtype=torch.bool).index_fill_(0, faces.flatten(), True)


def _check_mesh(vertices: Tensor, faces: Tensor) -> None:
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise ValueError(f"a mesh's {name} are (count, 3), got {tuple(array.shape)}; use a mesh of triangles")
    if not len(vertices) or not len(faces):
        raise ValueError(
            f"the mesh has {len(vertices)} vertices and {len(faces)} faces: nothing to see. Check the node that made "
            "it; a point cloud has to be made into a mesh first"
        )
    if len(faces) > MAX_FACES:
        raise ValueError(f"the mesh has {len(faces)} faces, at most {MAX_FACES} are possible; decimate it")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        raise ValueError(
            f"the mesh's faces name vertices {low} to {high}, but there are only {len(vertices)}, from 0; export the "
            "mesh again"
        )
