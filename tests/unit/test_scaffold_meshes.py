"""Meshes that users bring: what is scaled and where it stands, what is refused, and GLB and OBJ files.

trimesh writes the files and is the second reader.
"""

from __future__ import annotations

import json
import math
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from sf_model.scaffold import Pose, ScaffoldMesh, obj, prepare_mesh, read_mesh

TETRAHEDRON = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 4]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


def mesh(
    size_m: float = 0.0, size_of: str = "height", vertices: torch.Tensor = TETRAHEDRON, **pose: float
) -> ScaffoldMesh:
    return prepare_mesh(vertices, FACES, size_m, size_of, Pose(**pose))


def extents(thing: ScaffoldMesh) -> list[float]:
    return (thing.vertices.amax(dim=0) - thing.vertices.amin(dim=0)).tolist()


@pytest.mark.parametrize(
    "size_of, expected",
    [("height", [4, 6, 8]), ("width", [6, 9, 12]), ("length", [3, 4.5, 6]), ("longest side", [3, 4.5, 6])],
)
def test_scaled_in_proportion_to_a_size_in_metres(size_of: str, expected: list[float]) -> None:
    """The tetrahedron is 2 wide (x), 3 high (y) and 4 long (z)."""
    assert extents(mesh(6.0, size_of)) == pytest.approx(expected)
    assert extents(mesh(0.0, size_of)) == [2, 3, 4]


def test_stands_at_heading_0_as_a_viewer_shows_it() -> None:
    """x right, y up, z towards the viewer: in the world x right, y down, z forward. The footprint is centred."""
    world = mesh(x_m=5.0, y_m=0.5, z_m=7.0).world_vertices()
    expected = [[4, -0.5, 9], [6, -0.5, 9], [4, -3.5, 9], [4, -0.5, 5]]
    torch.testing.assert_close(world, torch.tensor(expected, dtype=torch.float64))


def test_heading_90_turns_the_front_to_image_right() -> None:
    """The front is +z of the mesh: (0, 0, 4) is the front tip."""
    tip = mesh(heading_deg=90.0).world_vertices()[3]
    assert tip[0].item() == pytest.approx(2.0)


def test_a_tilted_mesh_rests_on_the_ground() -> None:
    for attitude in ({"pitch_deg": 40.0}, {"roll_deg": -100.0, "heading_deg": 20.0}):
        world = mesh(y_m=0.25, **attitude).world_vertices()
        assert -world[:, 1].max().item() == pytest.approx(0.25)


def test_vertices_of_no_face_are_ignored_even_if_they_are_nan() -> None:
    """The host pads batches of unequal meshes."""
    padded = torch.cat([TETRAHEDRON, torch.tensor([[math.nan, 0, 0], [100, 100, 100]])])
    for size_m in (0.0, 6.0):
        world = mesh(size_m, vertices=padded).world_vertices()[:4]
        torch.testing.assert_close(world, mesh(size_m).world_vertices())


def test_other_number_types_are_taken() -> None:
    thing = prepare_mesh(TETRAHEDRON.half(), FACES.to(torch.int32), 0.0, "height", Pose())
    assert (thing.vertices.dtype, thing.faces.dtype) == (torch.float32, torch.int64)


BAD_MESHES: dict[str, tuple[Callable[[], object], str]] = {
    "no faces": (
        lambda: prepare_mesh(TETRAHEDRON, FACES[:0], 0.0, "height", Pose()),
        "check the node.*4 vertices and 0 faces",
    ),
    "no vertices": (lambda: prepare_mesh(TETRAHEDRON[:0], FACES, 0.0, "height", Pose()), "0 vertices and 4 faces"),
    "quads": (
        lambda: prepare_mesh(TETRAHEDRON, torch.tensor([[0, 1, 2, 3]]), 0.0, "height", Pose()),
        "a mesh of triangles",
    ),
    "out of range": (
        lambda: prepare_mesh(TETRAHEDRON, FACES + 1, 0.0, "height", Pose()),
        "again.*vertices 1 to 4, .* only 4",
    ),
    "negative": (lambda: prepare_mesh(TETRAHEDRON, FACES - 1, 0.0, "height", Pose()), "vertices -1 to 2"),
    "NaN": (lambda: mesh(vertices=TETRAHEDRON.log()), "export the mesh again.*4 of its 4 vertices are NaN or infinite"),
    "a point": (lambda: mesh(vertices=TETRAHEDRON * 0 + 1), "load another.*one point"),
    "flat": (lambda: mesh(1.0, "length", TETRAHEDRON * torch.tensor([1, 1, 0])), "set another size_of.*length is 0"),
}


@pytest.mark.parametrize("case", BAD_MESHES)
def test_what_is_no_mesh_is_refused_with_a_remedy(case: str) -> None:
    make, message = BAD_MESHES[case]
    with pytest.raises(ValueError, match=message):
        make()


