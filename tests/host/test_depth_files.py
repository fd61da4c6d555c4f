"""Save and Load Metric Depth and Image to Metric Depth in real servers; the upload button in the browser."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from tests.host.browser import HostPage
from tests.host.help_graphs import chair_obj
from tests.host.mini_graphs import digest, node
from tests.host.server import ComfyServer, Graph, PromptError

PLANE = np.linspace(2, 6, 32 * 48, dtype=np.float32).reshape(32, 48)
MEASURED = ["measured", 0]


def measured(kind: str = "moge", batch: int = 1) -> Graph:
    """The probe's plane: sky in the upper quarter, then 2 m at the left to 6 m at the right, 90 degrees."""
    return {"measured": node("ProbeGeometry", kind=kind, width=60, height=40, batch=batch)}


def save(geometry: list[Any], **options: Any) -> dict[str, Any]:
    return node("SpatialFusionSaveDepth", geometry=geometry, filename_prefix="tests/files", **options)


def load(file: str, unit: str = "auto", fov_y_deg: float = 0.0) -> dict[str, Any]:
    return node("SpatialFusionLoadDepth", file=file, unit=unit, fov_y_deg=fov_y_deg)


def to_depth(image: list[Any], **options: Any) -> dict[str, Any]:
    inputs = {"near_m": 2.0, "far_m": 10.0, "encoding": "depth", "invert": False, "fov_y_deg": 50.0} | options
    return node("SpatialFusionImageToDepth", image=image, **inputs)


def arrays_of(server: ComfyServer, graph: Graph, geometry: list[Any]) -> dict[str, np.ndarray]:
    """The metres of a geometry, as Save Metric Depth writes them to its .npz."""
    output = server.run(graph | {"arrays": save(geometry)})["arrays"]
    return dict(np.load(io.BytesIO(server.view(output["metric_depth"][0])), allow_pickle=False))


def annotated(file: dict[str, str]) -> str:
    return f"{file['subfolder']}/{file['filename']} [output]"


def put(server: ComfyServer, name: str, content: bytes) -> str:
    """A file in the host's input folder."""
    path = server.base / "input" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["npz", "exr 32-bit", "png 16-bit mm"])
def test_what_is_saved_is_loaded_again(server: ComfyServer, format: str) -> None:
    graph = measured(batch=2) | {"save": save(MEASURED, format=format)}
    output = server.run(graph)["save"]
    stems = [Path(file["filename"]).stem for file in output["images"]]
    assert [Path(file["filename"]).stem.removesuffix("mm") for file in output["metric_depth"]] == stems
    assert len(set(stems)) == 2
    original = arrays_of(server, measured(), MEASURED)
    loaded = arrays_of(server, {"load": load(annotated(output["metric_depth"][1]))}, ["load", 0])
    assert (np.isinf(loaded["depth_m"]) == np.isinf(original["depth_m"])).all()
    surface = np.isfinite(original["depth_m"])
    error_m = np.abs(loaded["depth_m"][surface] - original["depth_m"][surface]).max()
    assert error_m <= (0.0005 + 1e-6 if format.startswith("png") else 0)
    assert (loaded["confidence"] == original["confidence"]).all()
    assert loaded["fov_y_deg"] == pytest.approx(original["fov_y_deg"], abs=1e-4)


def test_save_is_as_before_without_a_format(server: ComfyServer) -> None:
    output = server.run(measured() | {"save": save(MEASURED)})["save"]
    arrays = np.load(io.BytesIO(server.view(output["metric_depth"][0])))
    assert sorted(arrays.files) == ["confidence", "depth_m", "fov_y_deg"]
    assert output["metric_depth"][0]["filename"].endswith(".npz")


def test_a_render_of_blender_is_loaded(server: ComfyServer, tmp_path: Path) -> None:
    z = PLANE.copy()
    z[:8] = 1e10
    channels = {"ViewLayer.Depth.Z": z, "ViewLayer.Combined.RGBA": np.random.rand(32, 48, 4).astype(np.float16)}
    path = str(tmp_path / "render.exr")
    with OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}, channels) as file:
        file.write(path)
    put(server, "Render 0001.EXR", Path(path).read_bytes())
    graph = {"load": load("Render 0001.EXR", fov_y_deg=39.6)}
    loaded = arrays_of(server, graph, ["load", 0])
    assert np.isinf(loaded["depth_m"][:8]).all()
    assert (loaded["depth_m"][8:] == PLANE[8:]).all()
    assert loaded["fov_y_deg"] == pytest.approx(39.6, abs=1e-4)


