"""The triangles of mesh files: positions and faces only. What is not understood is an error, never a guess.

ComfyUI has no reader of meshes in Python, only viewers in the browser.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .gltf import read_glb, read_gltf
from .gltf_container import ReadBeside
from .obj import read_obj
from .stl import read_stl

MESH_FORMATS = ("glb", "gltf", "obj", "stl")
# What to do in the programs that people export from.
_OTHERS = {
    "fbx": "open it in Blender (File, Import, FBX) and export it as glTF (.glb): an .fbx file cannot be read",
    "usdz": "open it in Blender (File, Import, USD) and export it as glTF (.glb): a .usdz file cannot be read",
    "ply": "export a mesh with faces as .glb, .obj or .stl: a .ply file cannot be read, and most hold points only",
}


def read_mesh(
    data: bytes,
    file_format: str,
    check_cancel: Callable[[], None] | None = None,
    read_beside: ReadBeside | None = None,
) -> tuple[Tensor, Tensor]:
    """Vertices (N, 3) float32 in the file's units and axes, and faces (M, 3) int64.

    file_format: one of MESH_FORMATS. check_cancel: is called from time to time; it may raise to stop. read_beside:
    gives the bytes of a file beside this one, by its name; .gltf files name such files.
    Raises ValueError for a file that cannot be read.
    """
    if file_format in ("glb", "gltf"):
        reader = read_glb if file_format == "glb" else read_gltf
        vertices, faces = reader(data, check_cancel, read_beside)
    elif file_format in ("obj", "stl"):
        vertices, faces = (read_obj if file_format == "obj" else read_stl)(data, check_cancel)
    else:
        raise ValueError(
            _OTHERS.get(
                file_format,
                f"export it as {', '.join(MESH_FORMATS[:-1])} or {MESH_FORMATS[-1]}: a {file_format or 'nameless'} "
                "file cannot be read as a mesh",
            )
        )
    return torch.from_numpy(vertices), torch.from_numpy(faces)
