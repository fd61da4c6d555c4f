"""Triangles of GLB and OBJ files: positions and faces only. Strict: what is not understood is an error, not a guess."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .glb import read_glb
from .obj import read_obj

MESH_FORMATS = ("glb", "obj")


def read_mesh(data: bytes, file_format: str, check_cancel: Callable[[], None] | None = None) -> tuple[Tensor, Tensor]:
    """vertices (N, 3) float32 in the file's units and axes, faces (M, 3) int64. Raises ValueError, with the remedy.

    check_cancel: is called now and then, and may raise to end a long reading.
    """
    readers = dict(zip(MESH_FORMATS, (read_glb, read_obj)))
    if file_format not in readers:
        raise ValueError(
            f"a {file_format or 'nameless'} file cannot be read as a mesh; export it as {' or '.join(MESH_FORMATS)}"
        )
    vertices, faces = readers[file_format](data, check_cancel)
    return torch.from_numpy(vertices), torch.from_numpy(faces)
