"""The triangles of a Wavefront OBJ file: `v` and `f` lines. Polygons become fans. All other lines are ignored.

The file is read line by line into arrays of numbers. So memory stays near the mesh's size, and a long reading can be
cancelled.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable

import numpy as np

from .objects import MAX_FACES

MAX_VERTICES = 100_000_000
MAX_LINE_BYTES = 2**20
CHECK_EVERY_LINES = 2**14
# A backslash at the end of a line continues it, but not in a comment: paths of Windows end so.
_LINE = re.compile(rb"(?:[^\r\n\\#]+|\\(?:\r?\n)?)+(?:#[^\r\n]*)?|#[^\r\n]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTINUATION = re.compile(rb"\\\r?\n")


def read_obj(data: bytes, check_cancel: Callable[[], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) float32 and faces (M, 3) int64. check_cancel: is called from time to time, and may raise.

    Raises ValueError for lines that are not understood and for more than MAX_FACES or MAX_VERTICES.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("save the OBJ file as UTF-8 or ASCII: it is UTF-16, as some Windows programs write it")
    vertices, faces = array("f"), array("q")
    # Some editors put a byte-order mark before the first line.
    start = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    for count, match in enumerate(_LINE.finditer(data, start)):
        if check_cancel is not None and count % CHECK_EVERY_LINES == 0:
            check_cancel()
        try:
            _read_line(match.group(), vertices, faces)
        except (ValueError, OverflowError) as error:
            number = data.count(b"\n", 0, match.start()) + 1
            text = match.group()[:60].decode("ascii", "replace")
            raise ValueError(f"export it again: line {number} of the OBJ file, {text!r}: {error}") from error
        if len(faces) > 3 * MAX_FACES or len(vertices) > 3 * MAX_VERTICES:
            raise ValueError(
                f"decimate the mesh: the OBJ file has more than {MAX_FACES} triangles or {MAX_VERTICES} vertices"
            )
    return np.asarray(vertices, np.float32).reshape(-1, 3), np.asarray(faces, np.int64).reshape(-1, 3)


def _read_line(line: bytes, vertices: array[float], faces: array[int]) -> None:
    """Append the line's vertex to the coordinates, or its triangles to the corners."""
    if b"\\" in line:
        line = _CONTINUATION.sub(b"", line)
    # Spaces and tabs separate words alike.
    kind = line.lstrip()[:2]
    if kind[:1] not in (b"v", b"f") or kind[1:].strip():
        return
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"it has more than {MAX_LINE_BYTES} bytes")
    # A comment may follow. No number has a #.
    parts = line.partition(b"#")[0].split()[1:]
    kind = kind[:1]
    if len(parts) < 3:
        raise ValueError("a vertex has 3 coordinates" if kind == b"v" else "a face has at least 3 corners")
    if kind == b"v":  # a weight or a colour may follow
        vertices.extend([float(part) for part in parts[:3]])
        return
    corners = [_corner(part, len(vertices) // 3) for part in parts]
    for second, third in zip(corners[1:], corners[2:]):
        faces.extend((corners[0], second, third))


def _corner(text: bytes, vertices: int) -> int:
    """The zero-based vertex of `7`, `7/1/3` or `-1` (the latest one)."""
    index = int(text.partition(b"/")[0])
    if index == 0:
        raise ValueError("vertices count from 1")
    return index - 1 if index > 0 else vertices + index