def listed(server: ComfyServer) -> list[str]:
    """What the node offers."""
    return server.object_info("SpatialFusionLoadDepth")["input"]["required"]["file"][1]["options"]


def test_the_list_has_the_files_of_the_input_and_output_folders(server: ComfyServer) -> None:
    readable = [put(server, name, npy(PLANE)) for name in ("listed.npy", "renders/shot 1/listed.NPY")]
    other = [put(server, name, b"") for name in ("notes.txt", "renders/.cache/hidden.npy")]
    for format in ("npz", "exr 32-bit", "png 16-bit mm"):
        output = server.run(measured() | {"save": save(MEASURED, format=format)})["save"]
        readable += map(annotated, output["metric_depth"])
        other += map(annotated, output["images"])
    files = listed(server)
    assert set(readable) <= set(files)
    assert not set(other) & set(files)
    for name in readable[1:]:  # what is offered can be read
        arrays_of(server, {"load": load(name, fov_y_deg=0.0 if "[output]" in name else 40.0)}, ["load", 0])


def test_the_node_shows_the_depth(server: ComfyServer) -> None:
    put(server, "listed.npy", npy(PLANE))
    graph = {"load": load("listed.npy", fov_y_deg=40), "digest": digest(["load", 0])}
    output = server.run(graph)["load"]
    assert Image.open(io.BytesIO(server.view(output["images"][0]))).size == (48, 32)
    shown = np.load(io.BytesIO(server.view(output["spatialfusion_depth"][0])))
    assert (shown[0] == PLANE).all()


def test_a_file_written_again_is_loaded_again(server: ComfyServer) -> None:
    graph = {"load": load("again.npy", fov_y_deg=40), "digest": digest(["load", 0])}
    digests = []
    for values in (PLANE, PLANE + 1, PLANE):
        put(server, "again.npy", npy(values))
        digests += server.run(graph)["digest"]["digest"]
    assert digests[0] == digests[2] != digests[1]


def test_only_the_hosts_folders_are_read(server: ComfyServer) -> None:
    outside = server.base / "outside.npy"
    outside.write_bytes(npy(PLANE))
    links = {"link.npy": outside, "circle.npy": "circle.npy", "inside.npy": put(server, "target.npy", npy(PLANE))}
    for name, target in links.items():
        link = server.base / "input" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    assert links.keys() & set(listed(server)) == {"inside.npy"}
    assert arrays_of(server, {"load": load("inside.npy", fov_y_deg=40.0)}, ["load", 0])
    names = [
        "../outside.npy",
        str(outside),
        "link.npy",
        "circle.npy",
        "../outside.npy [output]",
        "nowhere.exr",
        "",
        ".",
        "a\0b.npy",
    ]
    for name in names:
        link = name in ("link.npy", "circle.npy")
        message = (
            f"copy the depth file {name!r} itself into .* is a link" if link else "put the depth file.*no such file"
        )
        with pytest.raises(PromptError, match=message) as caught:
            server.run({"load": load(name, fov_y_deg=40), "digest": digest(["load", 0])})
        assert (caught.value.kind, caught.value.node_id) == ("validation", "load")


def test_a_linked_folder_says_that_it_is_one(server: ComfyServer) -> None:
    """Its files are not offered. Who writes their name learns why."""
    outside = server.base / "renders elsewhere"
    outside.mkdir(exist_ok=True)
    (outside / "a.npy").write_bytes(npy(PLANE))
    link = server.base / "input" / "linked renders"
    if not link.is_symlink():
        link.symlink_to(outside)
    assert "linked renders/a.npy" not in listed(server)
    with pytest.raises(
        PromptError, match="copy the depth file .* itself into .*: 'linked renders' is a link"
    ) as caught:
        server.run({"load": load("linked renders/a.npy", fov_y_deg=40), "digest": digest(["load", 0])})
    assert caught.value.kind == "validation"


