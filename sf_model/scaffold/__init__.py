"""Scenes that a user composes: solids and meshes at metric positions, a camera, and their exact depth."""

from .camera import ScaffoldCamera
from .compose import GROUND_INDEX, SKY_INDEX, Composition, SceneDepth, compose, compose_depth
from .mesh_file import MESH_FORMATS, read_mesh
from .objects import SHAPES, SIZE_AXES, Pose, ScaffoldFigure, ScaffoldMesh, ScaffoldObject, ScaffoldSolid, prepare_mesh

__all__ = [
    "GROUND_INDEX",
    "MESH_FORMATS",
    "SHAPES",
    "SIZE_AXES",
    "SKY_INDEX",
    "Composition",
    "Pose",
    "ScaffoldCamera",
    "ScaffoldFigure",
    "ScaffoldMesh",
    "ScaffoldObject",
    "ScaffoldSolid",
    "SceneDepth",
    "compose",
    "compose_depth",
    "prepare_mesh",
    "read_mesh",
]