def scene() -> trimesh.Scene:
    """Two meshes, one of them twice, under nested, turned, scaled and mirrored nodes."""
    result = trimesh.Scene()
    box, ball = trimesh.creation.box((1, 2, 3)), trimesh.creation.icosphere(subdivisions=1)
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0.5, 0, 0])
    result.add_geometry(box, node_name="a", geom_name="box", transform=turn)
    mirror = np.diag([-2.0, 1.0, 0.5, 1.0])
    result.add_geometry(ball, node_name="b", geom_name="ball", parent_node_name="a", transform=mirror)
    result.graph.update(frame_to="c", frame_from="b", matrix=turn @ mirror, geometry="box")
    return result


def test_glb_with_nested_transforms_is_what_trimesh_reads() -> None:
    data = scene().export(file_type="glb")
    vertices, faces = read_mesh(data, "glb")
    expected = scene().to_geometry()
    assert len(faces) == len(expected.faces) > 50
    ours = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    np.testing.assert_allclose(ours.bounds, expected.bounds, atol=1e-5)
    np.testing.assert_allclose(
        sorted_centres(ours.triangles_center), sorted_centres(expected.triangles_center), atol=1e-4
    )
    assert ours.area == pytest.approx(expected.area, rel=1e-5)


def sorted_centres(centres: np.ndarray) -> np.ndarray:
    return centres[np.lexsort(np.round(centres, 3).T)]


def test_obj_is_what_trimesh_reads() -> None:
    shape = trimesh.creation.capsule(height=2.0, radius=0.5, count=(8, 8))
    vertices, faces = read_mesh(shape.export(file_type="obj").encode(), "obj")
    np.testing.assert_allclose(vertices.numpy()[faces.numpy()], shape.triangles, atol=1e-6)


def test_obj_polygons_normals_negative_indices_and_other_lines() -> None:
    text = """# a comment
mtllib nothing.mtl
o thing
v 0 0 0 1.0 0.5 0.5
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vn 0 0 1
usemtl red
s off
f 1/1/1 2//1 3 \\
4
f -4 -3 -2
"""
    vertices, faces = read_mesh(text.replace("\n", "\r\n").encode(), "obj")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()


def glb(changes: dict[str, Any] | None = None, binary: bytes = TRIANGLE) -> bytes:
    """A file of one triangle without indices, with parts of its document replaced."""
    document = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": [{"buffer": 0, "byteLength": len(binary)}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    } | (changes or {})
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def test_glb_without_indices_and_with_interleaved_positions() -> None:
    _, faces = read_mesh(glb(), "glb")
    assert faces.tolist() == [[0, 1, 2]]
    rows = np.zeros((3, 5), "<f4")
    rows[:, 1:4] = [[0, 0, 1], [1, 0, 1], [0, 1, 1]]
    stride = {"bufferViews": [{"buffer": 0, "byteOffset": 4, "byteLength": 56, "byteStride": 20}]}
    vertices, _ = read_mesh(glb(stride, rows.tobytes()), "glb")
    assert vertices.tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 1]]


def test_glb_translation_rotation_and_scale() -> None:
    """Scaled by 2, turned by 90 degrees about z, moved: (1, 0, 0) goes to (0, 2, 0) + (10, 0, 0)."""
    half = math.sqrt(0.5)
    node = {"mesh": 0, "translation": [10, 0, 0], "rotation": [0, 0, half, half], "scale": [2, 2, 2]}
    vertices, _ = read_mesh(glb({"nodes": [node]}), "glb")
    np.testing.assert_allclose(vertices.numpy(), [[10, 0, 0], [10, 2, 0], [8, 0, 0]], atol=1e-6)


def test_glb_points_and_lines_are_passed_over() -> None:
    primitives = [{"attributes": {"POSITION": 0}, "mode": mode} for mode in (0, 1, 4)]
    assert len(read_mesh(glb({"meshes": [{"primitives": primitives}]}), "glb")[1]) == 1


def primitive(**changes: Any) -> dict[str, Any]:
    return {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}} | changes]}]}


def accessor(**changes: Any) -> dict[str, Any]:
    return {"accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"} | changes]}