def test_the_node_says_what_was_assumed(server: ComfyServer) -> None:
    put(server, "kitti.npy", npy((PLANE * 256).astype(np.uint16)))
    graph = {"load": load("kitti.npy", fov_y_deg=40), "digest": digest(["load", 0])}
    (said,) = server.run(graph)["load"]["text"]
    assert said.startswith("Check the range below: whole numbers without a unit are taken as millimetres, but some are")
    assert f"Load Metric Depth: {said}" in server.log_text()
    graph["load"]["inputs"] |= {"metres_per_unit": 1 / 256, "distance_along": "ray"}
    (said,) = server.run(graph)["load"]["text"]
    assert said.startswith("1 picture of 48x32 pixels, 0.00390625 m a unit as set, distances along the rays, vertical")
    graph["load"]["inputs"] |= {"fov_y_deg": 0.0, "focal_length_mm": 36.0, "distance_along": "optical axis"}
    arrays = arrays_of(server, graph, ["load", 0])
    assert arrays["fov_y_deg"] == pytest.approx(2 * np.degrees(np.arctan(32 / 96)), abs=1e-4)
    np.testing.assert_allclose(arrays["depth_m"], PLANE, atol=1 / 256)


def test_numbered_files_are_one_batch_and_an_added_one_is_loaded(server: ComfyServer) -> None:
    for number in (7, 8):
        put(server, f"frames/depth_{number:04}.npy", npy(PLANE + number))
    (server.base / "input" / "frames" / "depth_0009.npy").unlink(missing_ok=True)
    graph = {"load": load("frames/depth_0007.npy", fov_y_deg=40), "digest": digest(["load", 0])}
    graph["load"]["inputs"]["frames"] = 0
    assert server.run(graph)["load"]["text"][0].startswith("2 pictures of 48x32 pixels")
    put(server, "frames/depth_0009.npy", npy(PLANE + 9))
    assert server.run(graph)["load"]["text"][0].startswith("3 pictures of 48x32 pixels")
    graph["load"]["inputs"]["frames"] = 4
    with pytest.raises(PromptError, match="set frames to 3, or add the missing file.*no depth_0010.npy"):
        server.run(graph)


def test_a_layer_of_an_exr_is_chosen(server: ComfyServer, tmp_path: Path) -> None:
    """PIZ, as Unreal and Nuke write it: PyAV decodes it."""
    path = str(tmp_path / "layers.exr")
    channels = {"near.Depth.Z": PLANE, "far.Depth.Z": PLANE + 1}
    with OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.PIZ_COMPRESSION}, channels) as file:
        file.write(path)
    put(server, "layers.exr", Path(path).read_bytes())
    graph = {"load": load("layers.exr", fov_y_deg=40), "digest": digest(["load", 0])}
    with pytest.raises(PromptError, match="set layer to the depth to read, because it has more than one: far.Depth.Z"):
        server.run(graph)
    graph["load"]["inputs"]["layer"] = "near"
    assert (arrays_of(server, graph, ["load", 0])["depth_m"] == PLANE).all()


def test_an_image_becomes_geometry(server: ComfyServer) -> None:
    """EmptyImage's grey 0x808080 is 128 / 255; a mask of 6 x 4 pixels, white at the left half, on 60 x 40."""
    graph: Graph = {
        "image": node("EmptyImage", width=60, height=40, batch_size=2, color=0x808080),
        "black": node("SolidMask", value=0.0, width=6, height=4),
        "white": node("SolidMask", value=1.0, width=3, height=4),
        "mask": node("MaskComposite", destination=["black", 0], source=["white", 0], x=0, y=0, operation="add"),
        "geometry": to_depth(["image", 0], mask=["mask", 0]),
    }
    arrays = arrays_of(server, graph, ["geometry", 0])
    assert np.isinf(arrays["depth_m"][:, :30]).all()
    assert arrays["depth_m"][:, 30:] == pytest.approx(10 - 8 * 128 / 255, rel=1e-5)
    assert arrays["fov_y_deg"] == pytest.approx(50, abs=1e-4)
    assert (arrays["confidence"] == 1).all()


