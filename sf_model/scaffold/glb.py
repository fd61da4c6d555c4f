"""The triangles of a binary glTF 2.0 file (.glb), with the transforms of its default scene.

Read are: nodes with matrix or translation, rotation and scale; meshes with float positions and, if they have them,
indices, as lists of triangles, in the file's own buffer. Not read: materials, skins, morph targets and animations (the
rest pose is taken), and, as errors: compressed or quantised positions, strips and fans, sparse accessors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .objects import MAX_FACES

MAX_VALUES = 300_000_000
# Several nodes may show one mesh; but a small file that stands for gigabytes is damaged, or means harm.
FREE_VALUES = 10_000_000
MAX_REUSE = 64
MAX_JSON_BYTES = 2**26
_INDEX_TYPES = {5121: np.dtype("u1"), 5123: np.dtype("<u2"), 5125: np.dtype("<u4")}
_FLOAT = 5126
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
# Required extensions that say nothing about where triangles are.
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_")


def read_glb(data: bytes, check_cancel: Callable[[], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """vertices (N, 3) float32, faces (M, 3) int64. Raises ValueError, with the remedy, for anything else.

    check_cancel: is called before each part of the mesh, and may raise.
    """
    document, buffer = _chunks(data)
    try:
        for name in document.get("extensionsRequired", []):
            if not name.startswith(_HARMLESS):
                raise ValueError(f"it needs {name}; export it without compression and quantisation")
        return _Reader(document, buffer).triangles(check_cancel or (lambda: None))
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the GLB file is damaged ({type(error).__name__}: {error}); export it again") from error
    except ValueError as error:
        raise ValueError(f"the GLB file cannot be read: {error}") from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk."""
    if len(data) < 20 or data[:4] != b"glTF":
        raise ValueError("this is not a GLB file; export the mesh as binary glTF (.glb)")
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2 or length > len(data):
        raise ValueError(
            f"the GLB file has version {version} and {len(data)} of {length} bytes; export it again as glTF 2.0"
        )
    found: dict[bytes, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, offset)
        if offset + 8 + size > length:
            raise ValueError("the GLB file is truncated; export it again")
        if kind == b"JSON" and size > MAX_JSON_BYTES:
            raise ValueError(f"the GLB file's JSON has {size} bytes, at most {MAX_JSON_BYTES} are read; join its parts")
        found.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    try:
        document = json.loads(found.get(b"JSON", b"").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("the GLB file is damaged (its JSON cannot be read); export it again") from error
    if not isinstance(document, dict):
        raise ValueError("the GLB file is damaged (its JSON is no object); export it again")
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
                raise ValueError(f"node {index} has several parents; export it again")
            visited.add(index)
            local = _local_matrix(nodes[index])
            # Beyond this, products of a few nested ones could overflow.
            if not (np.abs(local) < 1e12).all():
                raise ValueError(f"the transform of node {index} is no usable matrix; export it again")
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
                    raise ValueError(f"it has more than {MAX_FACES} triangles; decimate the mesh")
        return np.concatenate(vertices), np.concatenate(faces)

    def _roots(self, nodes: list[dict[str, Any]]) -> list[int]:
        scenes = self.document.get("scenes")
        if scenes:
            return list(scenes[self.document.get("scene", 0)].get("nodes", []))
        children = {child for node in nodes for child in node.get("children", [])}
        return [index for index in range(len(nodes)) if index not in children]

    def _primitive(self, primitive: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        if primitive.get("mode", _TRIANGLES) in (_STRIP, _FAN):
            raise ValueError("it has triangle strips or fans; export it with triangles")
        position = self.document["accessors"][primitive["attributes"]["POSITION"]]
        if (position["componentType"], position["type"]) != (_FLOAT, "VEC3"):
            raise ValueError("its positions are not 3 floats; export it without quantisation")
        positions = self._array(position, np.dtype("<f4"), 3).astype(np.float64)
        if "indices" not in primitive:
            indices = np.arange(len(positions))
        else:
            accessor = self.document["accessors"][primitive["indices"]]
            if accessor["componentType"] not in _INDEX_TYPES or accessor["type"] != "SCALAR":
                raise ValueError("its indices are not unsigned integers; export it again")
            indices = self._array(accessor, _INDEX_TYPES[accessor["componentType"]], 1)[:, 0].astype(np.int64)
        if len(indices) % 3:
            raise ValueError(f"{len(indices)} indices are no triangles; export it again")
        if len(indices) and indices.max() >= len(positions):
            raise ValueError(f"a face names vertex {indices.max()} of {len(positions)}; export it again")
        return positions, indices.reshape(-1, 3)

    def _array(self, accessor: dict[str, Any], dtype: np.dtype, columns: int) -> np.ndarray:
        """(count, columns) view into the buffer."""
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError("it has sparse accessors; export it without them")
        view = self.document["bufferViews"][accessor["bufferView"]]
        if view.get("buffer", 0) != 0 or "uri" in self.document["buffers"][0]:
            raise ValueError("its data is in another file; export it as one .glb")
        count, item = int(accessor["count"]), dtype.itemsize * columns
        stride = int(view.get("byteStride", item))
        start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
        last = start + (count - 1) * stride + item if count > 0 else start
        if count < 0 or start < 0 or stride < item or last > len(self.buffer):
            raise ValueError("an accessor reaches beyond the data; export it again")
        self.values += count * columns
        if self.values > self.allowed_values:
            raise ValueError(
                f"it stands for more than {self.allowed_values} numbers, with {len(self.buffer)} bytes of data; "
                "decimate the mesh, or place fewer copies of it"
            )
        return np.ndarray((count, columns), dtype, self.buffer, start, (stride, dtype.itemsize))


def _local_matrix(node: dict[str, Any]) -> np.ndarray:
    """(4, 4) to the parent's axes."""
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
