"""The arrays of a glTF file: plain, quantised and sparse accessors, with a bound to what they may expand to."""

from __future__ import annotations

from typing import Any

import numpy as np

from .gltf_container import UNCOMPRESSED, Document, GltfError

MAX_VALUES = 300_000_000
# Several nodes may show one mesh. But a small file that expands to gigabytes is damaged, or an attack.
FREE_VALUES = 10_000_000
MAX_REUSE = 64
_TYPES = {
    5120: np.dtype("i1"),
    5121: np.dtype("u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Accessors:
    """Reads the accessors of a document. Raises ValueError for those that reach beyond the data or are too large."""

    def __init__(self, document: Document, buffers: list[bytes]) -> None:
        self._document, self._buffers = document, buffers
        self._values = 0
        self._allowed_values = min(MAX_VALUES, max(FREE_VALUES, MAX_REUSE * sum(map(len, buffers))))

    def numbers(self, index: int, kind: str) -> np.ndarray:
        """(count, columns) float64 of an accessor of this kind. Normalised integers become -1 to 1 or 0 to 1."""
        accessor = self._document["accessors"][index]
        values = self._array(accessor, kind)
        if not accessor.get("normalized", False) or values.dtype.kind == "f":
            return values.astype(np.float64)
        return np.maximum(values.astype(np.float64) / np.iinfo(values.dtype).max, -1)

    def indices(self, index: int, kind: str = "SCALAR") -> np.ndarray:
        """(count, columns) int64 of an accessor of unsigned integers."""
        accessor = self._document["accessors"][index]
        values = self._array(accessor, kind)
        if values.dtype.kind != "u":
            raise GltfError("export it again, because its indices are not unsigned integers")
        return values.astype(np.int64)

    def _array(self, accessor: dict[str, Any], kind: str) -> np.ndarray:
        if accessor["type"] != kind or accessor["componentType"] not in _TYPES:
            raise GltfError(
                f"export it again, because it has {accessor['type']} of kind {accessor['componentType']} where {kind} "
                "belong"
            )
        dtype, columns, count = _TYPES[accessor["componentType"]], _COLUMNS[kind], int(accessor["count"])
        self._count(count * columns)
        if "bufferView" in accessor:
            values = self._view(accessor, count, dtype, columns)
        else:
            values = np.zeros((max(count, 0), columns), dtype)
        return self._with_sparse(values, accessor["sparse"]) if "sparse" in accessor else values

    def _with_sparse(self, values: np.ndarray, sparse: dict[str, Any]) -> np.ndarray:
        """The values with some of them replaced."""
        count = int(sparse["count"])
        rows, replacements = sparse["indices"], sparse["values"]
        if rows["componentType"] not in _TYPES or _TYPES[rows["componentType"]].kind != "u":
            raise GltfError("export it again, because its sparse indices are not unsigned integers")
        self._count(count * (values.shape[1] + 1))
        places = self._view(rows, count, _TYPES[rows["componentType"]], 1)[:, 0].astype(np.int64)
        if count and places.max() >= len(values):
            raise GltfError(f"export it again, because a sparse value is for row {places.max()} of {len(values)}")
        values = values.copy()
        values[places] = self._view(replacements, count, values.dtype, values.shape[1])
        return values

    def _view(self, place: dict[str, Any], count: int, dtype: np.dtype, columns: int) -> np.ndarray:
        """(count, columns), without a copy of the buffer."""
        view = self._document["bufferViews"][place["bufferView"]]
        buffer = self._buffers[view.get("buffer", 0)]
        item = dtype.itemsize * columns
        stride = int(view.get("byteStride", item))
        start = int(view.get("byteOffset", 0)) + int(place.get("byteOffset", 0))
        last = start + (count - 1) * stride + item if count > 0 else start
        if count < 0 or start < 0 or stride < item or last > len(buffer):
            if any(name.endswith("meshopt_compression") for name in view.get("extensions", {})):
                raise GltfError(f"{UNCOMPRESSED}, because its data is compressed with meshopt")
            raise GltfError("export it again, because an accessor reaches beyond the data")
        return np.ndarray((count, columns), dtype, buffer, start, (stride, dtype.itemsize))

    def _count(self, values: int) -> None:
        """ValueError where all arrays together become too many numbers."""
        self._values += values
        if self._values > self._allowed_values:
            raise GltfError(
                "decimate the mesh, or place fewer copies of it, because it expands to more than "
                f"{self._allowed_values} numbers, from {sum(map(len, self._buffers))} bytes of data"
            )
