"""The triangles of GLB and OBJ files: positions and faces only. What is not understood is an error, never a guess."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .glb import read_glb
from .obj import read_obj

MESH_FORMATS = ("glb", "obj")


def read_mesh(data: bytes, file_format: str, check_cancel: Callable[[], None] | None = None) -> tuple[Tensor, Tensor]:
    """Vertices (N, 3) float32 in the file's units and axes, and faces (M, 3) int64.

    file_format: one of MESH_FORMATS. check_cancel: is called from time to time; it may raise to stop.
    Raises ValueError for a file that cannot be read.
    """
    readers = dict(zip(MESH_FORMATS, (read_glb, read_obj)))
    if file_format not in readers:
        raise ValueError(
            f"export it as {' or '.join(MESH_FORMATS)}: a {file_format or 'nameless'} file cannot be read as a mesh"
        )
    vertices, faces = readers[file_format](data, check_cancel)
    return torch.from_numpy(vertices), torch.from_numpy(faces)