def test_depth_to_images_and_back(server: ComfyServer) -> None:
    limits = {"near_m": 2.0, "far_m": 6.0}
    graph = measured() | {
        "images": node(
            "SpatialFusionDepthToImages",
            geometry=MEASURED,
            mask_min_m=0.0,
            mask_max_m=0.0,
            normal_convention="opengl",
            **limits,
        ),
        "sky": node("InvertMask", mask=["images", 1]),
        "back": to_depth(["images", 0], encoding="disparity", mask=["sky", 0], **limits),
    }
    original, back = arrays_of(server, measured(), MEASURED), arrays_of(server, graph, ["back", 0])
    assert (np.isinf(back["depth_m"]) == np.isinf(original["depth_m"])).all()
    surface = np.isfinite(original["depth_m"])
    assert back["depth_m"][surface] == pytest.approx(original["depth_m"][surface], rel=1e-5)


def bad_image(**options: Any) -> Graph:
    color = options.pop("color", 0x808080)
    return {
        "image": node("EmptyImage", width=16, height=16, batch_size=3, color=color),
        "masks": node("EmptyImage", width=16, height=16, batch_size=2, color=0),
        "mask": node("ImageToMask", image=["masks", 0], channel="red"),
        "bad": to_depth(["image", 0], **options),
        "digest": digest(["bad", 0]),
    }


def bad_file(name: str, content: bytes, **options: Any) -> tuple[str, bytes, dict[str, Any]]:
    return name, content, {"fov_y_deg": 40.0} | options


