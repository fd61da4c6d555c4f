"""The triangles of a glTF 2.0 file (.glb, .gltf), with the transforms of its default scene.

Reads nodes with matrix or translation, rotation and scale; meshes of triangles, strips and fans; and skins in the pose
in which the joints stand in the file. The transform of a node with a skin is ignored, as the format says: its joints
place it. Ignores materials, morph targets and animations. Compressed meshes are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .gltf_accessors import Accessors
from .gltf_container import UNCOMPRESSED, Document, GltfError, ReadBeside, buffers_of, open_glb, parse_document
from .objects import MAX_FACES

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
# Required extensions that do not change the triangles, and those that the accessors read anyhow.
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_", "KHR_mesh_quantization")


def read_glb(
    data: bytes, check_cancel: Callable[[], None] | None = None, read_beside: ReadBeside | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) float32 and faces (M, 3) int64. Raises ValueError for a file that it cannot read.

    check_cancel: is called before each part of the mesh, and may raise. read_beside: for files that name others.
    """
    document, binary = open_glb(data)
    return _read(document, binary, check_cancel, read_beside)


def read_gltf(
    data: bytes, check_cancel: Callable[[], None] | None = None, read_beside: ReadBeside | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the JSON of a .gltf file."""
    return _read(parse_document(data), b"", check_cancel, read_beside)


def _read(
    document: Document, binary: bytes, check_cancel: Callable[[], None] | None, read_beside: ReadBeside | None
) -> tuple[np.ndarray, np.ndarray]:
    try:
        for name in document.get("extensionsRequired", []):
            if not name.startswith(_HARMLESS):
                raise GltfError(f"{UNCOMPRESSED}, because it needs {name}")
        accessors = Accessors(document, buffers_of(document, binary, read_beside))
        return _Scene(document, accessors).triangles(check_cancel or (lambda: None))
    except GltfError:
        raise
    # What broken values of the JSON lead to, in Python and NumPy.
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise GltfError(f"export the glTF file again: it is damaged ({type(error).__name__}: {error})") from error


class _Scene:
    def __init__(self, document: Document, accessors: Accessors) -> None:
        self.document, self.accessors = document, accessors
        self.nodes: list[dict[str, Any]] = document.get("nodes", [])
        self.matrices = self._world_matrices()

    def triangles(self, check_cancel: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
        vertices, faces = [np.zeros((0, 3), np.float32)], [np.zeros((0, 3), np.int64)]
        count, face_count = 0, 0
        for index in self._shown():
            node = self.nodes[index]
            if "mesh" not in node:
                continue
            for primitive in self.document["meshes"][node["mesh"]]["primitives"]:
                if primitive.get("mode", _TRIANGLES) < _TRIANGLES:
                    continue  # points and lines
                check_cancel()
                positions, corners = self._primitive(primitive)
                vertices.append(self._placed(positions, primitive, index).astype(np.float32))
                faces.append(corners + count)
                count += len(positions)
                face_count += len(corners)
                if face_count > MAX_FACES:
                    raise GltfError(f"decimate the mesh, because it has more than {MAX_FACES} triangles")
        return np.concatenate(vertices), np.concatenate(faces)

    def _world_matrices(self) -> list[np.ndarray]:
        """(4, 4) of every node, from its axes to the world's. ValueError for a node with several parents."""
        parents: dict[int, int] = {}
        for parent, node in enumerate(self.nodes):
            for child in node.get("children", []):
                if parents.setdefault(child, parent) != parent or not 0 <= child < len(self.nodes):
                    raise GltfError(f"export it again, because node {child} has several parents")
        matrices: list[np.ndarray | None] = [None] * len(self.nodes)
        for start in range(len(self.nodes)):
            chain = [start]
            while matrices[chain[-1]] is None and chain[-1] in parents:
                if parents[chain[-1]] in chain:
                    raise GltfError(f"export it again, because node {start} has several parents, in a circle")
                chain.append(parents[chain[-1]])
            for index in reversed(chain):
                if matrices[index] is None:
                    parent = matrices[parents[index]] if index in parents else None
                    local = self._local(index)
                    matrices[index] = local if parent is None else parent @ local
        return matrices  # type: ignore[return-value]  # every one is set now

    def _local(self, index: int) -> np.ndarray:
        local = _local_matrix(self.nodes[index])
        # With larger values the product of a few nested nodes could overflow.
        if not (np.abs(local) < 1e12).all():
            raise GltfError(f"export it again, because the transform of node {index} is not a usable matrix")
        return local

    def _shown(self) -> Iterator[int]:
        """The nodes of the default scene; without scenes, all."""
        scenes = self.document.get("scenes")
        if not scenes:
            yield from range(len(self.nodes))
            return
        stack = list(scenes[self.document.get("scene", 0)].get("nodes", []))
        seen: set[int] = set()
        while stack:
            index = stack.pop()
            if index in seen:
                raise GltfError(f"export it again, because node {index} has several parents")
            seen.add(index)
            yield index
            stack += self.nodes[index].get("children", [])

    def _placed(self, positions: np.ndarray, primitive: dict[str, Any], index: int) -> np.ndarray:
        """(N, 3) positions of a node's mesh in the world."""
        attributes = primitive["attributes"]
        if "skin" in self.nodes[index] and "JOINTS_0" in attributes and "WEIGHTS_0" in attributes:
            return self._skinned(positions, attributes, self.document["skins"][self.nodes[index]["skin"]])
        return _moved(positions, self.matrices[index])

    def _skinned(self, positions: np.ndarray, attributes: dict[str, int], skin: dict[str, Any]) -> np.ndarray:
        """(N, 3) the mean of where the joints carry each position, by their weights."""
        joints: list[int] = skin["joints"]
        matrices = np.stack([self.matrices[joint] for joint in joints])
        if "inverseBindMatrices" in skin:
            inverse = self.accessors.numbers(skin["inverseBindMatrices"], "MAT4")
            # Columns come first in the format.
            matrices = matrices @ inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
        total, weights_sum = np.zeros_like(positions), np.zeros((len(positions), 1))
        group = 0
        while f"JOINTS_{group}" in attributes:
            bones = self.accessors.indices(attributes[f"JOINTS_{group}"], "VEC4")
            weights = self.accessors.numbers(attributes[f"WEIGHTS_{group}"], "VEC4")
            if len(bones) != len(positions) or len(weights) != len(positions) or bones.max(initial=0) >= len(joints):
                raise GltfError("export it again, because its skin names joints or vertices that there are not")
            for bone, weight in zip(bones.T, weights.T):
                for joint in np.unique(bone[weight > 0]):
                    rows = (bone == joint) & (weight > 0)
                    total[rows] += weight[rows, None] * _moved(positions[rows], matrices[joint])
            weights_sum += weights.sum(axis=1, keepdims=True)
            group += 1
        # A vertex that no joint moves stays where the first joint has it.
        free = weights_sum[:, 0] <= 0
        total[free] = _moved(positions[free], matrices[0])
        return total / np.where(weights_sum > 0, weights_sum, 1)

    def _primitive(self, primitive: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        if "KHR_draco_mesh_compression" in primitive.get("extensions", {}):
            raise GltfError(f"{UNCOMPRESSED}, because its triangles are compressed with Draco")
        positions = self.accessors.numbers(primitive["attributes"]["POSITION"], "VEC3")
        if "indices" in primitive:
            indices = self.accessors.indices(primitive["indices"])[:, 0]
        else:
            indices = np.arange(len(positions))
        if len(indices) and indices.max() >= len(positions):
            raise GltfError(f"export it again, because a face names vertex {indices.max()} of {len(positions)}")
        return positions, _corners(indices, primitive.get("mode", _TRIANGLES))


def _corners(indices: np.ndarray, mode: int) -> np.ndarray:
    """(M, 3) the triangles of a list, a strip or a fan."""
    if mode in (_STRIP, _FAN) and len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == _STRIP:
        # Every second triangle runs the other way round.
        corners = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
        corners[1::2] = corners[1::2, [1, 0, 2]]
        return corners
    if mode == _FAN:
        return np.stack([np.broadcast_to(indices[0], len(indices) - 2), indices[1:-1], indices[2:]], axis=1)
    if len(indices) % 3:
        raise GltfError(f"export it again, because {len(indices)} indices do not make triangles")
    return indices.reshape(-1, 3)


def _moved(positions: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return positions @ matrix[:3, :3].T + matrix[:3, 3]


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
