"""Place Shape, Place Mesh and Compose Depth Scaffold in real servers, with the nodes that they plug into."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from tests.host.cancelling import cancel_at_first_progress
from tests.host.mini_graphs import add_sampler, apply_graph, digest, host_mesh, node
from tests.host.server import ComfyServer, Graph, PromptError

COMPOSED = ["compose", 0]
POSE = {"x_m": 0.0, "y_m": 0.0, "z_m": 4.0, "heading_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0}
# A pyramid of 2 x 3 x 4 m whose flat front is at its z = +2.
PYRAMID = b"v -1 0 2\nv 1 0 2\nv 1 3 2\nv -1 3 2\nv 0 1.5 -2\nf 1 2 3 4\nf 1 4 5\nf 4 3 5\nf 3 2 5\nf 2 1 5\n"


def solid(shape: str = "box", size: tuple[float, float, float] = (1.0, 1.0, 1.0), **options: Any) -> dict[str, Any]:
    sizes = dict(zip(("width_m", "height_m", "length_m"), size))
    return node("SpatialFusionScaffoldObject", shape=shape, **(sizes | POSE | options))


def mesh(**options: Any) -> dict[str, Any]:
    inputs = {"model_file": "none", "size_m": 0.0, "size_of": "height", "batch_index": 0} | POSE | options
    return node("SpatialFusionScaffoldMesh", **inputs)


def compose(objects: list[Any] | None = None, **options: Any) -> dict[str, Any]:
    """64 x 64 pixels, level, 0.5 m up, 60 degrees, no ground."""
    inputs = {
        "width": 64,
        "height": 64,
        "camera_height_m": 0.5,
        "camera_pitch_deg": 0.0,
        "fov_y_deg": 60.0,
        "ground": False,
        "ground_extent_m": 100.0,
        "ground_confidence": 1.0,
        "background_confidence": 1.0,
    }
    given = {} if objects is None else {"objects": objects}
    return node("SpatialFusionComposeDepth", **(inputs | given | options))


def mesh_graph(**options: Any) -> Graph:
    return {"object": mesh(**options), "compose": compose(["object", 0])}


def probe_mesh(kind: str, **options: Any) -> Graph:
    return {"made": node("ProbeMesh", kind=kind)} | mesh_graph(mesh=["made", 0], **options)


def outputs_of(server: ComfyServer, graph: Graph) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All outputs of a run, and what Compose Depth Scaffold gives as Save Metric Depth writes it."""
    save = node("SpatialFusionSaveDepth", geometry=COMPOSED, filename_prefix="tests/scaffold")
    outputs = server.run(graph | {"save": save})
    saved = server.view(outputs["save"]["metric_depth"][0])
    return outputs, dict(np.load(io.BytesIO(saved), allow_pickle=False))


def arrays_of(server: ComfyServer, graph: Graph) -> dict[str, np.ndarray]:
    return outputs_of(server, graph)[1]


def middle(server: ComfyServer, graph: Graph) -> float:
    """Depth just beside the middle of the image."""
    return float(arrays_of(server, graph)["depth_m"][32, 32])


