"""The triangles of a binary glTF 2.0 file (.glb), with the transforms of its default scene.

Reads nodes with matrix or translation, rotation and scale, and meshes: lists of triangles with float positions, with or
without indices, in the file's own buffer. Ignores materials, skins, morph targets and animations: it takes the rest
pose. Compressed or quantised positions, strips, fans and sparse accessors are errors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .objects import MAX_FACES

MAX_VALUES = 300_000_000
# Several nodes may show one mesh. But a small file that expands to gigabytes is damaged, or an attack.
FREE_VALUES = 10_000_000
MAX_REUSE = 64
MAX_JSON_BYTES = 2**26
_INDEX_TYPES = {5121: np.dtype("u1"), 5123: np.dtype("<u2"), 5125: np.dtype("<u4")}
_FLOAT = 5126
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
# Required extensions that do not change the triangles.
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_")


def read_glb(data: bytes, check_cancel: Callable[[], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) float32 and faces (M, 3) int64. Raises ValueError for a file that it cannot read.

    check_cancel: is called before each part of the mesh, and may raise.
    """
    document, buffer = _chunks(data)
    try:
        for name in document.get("extensionsRequired", []):
            if not name.startswith(_HARMLESS):
                raise ValueError(f"export it without compression and quantisation, because it needs {name}")
        return _Reader(document, buffer).triangles(check_cancel or (lambda: None))
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"export the GLB file again: it is damaged ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise ValueError(f"the GLB file cannot be read: {error}") from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk."""
    if len(data) < 20 or data[:4] != b"glTF":
        raise ValueError("export the mesh as binary glTF (.glb): this is not a GLB file")
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2 or length > len(data):
        raise ValueError(
            f"export the GLB file again as glTF 2.0: it has version {version} and {len(data)} of {length} bytes"
        )
    found: dict[bytes, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, offset)
        if offset + 8 + size > length:
            raise ValueError("export the GLB file again: it is truncated")
        if kind == b"JSON" and size > MAX_JSON_BYTES:
            raise ValueError(f"join the GLB file's parts: its JSON has {size} bytes, at most {MAX_JSON_BYTES} are read")
        found.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    try:
        document = json.loads(found.get(b"JSON", b"").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("export the GLB file again: its JSON cannot be read") from error
    if not isinstance(document, dict):
        raise ValueError("export the GLB file again: its JSON is not an object")
    return document, found.get(b"BIN\0", b"")


class _Reader:
    def __init__(self, document: dict[str, Any], buffer: bytes) -> None:
        self.document = document
        self.buffer = buffer
        self.values = 0
        self.allowed_values = min(MAX_VALUES, max(FREE_VALUES, MAX_REUSE * len(buffer)))

    def triangles(self, check_cancel: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
        vertices, faces = [np.zeros((0, 3), np.float32)], [np.zeros((0, 3), np.int64)]
        count, face_count = 0, 0
        nodes = self.document.get("nodes", [])
        visited: set[int] = set()
        stack = [(index, np.eye(4)) for index in self._roots(nodes)]
        while stack:
            index, parent = stack.pop()
            if index in visited:
                raise ValueError(f"export it again, because node {index} has several parents")
            visited.add(index)
            local = _local_matrix(nodes[index])
            # With larger values the product of a few nested nodes could overflow.
            if not (np.abs(local) < 1e12).all():
                raise ValueError(f"export it again, because the transform of node {index} is not a usable matrix")
            matrix = parent @ local
            stack += [(child, matrix) for child in nodes[index].get("children", [])]
            if "mesh" not in nodes[index]:
                continue
            for primitive in self.document["meshes"][nodes[index]["mesh"]]["primitives"]:
                if primitive.get("mode", _TRIANGLES) < _TRIANGLES:
                    continue  # points and lines
                check_cancel()
                positions, corners = self._primitive(primitive)
                vertices.append((positions @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32))
                faces.append(corners + count)
                count += len(positions)
                face_count += len(corners)
                if face_count > MAX_FACES:
                    raise ValueError(f"decimate the mesh, because it has more than {MAX_FACES} triangles")
        return np.concatenate(vertices), np.concatenate(faces)

    def _roots(self, nodes: list[dict[str, Any]]) -> list[int]:
        scenes = self.document.get("scenes")
        if scenes:
            return list(scenes[self.document.get("scene", 0)].get("nodes", []))
        children = {child for node in nodes for child in node.get("children", [])}
        return [index for index in range(len(nodes)) if index not in children]

    def _primitive(self, primitive: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        if primitive.get("mode", _TRIANGLES) in (_STRIP, _FAN):
            raise ValueError("export it with triangles, because it has triangle strips or fans")
        position = self.document["accessors"][primitive["attributes"]["POSITION"]]
        if (position["componentType"], position["type"]) != (_FLOAT, "VEC3"):
            raise ValueError("export it without quantisation, because its positions are not 3 floats")
        positions = self._array(position, np.dtype("<f4"), 3).astype(np.float64)
        if "indices" not in primitive:
            indices = np.arange(len(positions))
        else:
            accessor = self.document["accessors"][primitive["indices"]]
            if accessor["componentType"] not in _INDEX_TYPES or accessor["type"] != "SCALAR":
                raise ValueError("export it again, because its indices are not unsigned integers")
            indices = self._array(accessor, _INDEX_TYPES[accessor["componentType"]], 1)[:, 0].astype(np.int64)
        if len(indices) % 3:
            raise ValueError(f"export it again, because {len(indices)} indices do not make triangles")
        if len(indices) and indices.max() >= len(positions):
            raise ValueError(f"export it again, because a face names vertex {indices.max()} of {len(positions)}")
        return positions, indices.reshape(-1, 3)

    def _array(self, accessor: dict[str, Any], dtype: np.dtype, columns: int) -> np.ndarray:
        """(count, columns), without a copy of the buffer."""
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError("export it without sparse accessors, which cannot be read")
        view = self.document["bufferViews"][accessor["bufferView"]]
        if view.get("buffer", 0) != 0 or "uri" in self.document["buffers"][0]:
            raise ValueError("export it as one .glb, because its data is in another file")
        count, item = int(accessor["count"]), dtype.itemsize * columns
        stride = int(view.get("byteStride", item))
        start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
        last = start + (count - 1) * stride + item if count > 0 else start
        if count < 0 or start < 0 or stride < item or last > len(self.buffer):
            raise ValueError("export it again, because an accessor reaches beyond the data")
        self.values += count * columns
        if self.values > self.allowed_values:
            raise ValueError(
                "decimate the mesh, or place fewer copies of it, because it expands to more than "
                f"{self.allowed_values} numbers, from {len(self.buffer)} bytes of data"
            )
        return np.ndarray((count, columns), dtype, self.buffer, start, (stride, dtype.itemsize))


def _local_matrix(node: dict[str, Any]) -> np.ndarray:
    """(4, 4), from the node's axes to its parent's."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), dtype=np.float64)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), dtype=np.float64)
    return matrix
