"""Metric Depth to Mesh: what the host's own savers write of it, and the host's own mesh node on our geometry."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from tests.host.mini_graphs import GEOMETRY, host_mesh, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError
from tools import hosts

SIZE = 32
PLY_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])


def mesh_graph(kind: str = "moge", batch: int = 1, **options: Any) -> Graph:
    inputs = {
        "geometry": ["geometry", 0],
        "batch_index": 0,
        "decimation": 1,
        "discontinuity_threshold": 0.05,
        "confidence_threshold": 0.0,
        "max_depth_m": 100.0,
    } | options
    return {
        "geometry": node("ProbeGeometry", kind=kind, width=SIZE, height=SIZE, batch=batch),
        "mesh": node("SpatialFusionDepthToMesh", **inputs),
        "save mesh": node("SaveGLB", mesh=["mesh", 0], filename_prefix="3d/test_mesh"),
        "save points": node("SaveGLB", mesh=["mesh", 1], filename_prefix="3d/test_points"),
    }


def read_glb(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON of a .glb and its only primitive's arrays, by attribute and "faces"."""
    assert struct.unpack("<4sI", data[:8]) == (b"glTF", 2)
    (length,) = struct.unpack("<I", data[12:16])
    document = json.loads(data[20 : 20 + length])
    binary = data[20 + length + 8 :]

    def accessor(index: int, columns: int) -> np.ndarray:
        entry = document["accessors"][index]
        start = document["bufferViews"][entry["bufferView"]].get("byteOffset", 0) + entry.get("byteOffset", 0)
        dtype = {5126: np.float32, 5125: np.uint32}[entry["componentType"]]
        count = entry["count"] * (1 if entry["type"] == "SCALAR" else columns)
        return np.frombuffer(binary, dtype, count, start).reshape(-1, columns)

    (primitive,) = document["meshes"][0]["primitives"]
    columns = {"POSITION": 3, "TEXCOORD_0": 2}
    arrays = {name: accessor(index, columns[name]) for name, index in primitive["attributes"].items()}
    return document, arrays | {"faces": accessor(primitive["indices"], 3)}


def read_ply(data: bytes) -> np.ndarray:
    return np.frombuffer(data.split(b"end_header\n", 1)[1], PLY_VERTEX)


def expected_points() -> np.ndarray:
    """(N, 3) glTF axes: the probe plane, 2 m left to 6 m right, 90 degrees, no surface in the top quarter."""
    column, row = np.meshgrid(np.arange(SIZE), np.arange(SIZE // 4, SIZE))
    z = 2 + 4 * column / (SIZE - 1)
    x, y = (column + 0.5) * 2 / SIZE - 1, (row + 0.5) * 2 / SIZE - 1
    return np.stack([x * z, -y * z, -z], -1).reshape(-1, 3)


def test_the_hosts_saver_writes_metres_in_gltf_axes(server: ComfyServer) -> None:
    outputs = server.run(mesh_graph())
    document, arrays = read_glb(server.view(outputs["save mesh"]["3d"][0]))
    expected = expected_points()
    assert arrays["POSITION"].shape == expected.shape
    assert abs(arrays["POSITION"] - expected).max() < 1e-5
    assert len(arrays["faces"]) == 2 * (SIZE - 1) * (SIZE * 3 // 4 - 1)
    corners = arrays["POSITION"][arrays["faces"]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # The camera, at the origin, is in front of every triangle.
    assert (np.einsum("ij,ij->i", normals, corners[:, 0]) < 0).all()
    # 0.18.2's meshes have no texture.
    assert ("images" in document) == ("TEXCOORD_0" in arrays) == (server.version == hosts.NEWEST.version)


def test_the_point_cloud_is_a_ply_in_metres(server: ComfyServer) -> None:
    outputs = server.run(mesh_graph(decimation=2))
    (file,) = outputs["save points"]["3d"]
    assert file["filename"].endswith(".ply")
    points = read_ply(server.view(file))
    column, row = np.meshgrid(np.arange(SIZE), np.arange(SIZE // 4, SIZE))
    chosen = ((column % 2 == 0) & (row % 2 == 0)).reshape(-1)
    assert abs(points["position"] - expected_points()[chosen]).max() < 1e-5
    assert (points["color"] == 0).all()  # the probe's image is black


def test_3d_previews_take_both(server: ComfyServer) -> None:
    graph = mesh_graph()
    del graph["save points"]
    graph["preview"] = node("Preview3D", model_file=["mesh", 1])
    if server.version == hosts.NEWEST.version:  # the older host has no node of its own for points
        size = {"width": 256, "height": 256, "viewport_state": ""}
        graph["points"] = node("PreviewPointCloud", model_3d=["mesh", 1], **size)
        graph["save"] = node("SavePointCloud", model_3d=["mesh", 1], filename_prefix="3d/points", **size)
    outputs = server.run(graph)
    for name in graph.keys() - {"geometry", "mesh", "save mesh"}:
        assert outputs[name]["result"][0].endswith(".ply"), name


def test_depth_anything_3_and_the_second_image(server: ComfyServer) -> None:
    """At the host's defaults it runs 504 pixels wide: metres are its output * 0.7 * 504 / 300."""
    graph = mesh_graph("da3", batch=2, batch_index=1)
    _, arrays = read_glb(server.view(server.run(graph)["save mesh"]["3d"][0]))
    assert arrays["POSITION"][:, 2].min() == pytest.approx(-6 * 1.176)
    assert arrays["POSITION"][:, 2].max() == pytest.approx(-2 * 1.176)


def test_the_hosts_mesh_node_takes_our_geometry(newest_server: ComfyServer) -> None:
    graph = predict_graph()
    graph["host"] = host_mesh(GEOMETRY)
    graph["ours"] = mesh_graph()["mesh"]
    graph["ours"]["inputs"] |= {"geometry": GEOMETRY, "discontinuity_threshold": 0.0, "max_depth_m": 1000.0}
    graph["save host"] = node("SaveGLB", mesh=["host", 0], filename_prefix="3d/host")
    graph["save ours"] = node("SaveGLB", mesh=["ours", 0], filename_prefix="3d/ours")
    outputs = newest_server.run(graph)
    _, host = read_glb(newest_server.view(outputs["save host"]["3d"][0]))
    _, ours = read_glb(newest_server.view(outputs["save ours"]["3d"][0]))
    # The host keeps pixels that no triangle uses.
    assert {tuple(vertex) for vertex in ours["POSITION"]} <= {tuple(vertex) for vertex in host["POSITION"]}
    assert len(ours["faces"]) >= len(host["faces"]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_index": 3}, "set batch_index below 1: it is 3, and this geometry has 1 image"),
        ({"max_depth_m": 1.0}, "nothing is left of this depth"),
        ({"decimation": 20}, "the mesh has no faces"),
        ({"kind": "panorama"}, "it has no camera"),
        ({"kind": "nan"}, "NaN"),
    ],
)
def test_bad_input_is_told_on_the_node(server: ComfyServer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        server.run(mesh_graph(**options))
    assert caught.value.node_id == "mesh"
    assert server.alive