def put(server: ComfyServer, name: str, content: bytes) -> str:
    path = server.base / "input" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def test_a_chain_of_objects_is_saved_with_exact_metres(server: ComfyServer) -> None:
    """A box from 3.5 m at the left, a ball from 5.5 m at the middle, the ground under both."""
    graph = {
        "box": solid("box", x_m=-1.5),
        "ball": solid("sphere", z_m=6.0, objects=["box", 0]),
        "compose": compose(["ball", 0], ground=True, ground_confidence=0.5, background_confidence=0.0),
        "picture": node("PreviewImage", images=["compose", 1]),
        "mask pictures": node("MaskToImage", mask=["compose", 2]),
        "mask previews": node("PreviewImage", images=["mask pictures", 0]),
    }
    outputs, arrays = outputs_of(server, graph)
    depth = arrays["depth_m"]
    assert depth.shape == (64, 64) and arrays["fov_y_deg"] == pytest.approx(60)
    assert depth[32, 12] == pytest.approx(3.5, rel=1e-6)
    a = math.tan(math.radians(30)) / 64
    expected = (12 - math.sqrt(144 - 4 * (1 + 2 * a * a) * 35.75)) / (2 * (1 + 2 * a * a))
    assert depth[32, 32] == pytest.approx(expected, rel=1e-6)
    assert depth[63, 40] == pytest.approx(0.5 / (63 * a), rel=1e-5)
    assert np.isinf(depth[0]).all()
    confidence = [arrays["confidence"][row, column] for row, column in ((32, 12), (32, 32), (63, 40), (0, 0))]
    assert confidence == [1, 1, 0.5, 0]
    masks = [Image.open(io.BytesIO(server.view(file))) for file in outputs["mask previews"]["images"]]
    assert len(masks) == 2
    assert [mask.getpixel((12, 32))[0] for mask in masks] == [255, 0]
    assert [mask.getpixel((32, 32))[0] for mask in masks] == [0, 255]
    assert len(outputs["picture"]["images"]) == 1
    assert outputs["compose"]["spatialfusion_depth"][0]["width"] == 64  # the viewer's


def test_without_objects_there_is_only_the_ground(server: ComfyServer) -> None:
    depth = arrays_of(server, {"compose": compose(ground=True)})["depth_m"]
    assert np.isinf(depth[:32]).all() and np.isfinite(depth[33:]).all()


def test_any_size_is_exact_and_the_widgets_move_the_camera(server: ComfyServer) -> None:
    arrays = arrays_of(server, {"compose": compose(ground=True, width=104, height=40, camera_pitch_deg=90.0)})
    assert arrays["depth_m"].shape == (40, 104)
    np.testing.assert_allclose(arrays["depth_m"], 0.5, rtol=1e-6)


def test_composed_depth_guides_the_mini(server: ComfyServer) -> None:
    """To an image, with no predicted depth; another layout gives another image."""
    outputs = []
    for x_m in (-1.0, 1.0):
        graph = apply_graph(geometry=COMPOSED) | {
            "object": solid("box", x_m=x_m),
            "compose": compose(["object", 0], ground=True, camera_height_m=1.2),
        }
        outputs.append(server.run(add_sampler(graph, steps=2))["sampler digest"]["digest"])
    assert outputs[0] != outputs[1]


def test_composed_depth_becomes_a_picture_for_controlnets(server: ComfyServer) -> None:
    graph = {
        "object": solid("box", z_m=2.0),
        "compose": compose(["object", 0], ground=True),
        "images": node(
            "SpatialFusionDepthToImages",
            geometry=COMPOSED,
            near_m=0.0,
            far_m=0.0,
            mask_min_m=0.0,
            mask_max_m=0.0,
            normal_convention="opengl",
        ),
        "preview": node("PreviewImage", images=["images", 0]),
    }
    file = server.run(graph)["preview"]["images"][0]
    picture = np.asarray(Image.open(io.BytesIO(server.view(file))))
    assert picture[40, 32, 0] > picture[34, 2, 0] > picture[2, 2, 0] == 0  # box, far ground, sky


