"""Place Mesh: adds a mesh or a 3D file of the host, at a size and a place in metres, to a list of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy_api.v0_0_2 import Types, io

from ...sf_model.scaffold import MESH_FORMATS, SIZE_AXES, Pose, ScaffoldObject, prepare_mesh, read_mesh
from ..host.files import contents_digest, folder_digest, input_file, is_input_file, offered_files, read_file
from ..inputs import BUILD_CATEGORY, aliases, batch_index_input, metres_input
from .inputs import MAX_SIZE_M, objects_input, objects_output, pose_inputs

NO_FILE = "none"
MESH_ENDINGS = tuple(f".{name}" for name in MESH_FORMATS)
# The newest host has more, but none of them is a mesh of triangles.
MESH_TYPES = [io.Mesh, io.File3DAny, io.File3DGLB, io.File3DGLTF, io.File3DOBJ, io.File3DSTL]


class SpatialFusionScaffoldMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionScaffoldMesh",
            display_name="Place Mesh",
            category=BUILD_CATEGORY,
            description=(
                "A mesh with a size and a place in metres, for Compose Depth Scaffold. It comes from any node that "
                "makes meshes, from Load 3D, or from a .glb, .gltf, .obj or .stl file in the input folder."
            ),
            search_aliases=aliases(
                "scaffold mesh",
                "mesh",
                "glb",
                "gltf",
                "obj",
                "stl",
                "load mesh",
                "import model",
                "3d model",
                "render mesh depth",
                "place object",
                "3d scene",
            ),
            inputs=[
                io.Combo.Input(
                    "model_file",
                    options=[NO_FILE, *offered_files(MESH_ENDINGS, MESH_ENDINGS)],
                    default=NO_FILE,
                    tooltip="A .glb, .gltf, .obj or .stl file in ComfyUI's input folder; the button uploads one. "
                    "'<name> [output]' is one in the output folder. Set it to none where a mesh is connected.",
                ),
                metres_input(
                    "size_m",
                    "Scales the mesh, in proportion, to this size in metres. 0 keeps it: its units are metres.",
                    default=1.0,
                    maximum=MAX_SIZE_M,
                ),
                io.Combo.Input(
                    "size_of",
                    options=list(SIZE_AXES),
                    default="height",
                    tooltip="What size_m measures: height is the mesh's y axis, width its x, length its z.",
                ),
                *pose_inputs(),
                batch_index_input("Which mesh of a batch; the first is 0.", maximum=4096),
                io.MultiType.Input(
                    "mesh",
                    types=MESH_TYPES,
                    optional=True,
                    tooltip="A mesh, or a .glb, .gltf, .obj or .stl file from Load 3D. It takes the place of "
                    "model_file.",
                ),
                objects_input(),
            ],
            outputs=[objects_output()],
        )

    @classmethod
    def validate_inputs(cls, model_file: str | None = None) -> bool | str:
        """The host does not compare an input that is named here with the list. So new files are accepted too."""
        return True if model_file in (None, NO_FILE) else is_input_file(model_file, "mesh")

    @classmethod
    def fingerprint_inputs(cls, model_file: str | None = NO_FILE, **_: Any) -> str:
        if model_file == NO_FILE:
            return NO_FILE
        digest = contents_digest(model_file, "mesh", MESH_ENDINGS)
        if model_file is None or not model_file.lower().endswith(".gltf"):
            return digest
        # The data of a .gltf file is in files beside it.
        return digest + folder_digest(model_file, "mesh", (".bin", ".glbin"))

    @classmethod
    def execute(
        cls,
        model_file: str,
        size_m: float,
        size_of: str,
        x_m: float,
        y_m: float,
        z_m: float,
        heading_deg: float,
        pitch_deg: float,
        roll_deg: float,
        batch_index: int,
        mesh: Types.MESH | Types.File3D | None = None,
        objects: tuple[ScaffoldObject, ...] = (),
    ) -> io.NodeOutput:
        if (mesh is None) == (model_file == NO_FILE):
            problem = "no mesh" if mesh is None else "both a mesh and a file"
            raise ValueError(f"connect mesh and set model_file to none, or choose a file alone: there is {problem}")
        if isinstance(mesh, Types.MESH):
            vertices, faces = _batch_item(mesh, batch_index)
        else:
            vertices, faces = _file_triangles(mesh, model_file, batch_index)
        pose = Pose(x_m, y_m, z_m, heading_deg, pitch_deg, roll_deg)
        return io.NodeOutput((*objects, prepare_mesh(vertices, faces, size_m, size_of, pose)))


def _check_index(batch_index: int, count: int) -> None:
    if batch_index >= count:
        raise ValueError(
            f"set batch_index below {count}: it is {batch_index}, and there are {count} meshes, counted from 0"
        )


def _batch_item(mesh: Types.MESH, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """vertices (N, 3) and faces (M, 3) of one mesh of the batch."""
    if mesh.vertices.ndim != 3 or mesh.faces.ndim != 3:
        raise ValueError(
            "check the node that made the mesh: a MESH has vertices (batch, count, 3) and faces (batch, count, 3), got "
            f"{tuple(mesh.vertices.shape)} and {tuple(mesh.faces.shape)}"
        )
    _check_index(index, len(mesh.vertices))
    vertices, faces = mesh.vertices[index], mesh.faces[index]
    # A batch of unequal meshes is padded, and counts the real ones. The oldest host has no such batches.
    if getattr(mesh, "vertex_counts", None) is not None:
        vertices, faces = vertices[: int(mesh.vertex_counts[index])], faces[: int(mesh.face_counts[index])]
    return vertices, faces


def _file_triangles(mesh: Types.File3D | None, model_file: str, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """vertices (N, 3) and faces (M, 3) of a 3D file, connected or chosen by name."""
    _check_index(index, 1)
    check_cancel = comfy.model_management.throw_exception_if_processing_interrupted
    if mesh is not None and not mesh.is_disk_backed:
        return read_mesh(mesh.get_bytes(), mesh.format, check_cancel)
    path = Path(mesh.get_source()) if mesh is not None else input_file(model_file, "mesh")
    file_format = mesh.format if mesh is not None else path.suffix.lower().lstrip(".")
    data = read_file(path, "decimate the mesh")
    try:
        return read_mesh(data, file_format, check_cancel, lambda name: _read_beside(path, name))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _read_beside(path: Path, name: str) -> bytes:
    """The contents of a file that a .gltf file names. ValueError where it is not in the folder of that file."""
    folder = path.parent.resolve()
    beside = (folder / name).resolve()
    if not beside.is_relative_to(folder) or not beside.is_file():
        raise ValueError(
            f"put {name!r} beside {path.name}, or export one .glb: its data is in that file, which is not there"
        )
    return read_file(beside, "export it as .glb")
