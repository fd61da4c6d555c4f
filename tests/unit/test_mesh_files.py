"""Mesh files as people have them: OBJ as editors save it, STL, glTF beside its data, strips, sparse values and skins.

trimesh writes files where it can; the others are built here and worked out by hand.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
import trimesh

from sf_model.scaffold import read_mesh
from tests.unit.test_scaffold_meshes import CancelledError, glb

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
PLAIN = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"
# The same square, as programs write it.
OBJ_FILES = {
    "plain": PLAIN.encode(),
    "tabs": PLAIN.replace(" ", "\t").encode(),
    "a tab after the letter of one vertex": PLAIN.replace("v 1 0 0", "v\t1 0 0").encode(),
    "indented": PLAIN.replace("v ", "  v  ").replace("f ", "\tf\t").encode(),
    "comments behind": PLAIN.replace("\n", " # note\n").encode(),
    "comments that touch": PLAIN.replace("\n", "#note\n").encode(),
    "a byte-order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "a path in a comment": ("# C:\\models\\\n" + PLAIN).encode(),
    "a path in a comment behind": PLAIN.replace("v 1 0 0", "v 1 0 0 # from C:\\").encode(),
    "Windows": ("# C:\\\r\n" + PLAIN.replace("\n", "\r\n")).encode(),
    "old Macs": PLAIN.replace("\n", "\r").encode(),
    "continued": PLAIN.replace("f 1 2 3 4", "f 1 2 \\\n 3 4").encode(),
    "other words": ("vt 0 0\nvn 0 0 1\nvp 1\nfo 1\nusemtl #1\n" + PLAIN).encode(),
}


@pytest.mark.parametrize("case", OBJ_FILES)
def test_obj_as_programs_write_it(case: str) -> None:
    vertices, faces = read_mesh(OBJ_FILES[case], "obj")
    assert vertices.tolist() == SQUARE
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_obj_of_two_bytes_a_letter_is_refused() -> None:
    for encoding in ("utf-16", "utf-16-be"):
        mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
        with pytest.raises(ValueError, match="save the OBJ file as UTF-8"):
            read_mesh(mark + PLAIN.encode(encoding), "obj")


def triangles(vertices: Any, faces: Any) -> np.ndarray:
    """(M, 3, 3), in an order that depends on nothing but the triangles."""
    corners = np.asarray(vertices)[np.asarray(faces)].astype(np.float64)
    return corners[np.lexsort(np.round(corners.reshape(-1, 9), 4).T)]


@pytest.mark.parametrize("kind", ["stl", "stl_ascii"])
def test_stl_is_what_trimesh_writes(kind: str) -> None:
    shape = trimesh.creation.capsule(height=2.0, radius=0.5, count=(8, 8))
    data = shape.export(file_type=kind)
    vertices, faces = read_mesh(data if isinstance(data, bytes) else data.encode(), "stl")
    assert len(vertices) == len(shape.vertices)  # corners at one place are one vertex
    np.testing.assert_allclose(triangles(vertices, faces), triangles(shape.vertices, shape.faces), atol=1e-6)


def test_a_binary_stl_that_begins_as_text_is_binary() -> None:
    data = bytearray(trimesh.creation.box().export(file_type="stl"))
    data[:5] = b"solid"
    assert len(read_mesh(bytes(data), "stl")[1]) == 12


def test_damaged_stl_files_are_refused() -> None:
    data = trimesh.creation.box().export(file_type="stl")
    for damaged, message in (
        (data[:-1], "export the STL file again: it has 683 bytes, and its 12 triangles need 684"),
        (b"", "it has 0 bytes"),
        (b"solid nothing", "it has no triangles"),
        (bytes(84), "it has no triangles"),
        (b"solid\nvertex 1 2 x\n", "line 2 is no vertex"),
        (b"solid\nvertex 1 2 3\n", "1 corners do not make triangles"),
    ):
        with pytest.raises(ValueError, match=message):
            read_mesh(damaged, "stl")

    def cancel() -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        read_mesh(data, "stl", cancel)


def scene() -> trimesh.Scene:
    result = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0.5, 0, 0])
    result.add_geometry(trimesh.creation.box((1, 2, 3)), node_name="a", transform=turn)
    result.add_geometry(trimesh.creation.icosphere(subdivisions=1), node_name="b", parent_node_name="a")
    return result


@pytest.mark.parametrize("embedded", [False, True])
def test_gltf_beside_its_data_is_what_trimesh_writes(embedded: bool) -> None:
    files = trimesh.exchange.gltf.export_gltf(scene())
    document = files.pop("model.gltf")
    if embedded:
        parsed = json.loads(document)
        for buffer in parsed["buffers"]:
            content = base64.b64encode(files[buffer["uri"]]).decode()
            buffer["uri"] = f"data:application/octet-stream;base64,{content}"
        document = json.dumps(parsed).encode()
    vertices, faces = read_mesh(document, "gltf", read_beside=None if embedded else files.__getitem__)
    expected = scene().to_geometry()
    np.testing.assert_allclose(triangles(vertices, faces), triangles(expected.vertices, expected.faces), atol=1e-4)


@pytest.mark.parametrize(
    "uri, message",
    [
        ("../a.bin", "its data is at '../a.bin', and only files beside it are read"),
        ("/etc/passwd", "only files beside it"),
        ("%2e%2e/a.bin", "only files beside it"),
        ("a/..\\..\\b.bin", "only files beside it"),
        ("C:/a.bin", "only files beside it"),
        ("file:///a.bin", "only files beside it"),
        ("https://example.org/a.bin", "only files beside it"),
        ("data:text/plain,abc", "not base64"),
        ("data:;base64,_", "embedded data is damaged"),
    ],
)
def test_gltf_reads_nothing_from_elsewhere(uri: str, message: str) -> None:
    document = {"buffers": [{"byteLength": 36, "uri": uri}]}
    asked: list[str] = []

    def read_beside(name: str) -> bytes:
        asked.append(name)
        return b""

    with pytest.raises(ValueError, match=message):
        read_mesh(json.dumps(document).encode(), "gltf", read_beside=read_beside)
    assert asked == []


def square(mode: int, indices: list[int] | None = None, positions: Any = SQUARE) -> dict[str, Any]:
    """A document and its data: one primitive of these positions."""
    data = np.array(positions, "<f4").tobytes()
    accessors = [{"bufferView": 0, "componentType": 5126, "count": len(positions), "type": "VEC3"}]
    views = [{"buffer": 0, "byteLength": len(data)}]
    primitive: dict[str, Any] = {"attributes": {"POSITION": 0}, "mode": mode}
    if indices is not None:
        packed = np.array(indices, "<u2").tobytes()
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(packed)})
        accessors.append({"bufferView": 1, "componentType": 5123, "count": len(indices), "type": "SCALAR"})
        primitive["indices"] = 1
        data += packed
    changes = {"accessors": accessors, "bufferViews": views, "meshes": [{"primitives": [primitive]}]}
    return {"changes": changes, "binary": data}


def test_strips_and_fans() -> None:
    """0 1 3 2 as a strip is 0 1 3 and, turned to the same side, 3 1 2; 0 1 2 3 as a fan is 0 1 2 and 0 2 3."""
    _, faces = read_mesh(glb(**square(5, [0, 1, 3, 2])), "glb")
    assert faces.tolist() == [[0, 1, 3], [3, 1, 2]]
    _, faces = read_mesh(glb(**square(6)), "glb")
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert len(read_mesh(glb(**square(5, [0, 1])), "glb")[1]) == 0


def test_sparse_positions() -> None:
    """Three zeros, of which two are replaced; and a full accessor of which one is replaced."""
    values = np.array([[1, 0, 0], [0, 5, 0]], "<f4").tobytes()
    data = np.array([1, 2], "<u1").tobytes() + b"\0\0" + values
    views = [{"buffer": 0, "byteLength": 2}, {"buffer": 0, "byteOffset": 4, "byteLength": 24}]
    sparse = {"count": 2, "indices": {"bufferView": 0, "componentType": 5121}, "values": {"bufferView": 1}}
    accessor = {"componentType": 5126, "count": 3, "type": "VEC3", "sparse": sparse}
    vertices, _ = read_mesh(glb({"accessors": [accessor], "bufferViews": views}, data), "glb")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 5, 0]]
    views.append({"buffer": 0, "byteOffset": 28, "byteLength": 36})
    full = np.full((3, 3), 7, "<f4").tobytes()
    changes = {"accessors": [accessor | {"bufferView": 2}], "bufferViews": views}
    vertices, _ = read_mesh(glb(changes, data + full), "glb")
    assert vertices.tolist() == [[7, 7, 7], [1, 0, 0], [0, 5, 0]]
    sparse["count"] = 200
    with pytest.raises(ValueError, match="reaches beyond the data"):
        read_mesh(glb(changes, data + full), "glb")
    sparse |= {"count": 2}
    with pytest.raises(ValueError, match="a sparse value is for row 200 of 3"):
        read_mesh(glb(changes, b"\x01\xc8" + (data + full)[2:]), "glb")


def test_quantised_positions() -> None:
    """Normalised 16-bit integers: 32767 is 1."""
    data = np.array([[0, 0, 0, 0], [32767, 0, 0, 0], [0, -32767, 0, 0]], "<i2").tobytes()
    accessor = {"bufferView": 0, "componentType": 5122, "count": 3, "type": "VEC3", "normalized": True}
    changes = {
        "accessors": [accessor],
        "bufferViews": [{"buffer": 0, "byteLength": 24, "byteStride": 8}],
        "extensionsRequired": ["KHR_mesh_quantization"],
    }
    vertices, _ = read_mesh(glb(changes, data), "glb")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, -1, 0]]


def skinned(weights: Any, inverse: np.ndarray | None = None, joint_node: dict[str, Any] | None = None) -> bytes:
    """A triangle on a node that is moved by 100, with a skin of two joints: one at rest, one moved by 10 along x."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    joints = np.tile(np.array([0, 1, 0, 0], "u1"), (3, 1)).tobytes()
    parts = [positions, joints, np.array(weights, "<f4").tobytes()]
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
        {"bufferView": 1, "componentType": 5121, "count": 3, "type": "VEC4"},
        {"bufferView": 2, "componentType": 5126, "count": 3, "type": "VEC4"},
    ]
    skin: dict[str, Any] = {"joints": [1, 2]}
    if inverse is not None:
        skin["inverseBindMatrices"] = 3
        parts.append(inverse.astype("<f4").tobytes())
        accessors.append({"bufferView": 3, "componentType": 5126, "count": 2, "type": "MAT4"})
    offsets = np.cumsum([0, *map(len, parts)])
    views = [{"buffer": 0, "byteOffset": int(offset), "byteLength": len(part)} for offset, part in zip(offsets, parts)]
    attributes = {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2}
    changes = {
        "accessors": accessors,
        "bufferViews": views,
        "meshes": [{"primitives": [{"attributes": attributes}]}],
        "nodes": [
            {"mesh": 0, "skin": 0, "translation": [100, 0, 0], "scale": [9, 9, 9]},
            {},
            {"translation": [10, 0, 0]} | (joint_node or {}),
        ],
        "scenes": [{"nodes": [0, 1, 2]}],
        "skins": [skin],
    }
    return glb(changes, b"".join(parts))