def test_the_hosts_geometry_nodes_take_composed_depth(newest_server: ComfyServer) -> None:
    """Rendered, and made into a mesh that is composed again: the same metres. 0.18.2 has none of these nodes."""
    first = {"object": solid("sphere", (2.0, 2.0, 2.0)), "compose": compose(["object", 0], camera_height_m=1.0)}
    expected = middle(newest_server, first)
    graph = {
        "object": first["object"],
        "first": compose(["object", 0], camera_height_m=1.0),
        "normals": node("MoGeRender", moge_geometry=["first", 0], output="normal_opengl"),
        "preview": node("PreviewImage", images=["normals", 0]),
        "mesh": host_mesh(["first", 0]),
        # The visible part of the ball reaches from 3 m to where rays touch it; its middle is put where it was.
        "again": mesh(mesh=["mesh", 0], z_m=0.0),
        "compose": compose(["again", 0], camera_height_m=1.0, camera_pitch_deg=0.0),
    }
    newest_server.run(graph)
    depth = arrays_of(newest_server, first)["depth_m"]
    seen = depth[np.isfinite(depth)]
    graph["again"]["inputs"]["z_m"] = float(seen.min() + seen.max()) / 2
    graph["again"]["inputs"]["y_m"] = float(1.0 - (seen * ball_slope(depth)).max())
    assert middle(newest_server, graph) == pytest.approx(expected, rel=1e-3)


def ball_slope(depth: np.ndarray) -> np.ndarray:
    """Downward slope of the rays of finite pixels of a level camera of 60 degrees."""
    rows = np.nonzero(np.isfinite(depth))[0]
    return (2 * (rows + 0.5) / len(depth) - 1) * math.tan(math.radians(30))


def test_a_mesh_of_the_host_is_scaled_and_placed(server: ComfyServer) -> None:
    """The pyramid, 2 x 3 x 4 m, at 10 m: its front is at 8 m; scaled to 6 m of height it is 8 m long, so at 6 m."""
    assert middle(server, probe_mesh("pyramid", z_m=10.0)) == pytest.approx(8.0, rel=1e-6)
    assert middle(server, probe_mesh("pyramid", z_m=10.0, size_m=6.0)) == pytest.approx(6.0, rel=1e-6)
    assert middle(server, probe_mesh("pyramid", z_m=10.0, size_m=2.0, size_of="length")) == pytest.approx(9.0, rel=1e-6)


def test_one_mesh_of_a_padded_batch(server: ComfyServer) -> None:
    """The second is the front alone, without depth: it stands at 10 m."""
    assert middle(server, probe_mesh("padded batch", z_m=10.0)) == pytest.approx(8.0, rel=1e-6)
    assert middle(server, probe_mesh("padded batch", z_m=10.0, batch_index=1)) == pytest.approx(10.0, rel=1e-6)


@pytest.mark.parametrize("in_memory", [False, True])
def test_files_of_the_host_and_files_by_name_are_the_same_mesh(server: ComfyServer, in_memory: bool) -> None:
    name = put(server, "3d/pyramid.obj", PYRAMID)
    by_name = mesh_graph(model_file=name, z_m=10.0)
    connected = {"file": node("ProbeFile3D", name=name, in_memory=in_memory)} | mesh_graph(mesh=["file", 0], z_m=10.0)
    assert middle(server, by_name) == middle(server, connected) == pytest.approx(8.0, rel=1e-6)
    options = server.object_info("SpatialFusionScaffoldMesh")["input"]["required"]["model_file"]
    listed = options[0] if isinstance(options[0], list) else options[1]["options"]
    assert listed[0] == "none" and name in listed


def test_a_file_that_changed_is_read_again(server: ComfyServer) -> None:
    name = put(server, "changed.obj", PYRAMID)
    graph = mesh_graph(model_file=name, z_m=10.0)
    assert middle(server, graph) == pytest.approx(8.0, rel=1e-6)
    put(server, name, PYRAMID.replace(b" 2\n", b" 4\n"))  # 6 m long
    assert middle(server, graph) == pytest.approx(7.0, rel=1e-6)


def test_what_save_glb_wrote_can_be_placed(server: ComfyServer) -> None:
    save = node("SaveGLB", mesh=["made", 0], filename_prefix="tests/pyramid")
    saved = server.run({"made": node("ProbeMesh", kind="pyramid"), "save": save})["save"]["3d"][0]
    name = f"{saved['subfolder']}/{saved['filename']} [output]"
    assert middle(server, mesh_graph(model_file=name, z_m=10.0)) == pytest.approx(8.0, rel=1e-6)


