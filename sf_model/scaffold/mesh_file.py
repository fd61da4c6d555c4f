"""Triangles of GLB and OBJ files: positions and faces only. Strict: what is not understood is an error, not a guess."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .glb import read_glb

MAX_FILE_BYTES = 2**30
MESH_FORMATS = ("glb", "obj")


def read_mesh(data: bytes, file_format: str) -> tuple[Tensor, Tensor]:
    """vertices (N, 3) float32 in the file's units and axes, faces (M, 3) int64. Raises ValueError, with the remedy."""
    if file_format not in MESH_FORMATS:
        raise ValueError(
            f"a {file_format or 'nameless'} file cannot be read as a mesh; export it as {' or '.join(MESH_FORMATS)}"
        )
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file has {len(data)} bytes, at most {MAX_FILE_BYTES} are read; decimate the mesh")
    vertices, faces = read_glb(data) if file_format == "glb" else read_obj(data)
    return torch.from_numpy(vertices), torch.from_numpy(faces)


def read_obj(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Wavefront OBJ: `v` and `f` lines. Polygons become fans; everything else is passed over."""
    vertices: list[bytes] = []
    faces: list[tuple[int, int, int]] = []
    # A backslash at the end of a line continues it.
    for number, line in enumerate(data.replace(b"\\\r\n", b"").replace(b"\\\n", b"").splitlines(), start=1):
        kind, _, rest = line.strip().partition(b" ")
        try:
            if kind == b"v":
                vertices.append(_position(rest))
            elif kind == b"f":
                corners = [_corner(part, len(vertices)) for part in rest.split()]
                if len(corners) < 3:
                    raise ValueError("a face has at least 3 corners")
                faces += [(corners[0], second, third) for second, third in zip(corners[1:], corners[2:])]
        except ValueError as error:
            text = line[:60].decode("ascii", "replace")
            raise ValueError(f"line {number} of the OBJ file, {text!r}: {error}; export it again") from error
    array = np.array([value.split() for value in vertices], dtype=np.float32).reshape(-1, 3)
    return array, np.array(faces, dtype=np.int64).reshape(-1, 3)


def _position(text: bytes) -> bytes:
    """The three coordinates of a `v` line, which a weight or a colour may follow."""
    parts = text.split()
    if len(parts) < 3:
        raise ValueError("a vertex has 3 coordinates")
    for part in parts[:3]:
        float(part)
    return b" ".join(parts[:3])


def _corner(text: bytes, vertices: int) -> int:
    """Zero-based vertex of `7`, `7/1/3` or `-1`, which is the latest."""
    index = int(text.partition(b"/")[0])
    if index == 0:
        raise ValueError("vertices count from 1")
    return index - 1 if index > 0 else vertices + index
