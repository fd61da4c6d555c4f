"""The triangles of an STL file, binary or text. Corners at the same place become one vertex."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from .objects import MAX_FACES

_HEADER_BYTES, _TRIANGLE_BYTES = 84, 50
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)
CHECK_EVERY_VERTICES = 2**14


def read_stl(data: bytes, check_cancel: Callable[[], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) float32 and faces (M, 3) int64. check_cancel: is called from time to time, and may raise.

    Raises ValueError for a damaged file, and for more than MAX_FACES triangles.
    """
    check_cancel = check_cancel or (lambda: None)
    check_cancel()
    count = int.from_bytes(data[80:84], "little") if len(data) >= _HEADER_BYTES else 0
    # Binary files may begin with the word of text files, so their size decides.
    if len(data) >= _HEADER_BYTES and len(data) == _HEADER_BYTES + count * _TRIANGLE_BYTES:
        _check_count(count)
        corners = np.frombuffer(data, _TRIANGLE, count, _HEADER_BYTES)["corners"].reshape(-1, 3)
    elif data.lstrip()[:5].lower() == b"solid":
        corners = _text_corners(data, check_cancel)
    else:
        raise ValueError(
            f"export the STL file again: it has {len(data)} bytes, and its {count} triangles need "
            f"{_HEADER_BYTES + count * _TRIANGLE_BYTES}"
        )
    if not len(corners):
        raise ValueError("export the STL file again: it has no triangles")
    vertices, faces = np.unique(corners, axis=0, return_inverse=True)
    return vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.int64)


def _text_corners(data: bytes, check_cancel: Callable[[], None]) -> np.ndarray:
    values: list[float] = []
    for number, match in enumerate(_VERTEX.finditer(data)):
        if number % CHECK_EVERY_VERTICES == 0:
            check_cancel()
            _check_count(number // 3)
        try:
            values += [float(part) for part in match.groups()]
        except ValueError as error:
            line = data.count(b"\n", 0, match.start()) + 1
            raise ValueError(f"export the STL file again: line {line} is no vertex") from error
    if len(values) % 9:
        raise ValueError(f"export the STL file again: {len(values) // 3} corners do not make triangles")
    return np.array(values, np.float32).reshape(-1, 3)


def _check_count(triangles: int) -> None:
    if triangles > MAX_FACES:
        raise ValueError(f"decimate the mesh: the STL file has {triangles} triangles, at most {MAX_FACES} are read")