def test_a_gltf_is_read_with_the_file_beside_it(server: ComfyServer) -> None:
    """And again when that file changes. A link out of the folder is not followed."""

    def write(length: float) -> None:
        vertices = [[-1, 0, length / 2], [1, 0, length / 2], [1, 3, length / 2], [-1, 3, length / 2], [0, 1.5, -2]]
        faces = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [3, 2, 4], [2, 1, 4], [1, 0, 4]]
        files = trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.Trimesh(vertices, faces, process=False)))
        document = files.pop("model.gltf")
        for index, (name, content) in enumerate(files.items()):
            put(server, f"gltf/data_{index}.bin", content)
            document = document.replace(name.encode(), f"data_{index}.bin".encode())
        put(server, "gltf/pyramid.gltf", document)

    write(4.0)
    document = (server.base / "input" / "gltf" / "pyramid.gltf").read_bytes()
    graph = mesh_graph(model_file="gltf/pyramid.gltf", z_m=10.0)
    assert middle(server, graph) == pytest.approx(8.0, rel=1e-6)
    write(8.0)  # from -2 to 4: 6 m long
    put(server, "gltf/pyramid.gltf", document)
    assert middle(server, graph) == pytest.approx(7.0, rel=1e-6)
    data = server.base / "input" / "gltf" / "data_0.bin"
    outside = server.base / "outside.bin"
    outside.write_bytes(data.read_bytes())
    data.unlink()
    data.symlink_to(outside)
    with pytest.raises(PromptError, match="put 'data_0.bin' beside pyramid.gltf"):
        arrays_of(server, graph)
    data.unlink()


VIEWER_CAMERA = {
    "position": {"x": 0, "y": 1.5, "z": 3},
    "target": {"x": 0, "y": 1.5, "z": 0},
    "zoom": 1,
    "cameraType": "perspective",
}


def camera_graph(**changes: Any) -> Graph:
    """A cube of 3 m at the viewer's origin, seen along -z from z = 3."""
    return {
        "object": solid("box", (3.0, 3.0, 3.0), z_m=0.0),
        "camera": node("ProbeCamera", text=json.dumps(VIEWER_CAMERA | changes)),
        "compose": compose(["object", 0], camera_info=["camera", 0]),
    }


def cameras(value: Any, **options: Any) -> Graph:
    """The cube, with anything in place of a camera."""
    graph = camera_graph()
    graph["camera"] = node("ProbeCamera", text=json.dumps(value))
    graph["compose"]["inputs"] |= options
    return graph


def test_the_hosts_camera_is_taken_with_its_zoom_and_field_of_view(server: ComfyServer) -> None:
    arrays = arrays_of(server, camera_graph())
    assert arrays["depth_m"][32, 32] == pytest.approx(1.5, rel=1e-6)
    assert arrays["fov_y_deg"] == pytest.approx(60.0)  # the oldest host tells none: the widget's
    newer = camera_graph(fov=40, zoom=2, quaternion={"x": 0, "y": 0, "z": 0, "w": 1})
    arrays = arrays_of(server, newer)
    assert arrays["depth_m"][32, 32] == pytest.approx(1.5, rel=1e-6)
    expected = math.degrees(2 * math.atan(math.tan(math.radians(20)) / 2))
    assert arrays["fov_y_deg"] == pytest.approx(expected, rel=1e-5)