def test_a_skinned_mesh_stands_where_its_joints_do() -> None:
    """The node's own transform, +100 and 9 times as large, is ignored, as the format demands."""
    first, second, both = [1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]
    vertices, _ = read_mesh(skinned([first] * 3), "glb")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    vertices, _ = read_mesh(skinned([first, second, both]), "glb")
    assert vertices.tolist() == [[0, 0, 0], [11, 0, 0], [5, 1, 0]]
    # In the pose in which it was bound, the inverse matrix undoes the joint.
    inverse = np.stack([np.eye(4), np.eye(4)])
    inverse[1, 3, :3] = [-10, 0, 0]  # columns first
    vertices, _ = read_mesh(skinned([second] * 3, inverse), "glb")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    half = math.sqrt(0.5)  # the joint turned by 90 degrees about z: (1, 0, 0) -> (0, 1, 0)
    vertices, _ = read_mesh(skinned([second] * 3, inverse, {"rotation": [0, 0, half, half]}), "glb")
    np.testing.assert_allclose(vertices.numpy(), [[10, -10, 0], [10, -9, 0], [9, -10, 0]], atol=1e-5)
    # Weights that do not add up to 1, and none at all.
    vertices, _ = read_mesh(skinned([[2, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0]]), "glb")
    assert vertices.tolist() == [[0, 0, 0], [11, 0, 0], [0, 1, 0]]


def test_damaged_skins_are_refused() -> None:
    data = skinned([[1, 0, 0, 0]] * 3)
    for found, replaced, message in (
        (b'"joints": [1, 2]', b'"joints": [1, 9]', "damaged"),
        (b'"joints": [1, 2]', b'"joints": [1]   ', "names joints or vertices that there are not"),
        (b'"componentType": 5121', b'"componentType": 5126', "reaches beyond the data|not unsigned integers"),
    ):
        assert found in data
        with pytest.raises(ValueError, match=message):
            read_mesh(data.replace(found, replaced), "glb")