BAD_FILES: dict[str, tuple[bytes, str, str]] = {
    "unknown format": (b"", "3ds", "export it as glb, gltf, obj or stl: a 3ds file cannot be read"),
    "fbx": (b"", "fbx", "open it in Blender .* export it as glTF"),
    "nameless": (b"", "", "nameless file"),
    "empty glb": (b"", "glb", "not a GLB"),
    "text as glb": (b"solid" * 100, "glb", "not a GLB"),
    "version 1": (struct.pack("<4sII", b"glTF", 1, 20) + b"\0" * 8, "glb", "version 1"),
    "truncated": (glb()[:-8], "glb", "export the GLB file again.*bytes"),
    "no JSON": (struct.pack("<4sIII4s", b"glTF", 2, 20, 0, b"BIN\0"), "glb", "JSON cannot be read"),
    "JSON of another kind": (struct.pack("<4sIII4s", b"glTF", 2, 24, 4, b"JSON") + b"[1] ", "glb", "not an object"),
    "deep JSON": (
        struct.pack("<4sIII4s", b"glTF", 2, 20 + 400_000, 400_000, b"JSON") + b"[" * 400_000,
        "glb",
        "JSON cannot be read",
    ),
    "draco": (glb({"extensionsRequired": ["KHR_draco_mesh_compression"]}), "glb", "without compression.*KHR_draco"),
    "draco, not required": (
        glb(primitive(extensions={"KHR_draco_mesh_compression": {"bufferView": 0}})),
        "glb",
        "without compression.*Draco",
    ),
    "unknown kind": (glb(accessor(componentType=5124)), "glb", "VEC3 of kind 5124"),
    "sparse, damaged": (glb(accessor(sparse={"count": 1})), "glb", "damaged"),
    "beyond the data": (glb(accessor(count=4)), "glb", "beyond the data"),
    "negative offset": (glb(accessor(byteOffset=-4)), "glb", "beyond the data"),
    "no triangles": (glb(accessor(count=2)), "glb", "2 indices do not make triangles"),
    "another file": (
        glb({"buffers": [{"byteLength": 36, "uri": "a.bin"}]}),
        "glb",
        "export it as one .glb, because its data is in another file, .a.bin",
    ),
    "missing accessor": (glb({"accessors": []}), "glb", "damaged"),
    "nodes of another kind": (glb({"nodes": 7}), "glb", "damaged"),
    "circle": (glb({"nodes": [{"mesh": 0, "children": [0]}]}), "glb", "several parents"),
    "bad matrix": (glb({"nodes": [{"mesh": 0, "matrix": [1, 2]}]}), "glb", "export the glTF file again"),
    "obj vertex": (b"v 1 2\nf 1 1 1", "obj", "line 1 of the OBJ file, 'v 1 2': a vertex has 3"),
    "obj word": (b"v 1 2 x\n", "obj", "line 1"),
    "obj face": (b"v 1 2 3\nf 1 1\n", "obj", "line 2 .*at least 3 corners"),
    "obj zero": (b"v 1 2 3\nf 0 1 1\n", "obj", "count from 1"),
    "obj binary": (b"f \xff\xfe\n", "obj", "line 1"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_damaged_and_foreign_files_are_refused_with_a_remedy(case: str) -> None:
    data, file_format, message = BAD_FILES[case]
    with pytest.raises(ValueError, match=message):
        read_mesh(data, file_format)


def repeated_glb(nodes: int, primitives: int) -> bytes:
    """1000 triangles, shown primitives times by each of the nodes."""
    document = accessor(count=3000) | {
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}] * primitives}],
        "nodes": [{"mesh": 0}] * nodes,
        "scenes": [{"nodes": list(range(nodes))}],
    }
    return glb(document, TRIANGLE * 1000)


def test_a_small_glb_that_stands_for_gigabytes_is_refused_before_they_are_made() -> None:
    assert len(read_mesh(repeated_glb(nodes=20, primitives=3), "glb")[1]) == 60_000
    data = repeated_glb(nodes=1000, primitives=100)  # 900 million numbers
    assert len(data) < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="fewer copies.*more than 10000000 numbers, from 36000 bytes of data"):
            read_mesh(data, "glb")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200e6


class CancelledError(Exception):
    """What the host raises, in its place."""


@pytest.mark.parametrize("file_format", ["glb", "obj"])
def test_a_long_reading_can_be_cancelled(file_format: str) -> None:
    data = repeated_glb(10, 1) if file_format == "glb" else b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"f 1 2 3\n" * 100_000
    calls = 0

    def check_cancel() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise CancelledError

    with pytest.raises(CancelledError):
        read_mesh(data, file_format, check_cancel)
    assert calls == 3


def test_an_obj_is_bounded_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are kept as such, not as Python's objects, and what is too much is not read to its end."""
    data = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"f 1 2 3 1\n" * 10_000
    tracemalloc.start()
    try:
        assert len(read_mesh(data, "obj")[1]) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * 20_000  # bytes a triangle, of which the result has 24
    monkeypatch.setattr(obj, "MAX_FACES", 1000)
    with pytest.raises(ValueError, match="decimate.*more than 1000 triangles or"):
        read_mesh(data + b"f not understood\n", "obj")
    with pytest.raises(ValueError, match="export it again: line 1 .*more than 1048576 bytes"):
        read_mesh(b"f" + b" 1" * 2**20, "obj")
    with pytest.raises(ValueError, match="line 4 of the OBJ file, 'f 1 2 999"):
        read_mesh(b"v 0 0 0\nv 1 0 0\\\n 0\nf 1 2 " + b"9" * 30, "obj")


def test_any_damage_to_a_glb_is_an_error_or_a_mesh_but_never_another_exception() -> None:
    generator = np.random.default_rng(0)
    original = scene().export(file_type="glb")
    for _ in range(300):
        data = bytearray(original)
        for place in generator.integers(0, len(data) if generator.random() < 0.2 else 1500, 3):
            data[place] = generator.integers(0, 256)
        try:
            read_mesh(bytes(data), "glb")
        except ValueError:
            continue


def test_files_without_faces_are_refused_when_they_are_placed() -> None:
    vertices, faces = read_mesh(b"v 0 0 0\nv 1 0 0\n", "obj")
    with pytest.raises(ValueError, match="2 vertices and 0 faces"):
        prepare_mesh(vertices, faces, 1.0, "height", Pose())