def test_create_camera_info_and_the_same_camera_by_widgets_see_the_same(newest_server: ComfyServer) -> None:
    """The stock node, which 0.18.2 has not: 2 m up, 20 degrees down, straight ahead."""
    down = math.tan(math.radians(20.0))
    stock = node("CreateCameraInfo", target_x=0.0, target_y=2 - down, target_z=-1.0, roll=0.0, fov=45.0, zoom=1.0)
    stock["inputs"] |= {"camera_type": "perspective", "mode": "look_at"}
    stock["inputs"] |= {"mode.position_x": 0.0, "mode.position_y": 2.0, "mode.position_z": 0.0}
    placed = {"object": solid("cylinder", x_m=0.7, heading_deg=30.0)}
    by_node = placed | {"camera": stock, "compose": compose(["object", 0], camera_info=["camera", 0], ground=True)}
    widgets = {"camera_height_m": 2.0, "camera_pitch_deg": 20.0, "fov_y_deg": 45.0}
    by_widgets = placed | {"compose": compose(["object", 0], ground=True, **widgets)}
    one, other = (arrays_of(newest_server, graph) for graph in (by_node, by_widgets))
    # Float32 in the stock node's quaternion; a pixel centre may fall to the other side of an edge.
    close = np.isclose(one["depth_m"], other["depth_m"], rtol=1e-3)
    assert (~close).sum() <= 2
    assert one["fov_y_deg"] == pytest.approx(45.0)


def test_each_camera_of_a_list_has_its_own_depth(server: ComfyServer) -> None:
    """The cube's front is at 1.5 m: 1.5 m and 3.5 m from the two cameras, of which one has a field of view."""
    farther = VIEWER_CAMERA | {"position": {"x": 0, "y": 1.5, "z": 5}, "fov": 40}
    outputs, _ = outputs_of(server, cameras([VIEWER_CAMERA, farther]))
    saved = [np.load(io.BytesIO(server.view(file))) for file in outputs["save"]["metric_depth"]]
    assert [array["depth_m"][32, 32] for array in saved] == pytest.approx([1.5, 3.5], rel=1e-6)
    assert [float(array["fov_y_deg"]) for array in saved] == pytest.approx([60.0, 40.0])
    assert len(outputs["compose"]["images"]) == 2
    alone, _ = outputs_of(server, camera_graph(position=farther["position"], fov=40))
    pictures = [server.view(outputs["compose"]["images"][1]), server.view(alone["compose"]["images"][0])]
    assert pictures[0] == pictures[1]


def many_objects(count: int) -> Graph:
    graph = {"object 0": solid()}
    for k in range(1, count):
        graph[f"object {k}"] = solid(objects=[f"object {k - 1}", 0])
    return graph | {"compose": compose([f"object {count - 1}", 0], width=4096, height=4096)}