NOT_EXR = npy(PLANE)
BAD_FILES = {
    "negative": (bad_file("bad1.npy", npy(-PLANE)), "other sign.*1536 of its values are negative"),
    "zero": (bad_file("bad2.npy", npy(0 * PLANE)), "render it again.*no surface anywhere"),
    "NaN": (bad_file("bad3.npy", npy(np.nan * PLANE)), "no surface anywhere"),
    "infinite": (bad_file("bad4.npy", npy(np.inf * PLANE)), "no surface anywhere"),
    "constant, no metres": (bad_file("bad5.npy", npy(0 * PLANE + 1)), "Image to Metric.*does not look like metres"),
    "no camera": (bad_file("bad6.npy", npy(PLANE), fov_y_deg=0.0), "set fov_y_deg .*no camera"),
    "not what its name says": (bad_file("bad7.exr", NOT_EXR), "bad7.exr: .*this is not an OpenEXR file"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_errors_on_the_node(server: ComfyServer, case: str) -> None:
    (name, content, options), message = BAD_FILES[case]
    put(server, name, content)
    with pytest.raises(PromptError) as caught:
        server.run({"bad": load(name, **options), "digest": digest(["bad", 0])})
    assert (caught.value.kind, caught.value.node_id) == ("execution", "bad")
    assert re.search(message, caught.value.message), caught.value.message


BAD_IMAGES: dict[str, tuple[Graph, str]] = {
    "near beyond far": (bad_image(near_m=11.0), "swap near_m and far_m.*must be above 0 and below far_m .10."),
    "coloured": (bad_image(color=0xFF8000), "switch off the colour map.*coloured"),
    "masks": (bad_image(mask=["mask", 0]), "give one mask, or one each.*batch of 2, but the image a batch of 3"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_errors_on_the_node(server: ComfyServer, case: str) -> None:
    graph, message = BAD_IMAGES[case]
    with pytest.raises(PromptError) as caught:
        server.run(graph)
    assert (caught.value.kind, caught.value.node_id) == ("execution", "bad")
    assert re.search(message, caught.value.message), caught.value.message


def test_the_prefix_takes_the_hosts_placeholders(page: HostPage) -> None:
    """The host replaces them in the browser, for its own savers. Its function does it for ours too."""
    page.tab.evaluate(
        """() => {
            app.graph.clear();
            const [compose, save] = ["SpatialFusionComposeDepth", "SpatialFusionSaveDepth"].map((type) => {
                const node = LiteGraph.createNode(type);
                app.graph.add(node);
                return node;
            });
            compose.connect(0, save, 0);
            const prefix = save.widgets.find((widget) => widget.name === "filename_prefix");
            prefix.value = "%date:yyyy%/shot_%SpatialFusionComposeDepth.width%";
        }"""
    )
    nodes = page.graph_to_prompt().values()
    (inputs,) = (node["inputs"] for node in nodes if node["class_type"] == "SpatialFusionSaveDepth")
    year, name = inputs["filename_prefix"].split("/")
    assert re.fullmatch("20[0-9][0-9]", year) and re.fullmatch("shot_[0-9]+", name)
    assert page.console_errors() == []


def test_a_camera_that_contradicts_the_input_and_depth_beyond_the_png(server: ComfyServer) -> None:
    saved = server.run(measured() | {"save": save(MEASURED, format="exr 32-bit")})["save"]["metric_depth"][0]
    with pytest.raises(PromptError, match="set fov_y_deg to 0.*is 90.00 degrees, but fov_y_deg is 60") as caught:
        server.run({"bad": load(annotated(saved), fov_y_deg=60), "digest": digest(["bad", 0])})
    assert caught.value.node_id == "bad"
    put(server, "far.npy", npy(20 * PLANE))
    with pytest.raises(PromptError, match="save it as EXR.*reaches 120.0 m, but") as caught:
        server.run({"load": load("far.npy", fov_y_deg=40), "save": save(["load", 0], format="png 16-bit mm")})
    assert caught.value.node_id == "save"
    assert server.run(measured() | {"save": save(MEASURED)})["save"]["images"]


def test_the_button_of_scaffold_mesh_uploads_a_mesh_and_chooses_it(
    page: HostPage, newest_server: ComfyServer, tmp_path: Path
) -> None:
    local = tmp_path / "my chair.obj"
    local.write_text(chair_obj(), encoding="utf-8")
    page.tab.evaluate(
        """() => {
            app.graph.clear();
            for (const type of ["SpatialFusionScaffoldMesh", "SpatialFusionComposeDepth", "SpatialFusionInspectDepth"])
                app.graph.add(LiteGraph.createNode(type));
            const [mesh, scene, inspect] = app.graph.nodes;
            mesh.connect(0, scene, "objects");
            scene.connect(0, inspect, 0);
        }"""
    )
    button = "app.graph.nodes[0].widgets.find((widget) => widget.name === 'upload')"
    assert page.tab.evaluate(f"() => {button}.label") == "choose mesh file to upload"
    with page.tab.expect_file_chooser() as chooser:
        page.tab.evaluate(f"() => {button}.callback()")
    chooser.value.set_files(local)
    value = "app.graph.nodes[0].widgets.find((widget) => widget.name === 'model_file').value"
    page.tab.wait_for_function(f"() => {value} === 'my chair.obj'")
    assert (newest_server.base / "input" / local.name).read_bytes() == local.read_bytes()
    outputs = page.run()
    assert any("spatialfusion_depth" in output for output in outputs.values())
    assert page.console_errors() == []


def test_the_button_uploads_a_file_and_chooses_it(page: HostPage, newest_server: ComfyServer, tmp_path: Path) -> None:
    local = tmp_path / "from my disk.npy"
    local.write_bytes(npy(PLANE))
    page.tab.evaluate(
        """() => {
            app.graph.clear();
            for (const type of ["SpatialFusionLoadDepth", "SpatialFusionInspectDepth"])
                app.graph.add(LiteGraph.createNode(type));
            const [load, inspect] = app.graph.nodes;
            load.connect(0, inspect, 0);
            load.widgets.find((widget) => widget.name === "fov_y_deg").value = 40;
        }"""
    )
    with page.tab.expect_file_chooser() as chooser:
        page.tab.evaluate("() => app.graph.nodes[0].widgets.find((widget) => widget.name === 'upload').callback()")
    chooser.value.set_files(local)
    value = "app.graph.nodes[0].widgets.find((widget) => widget.name === 'file').value"
    page.tab.wait_for_function(f"() => {value} === 'from my disk.npy'")
    assert (newest_server.base / "input" / local.name).read_bytes() == local.read_bytes()
    outputs = page.run()
    assert all(output["spatialfusion_depth"] for output in outputs.values()) and len(outputs) == 2
    inputs = next(iter(page.graph_to_prompt().values()))["inputs"]
    assert inputs.items() >= {"file": "from my disk.npy", "unit": "auto", "fov_y_deg": 40}.items()
    assert page.console_errors() == []
    page.tab.route("**/upload/image", lambda route: route.fulfill(status=413))  # as a proxy in front of the host does
    with page.tab.expect_file_chooser() as chooser:
        page.tab.evaluate("() => app.graph.nodes[0].widgets.find((widget) => widget.name === 'upload').callback()")
    chooser.value.set_files(local)
    page.tab.get_by_text(re.compile(r"^The file was not uploaded: from my disk\.npy \(413")).wait_for()