BAD_INPUT: dict[str, tuple[Callable[[], Graph], str, str]] = {
    "no faces": (lambda: probe_mesh("no faces"), "object", "check the node.*5 vertices and 0 faces"),
    "NaN": (lambda: probe_mesh("NaN"), "object", "export the mesh again.*NaN or infinite"),
    "out of range": (lambda: probe_mesh("out of range"), "object", "export.*vertices 3 to 7.*only 5"),
    "flat": (lambda: probe_mesh("flat", size_m=1.0), "object", "set another size_of.*height is 0"),
    "no batch": (lambda: probe_mesh("no batch"), "object", r"check the node.*\(5, 3\)"),
    "batch index": (
        lambda: probe_mesh("pyramid", batch_index=1),
        "object",
        "set batch_index below 1: it is 1, and there are 1 meshes",
    ),
    "no mesh": (lambda: mesh_graph(), "object", "connect mesh and set model_file to none.*no mesh"),
    "orthographic": (
        lambda: camera_graph(cameraType="orthographic"),
        "compose",
        "switch the camera to perspective.*orthographic",
    ),
    "camera without a place": (lambda: camera_graph(position=None), "compose", "connect camera_info.*cannot be read"),
    "no cameras": (lambda: cameras([]), "compose", "connect at least one camera.*list is empty"),
    "a list without cameras": (
        lambda: cameras([VIEWER_CAMERA, 5]),
        "compose",
        "connect camera_info.*type int is connected",
    ),
    "a text as camera": (lambda: cameras("front"), "compose", "connect camera_info.*type str is connected"),
    "too many cameras": (
        lambda: cameras([VIEWER_CAMERA] * 5, width=4096, height=4096),
        "compose",
        "set width and height smaller.*1 objects before 5 cameras at 4096x4096 ",
    ),
    "camera in its target": (
        lambda: camera_graph(target=VIEWER_CAMERA["position"]),
        "compose",
        "move the camera or its target.*one point",
    ),
    "camera field of view": (
        lambda: camera_graph(fov=200),
        "compose",
        "set field of view and zoom again.*200.0 degrees",
    ),
    "NaN camera": (lambda: camera_graph(position={"x": math.nan, "y": 0, "z": 0}), "compose", "set the camera again"),
    "too many masks": (lambda: many_objects(33), "compose", "set width and height smaller.*33 objects at 4096x4096 "),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_error_is_on_the_right_node_with_a_remedy_and_the_server_lives_on(server: ComfyServer, case: str) -> None:
    graph, node_id, message = BAD_INPUT[case]
    with pytest.raises(PromptError) as caught:
        arrays_of(server, graph())
    assert (caught.value.kind, caught.value.node_id) == ("execution", node_id)
    assert re.search(message, caught.value.message, re.DOTALL), caught.value.message
    assert middle(server, {"object": solid(), "compose": compose(["object", 0])}) == pytest.approx(3.5, rel=1e-6)


def test_a_mesh_and_a_file_at_once_are_refused(server: ComfyServer) -> None:
    graph = probe_mesh("pyramid", model_file=put(server, "3d/pyramid.obj", PYRAMID))
    with pytest.raises(PromptError, match="set model_file to none.*both a mesh and a file") as caught:
        arrays_of(server, graph)
    assert caught.value.node_id == "object"


@pytest.mark.parametrize(
    "content, name, message",
    [
        (b"solid nothing", "mesh.stl", "mesh.stl: export the STL file again: it has no triangles"),
        (b"Kaydara", "mesh.fbx", "mesh.fbx: open it in Blender .* export it as glTF"),
        (b'{"buffers": [{"uri": "gone.bin"}]}', "mesh.gltf", "mesh.gltf: .*put 'gone.bin' beside mesh.gltf, or export"),
        (b'{"buffers": [{"uri": "../a.bin"}]}', "mesh.gltf", "mesh.gltf: .*only files beside it are read"),
        (b"glTF" + bytes(40), "broken.glb", "broken.glb: export the GLB file again.*version 0"),
        (b"v 1 2\n", "broken.obj", "broken.obj: export it again: line 1"),
    ],
)
def test_files_that_are_no_meshes_are_refused(server: ComfyServer, content: bytes, name: str, message: str) -> None:
    file = node("ProbeFile3D", name=put(server, name, content), in_memory=False)
    with pytest.raises(PromptError, match=message) as caught:
        arrays_of(server, {"file": file} | mesh_graph(mesh=["file", 0]))
    assert caught.value.node_id == "object"


@pytest.mark.parametrize("name", ["3d/nowhere.glb", "../../../../../../etc/passwd", "a\0b.obj"])
def test_files_that_are_not_there_or_not_ours_are_refused_before_anything_runs(server: ComfyServer, name: str) -> None:
    with pytest.raises(PromptError, match="put the mesh file.*there is no such file") as caught:
        arrays_of(server, mesh_graph(model_file=name))
    assert (caught.value.kind, caught.value.node_id) == ("validation", "object")


def test_a_long_composition_can_be_cancelled(server: ComfyServer) -> None:
    """The cancel comes at the node's first progress message; what is left to draw would take hours."""
    graph = probe_mesh("endless") | {"compose": compose(["object", 0], width=2048, height=2048)}
    graph["save"] = digest(COMPOSED)
    with pytest.raises(PromptError) as caught:
        cancel_at_first_progress(server, graph, "compose")
    assert caught.value.kind == "interrupted"
    assert middle(server, {"object": solid(), "compose": compose(["object", 0])}) == pytest.approx(3.5, rel=1e-6)
