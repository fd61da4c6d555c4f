"""The templates: they are tidy, and they run from the real front end in real servers, with tiny weights of real models.

One page a host serves all of them. If a test of the API forms fails after a change to a template:
python -m tests.host.export_workflows.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.host.browser import Browser, HostPage
from tests.host.export_workflows import api_form
from tests.host.server import ComfyServer, Graph, PromptError
from tests.host.template_runs import (
    MINI_SIDE_PX,
    SHRINK,
    all_nodes,
    api_workflow,
    has_real_base,
    models_of,
    needs_moge,
    node_titled,
    nodes_of_type,
    provide_files,
    quick_changes,
    template_names,
    workflow,
)
from tests.host.template_thumbnails import THUMBNAIL_SIZE, with_scene, without_models, write_scene
from tests.host.tiny_checkpoints import tiny_config, write_tiny_checkpoint
from tests.host.viewers_3d import shows_something
from tools import hosts
from tools.host_process import DIRECT

EACH_TEMPLATE = pytest.mark.parametrize("name", template_names())
WITH_MOGE = pytest.mark.parametrize("name", [name for name in template_names() if needs_moge(name)])
VIEWERS_3D = {"SaveGLB", "Preview3D"}
MODEL_LOADERS = {
    "CheckpointLoaderSimple",
    "CLIPLoader",
    "CLIPVisionLoader",
    "ControlNetLoader",
    "DualCLIPLoader",
    "LoadMoGeModel",
    "LoraLoaderModelOnly",
    "ModelPatchLoader",
    "UNETLoader",
    "VAELoader",
}
MIXED = "mixed_controlnet_lora_qwen_image"
DRAFTS = ("draft_measure_correct_z_image_turbo", "draft_measure_correct_qwen_image")
# The nodes that show the depth before and after the object was moved.
DRAFT_MOVE = ("Inspect Metric Depth: the draft", "Adjust Metric Depth: move it to 2 m")
# What Save Image gets, where it is not one image of the Mini.
IMAGE_SIZES = {
    "compare_strengths_mini": (4 * 256 + 3 * 4, 256),
    MIXED: (1280 // SHRINK, 1280 // SHRINK),
    **dict.fromkeys(DRAFTS, (1280 // SHRINK, 1280 // SHRINK)),
    "text_to_image_omnigen2": (1024 // SHRINK, 1024 // SHRINK),
    "text_to_image_qwen_image": (1280 // SHRINK, 1280 // SHRINK),
    # The source's shape, at 1 megapixel.
    "edit_omnigen2": (1024 // SHRINK, 1024 // SHRINK),
    "edit_qwen_image": (1024 // SHRINK, 1024 // SHRINK),
}
# Its own name would not tell it from others in the folder; the template's note says so.
RENAMED = {"dinov2_large.safetensors": "dinov2-large/resolve/main/model.safetensors"}
# "6:18" is node 18 of the subgraph at node 6. A widget that node 6 shows has its value from there.
SET_WIDGETS = """changes => {
  const way = (graph, [first, ...rest]) => {
    const node = graph.getNodeById(first)
    return rest.length ? [...way(node.subgraph, rest), node] : [node]
  }
  for (const [id, inputs] of Object.entries(changes))
    for (const [name, value] of Object.entries(inputs))
      for (const node of way(window.app.graph, id.split(":"))) {
        const widget = node.widgets.find(widget => widget.name === name)
        if (widget) widget.value = value
      }
}"""
# Of every node: its title, and the rectangle that it takes with its title bar: left, top, right, bottom.
RECTANGLES = """() => window.app.graph.nodes.map(node => {
  const [left, top, width, height] = node.getBounding()
  return [node.title, left, top, left + width, top + height]
})"""
# Text boxes whose text is longer than they show. Notes, which begin with a heading, may scroll.
CUT_TEXTS = """() => [...document.querySelectorAll("textarea")]
  .filter(box => box.checkVisibility() && !box.value.startsWith("## ") && box.scrollHeight > box.clientHeight + 2)
  .map(box => box.value)"""
FIRST_TEMPLATES = [name for name in template_names() if name.startswith("plan_")]
MOST_NODES = 10
SET_VUE = "on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
SET_MODE = "([ids, mode]) => ids.forEach(id => { window.app.graph.getNodeById(id).mode = mode })"


@pytest.fixture(scope="module")
def open_page(
    browser: Browser, start_server: Callable[[str], ComfyServer]
) -> Iterator[Callable[[str], tuple[HostPage, ComfyServer]]]:
    """Gives the page of a host's version, with all files that the templates name in their places."""
    opened: dict[str, tuple[HostPage, ComfyServer]] = {}
    with ExitStack() as stack:

        def give(version: str) -> tuple[HostPage, ComfyServer]:
            if version not in opened:
                server = start_server(version)
                provide_files(server)
                opened[version] = stack.enter_context(browser.open(server)), server
            return opened[version]

        yield give


def changed(graph: Graph, changes: dict[str, dict[str, Any]]) -> Graph:
    """The graph with other inputs in the nodes that `changes` names."""
    return {node_id: dict(entry, inputs=entry["inputs"] | changes.get(node_id, {})) for node_id, entry in graph.items()}


def depth_of(server: ComfyServer, outputs: dict[str, Any], node_id: str) -> np.ndarray:
    """The metres (H, W) that a node's viewer shows."""
    (shown,) = outputs[node_id]["spatialfusion_depth"]
    return np.load(io.BytesIO(server.view(shown)), allow_pickle=False)[0]


def picture_of(server: ComfyServer, outputs: dict[str, Any], node_id: str) -> Image.Image:
    return Image.open(io.BytesIO(server.view(outputs[node_id]["images"][0])))


def check_outputs(server: ComfyServer, name: str, graph: Graph, outputs: dict[str, Any]) -> None:
    """Every picture, depth and 3D file that the run tells of is there and is what it says."""
    (saved,) = nodes_of_type(graph, "SaveImage")
    assert picture_of(server, outputs, saved).size == IMAGE_SIZES.get(name, (MINI_SIDE_PX, MINI_SIDE_PX))
    depths = [node_id for node_id, output in outputs.items() if "spatialfusion_depth" in output]
    assert depths
    for node_id in depths:
        depth_m = depth_of(server, outputs, node_id)
        surface = np.isfinite(depth_m)
        assert surface.any(), graph[node_id]
        assert depth_m[surface].min() >= 0.1 and depth_m[surface].max() <= 1000, graph[node_id]
    for node_id in nodes_of_type(graph, "SaveGLB"):
        assert server.view(outputs[node_id]["3d"][0]).startswith(b"glTF")
    for node_id in nodes_of_type(graph, "Preview3D"):
        file = {"filename": outputs[node_id]["result"][0], "type": "output"}
        assert server.view(file).startswith(b"ply\n")
    for node_id in nodes_of_type(graph, "SpatialFusionSaveDepth"):
        assert outputs[node_id]["metric_depth"]


def check_composition(server: ComfyServer, graph: Graph, outputs: dict[str, Any]) -> None:
    """The camera looks 8 degrees down from 1.6 m: the person's cylinder, 0.5 m thick, is 4 m ahead on the ground."""
    depth_m = depth_of(server, outputs, node_titled(graph, "Compose Depth Scaffold"))
    centre = (MINI_SIDE_PX - 1) / 2
    pitch, focal_px = np.radians(8.0), MINI_SIDE_PX / 2 / np.tan(np.radians(30.0))
    right_m, down_m, ahead_m = 1.1, 0.6, 3.75  # of its front, 1 m above the ground, seen from a level camera
    expected_m = ahead_m * np.cos(pitch) + down_m * np.sin(pitch)
    column = round(centre + focal_px * right_m / expected_m)
    row = round(centre + focal_px * (down_m * np.cos(pitch) - ahead_m * np.sin(pitch)) / expected_m)
    assert depth_m[row, column] == pytest.approx(expected_m, abs=0.1)


def check_move(server: ComfyServer, graph: Graph, outputs: dict[str, Any], before: str, after: str) -> None:
    """What moved is now, in the median, as far away as the node says; the rest is where it was."""
    moved = node_titled(graph, after)
    old_m, new_m = (depth_of(server, outputs, node_id) for node_id in (node_titled(graph, before), moved))
    region = np.isfinite(old_m) & ~np.isclose(old_m, new_m, rtol=1e-4)
    assert 0 < region.mean() < 0.5
    assert np.median(new_m[region]) == pytest.approx(graph[moved]["inputs"]["distance_m"], rel=0.02)


def check_strengths(server: ComfyServer, graph: Graph, outputs: dict[str, Any]) -> None:
    """Four different images of the same seed."""
    (saved,) = nodes_of_type(graph, "SaveImage")
    sheet = np.asarray(picture_of(server, outputs, saved).convert("RGB"), float)
    cells = [sheet[:, column * 260 : column * 260 + 256] for column in range(4)]
    differences = [np.abs(cells[0] - cell).mean() for cell in cells[1:]]
    assert min(differences) > 0.5, differences


def check_plan(server: ComfyServer, graph: Graph, outputs: dict[str, Any]) -> None:
    """The woman is 4 m away and 1.2 m to the left, as the prompt says, seen from 1.5 m with a tilt of 5 degrees.

    The pixel where her chest is, 1.2 m high: she is 0.3 m thick at most, and her nearest point is 4 m away on the
    ground.
    """
    composer = node_titled(graph, "Compose Depth Scaffold")
    depth_m = depth_of(server, outputs, composer)
    side = graph[composer]["inputs"]["width"]
    assert depth_m.shape == (side, side)
    pitch, focal_px = np.radians(5.0), side / 2 / np.tan(np.radians(25.0))
    right_m, down_m, ahead_m = -1.2, 0.3, 4.0
    expected_m = ahead_m * np.cos(pitch) + down_m * np.sin(pitch)
    column = round((side - 1) / 2 + focal_px * right_m / expected_m)
    row = round((side - 1) / 2 + focal_px * (down_m * np.cos(pitch) - ahead_m * np.sin(pitch)) / expected_m)
    assert depth_m[row, column] == pytest.approx(expected_m, abs=0.2)


def check_edit(server: ComfyServer, graph: Graph, outputs: dict[str, Any]) -> None:
    """The edit is another image than its source, but not one of its own: what was not asked for stays.

    Whether it follows the instruction is tested in test_editing.py, with more steps.
    """
    source, edit = (
        np.asarray(picture_of(server, outputs, node_titled(graph, title)).convert("RGB"), float)
        for title in ("Source, enlarged", "Edit, enlarged")
    )
    assert np.abs(source - edit).mean() > 0.5
    alike = np.corrcoef(source.ravel(), edit.ravel())[0, 1]
    assert alike > 0.8, alike


FURTHER_CHECKS: dict[str, Callable[[ComfyServer, Graph, dict[str, Any]], None]] = {
    "composed_scaffold_mini": check_composition,
    "edit_mini": check_edit,
    "compare_strengths_mini": check_strengths,
    "blend_adjust_mini": lambda *run: check_move(*run, "Blend Metric Depth", "Adjust Metric Depth"),
    **dict.fromkeys(DRAFTS, lambda *run: check_move(*run, *DRAFT_MOVE)),
} | dict.fromkeys(FIRST_TEMPLATES, check_plan)


def covered(boxes: list[Any]) -> list[tuple[Any, Any]]:
    """The pairs of rectangles (name, left, top, right, bottom) that overlap."""
    return [
        (a, b)
        for a, b in itertools.combinations(boxes, 2)
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]


@EACH_TEMPLATE
def test_template_is_tidy(name: str) -> None:
    template = workflow(name)
    assert any(node["type"] == "MarkdownNote" for node in template["nodes"])
    subgraphs = (template.get("definitions") or {}).get("subgraphs", ())
    title = 30  # a node's title bar lies above its position
    for nodes in (template["nodes"], *(subgraph["nodes"] for subgraph in subgraphs)):
        assert covered([(n["id"], x, y - title, x + w, y + h) for n in nodes for x, y, w, h in [box_of(n)]]) == []
    boxes = [box_of(node) for node in template["nodes"]]
    for group in template["groups"]:
        left, top, width, height = group["bounding"]
        for x, y, w, h in boxes:
            inside = left <= x and x + w <= left + width and top <= y - title and y + h <= top + height
            outside = x + w <= left or left + width <= x or y + h <= top or top + height <= y - title
            assert inside or outside, (group["title"], x, y)


def box_of(node: dict[str, Any]) -> tuple[float, float, float, float]:
    return (*node["pos"], *node["size"])


@pytest.mark.parametrize("name", FIRST_TEMPLATES)
def test_the_first_templates_read_at_a_glance(name: str) -> None:
    assert len(workflow(name)["nodes"]) <= MOST_NODES


@EACH_TEMPLATE
def test_named_models_are_what_the_loaders_load(name: str) -> None:
    """Each loader of a real file tells the front end where that file comes from and belongs."""
    for loader, model in models_of(name):
        assert model["name"] in loader["widgets_values"]
        file = RENAMED.get(model["name"], model["name"])
        assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + file)
    for node in all_nodes(workflow(name)):
        if node["type"] in MODEL_LOADERS:
            files = {model["name"] for model in node["properties"]["models"]}
            assert files == {value for value in node["widgets_values"] if str(value).endswith(".safetensors")}


def test_front_end_offers_the_files_that_a_template_lacks(browser: Browser, repository: Path, tmp_path: Path) -> None:
    """In a server without any model every file with a known address has its button, under the folder it belongs to."""
    server = ComfyServer(repository, hosts.NEWEST.version, tmp_path)
    server.start()
    try:
        with browser.open(server) as page:
            for name in (name for name in template_names() if list(models_of(name))):
                page.load_graph(workflow(name))
                wanted = {model["name"]: model["directory"] for _, model in models_of(name)}
                page.tab.get_by_text("View details").click()
                page.tab.get_by_text("Missing Models").wait_for(state="visible")
                page.tab.wait_for_function(
                    "names => names.every(name => document.body.innerText.includes(name))", arg=list(wanted)
                )
                lines = page.tab.evaluate("document.body.innerText").splitlines()
                shown = [line for line in lines if line]
                offered = {shown[at - 2]: shown[at - 1] for at, line in enumerate(shown) if line == "Download"}
                assert offered == wanted, name
    finally:
        server.stop()


@EACH_TEMPLATE
def test_template_runs_in_the_front_end(open_page: Callable[[str], tuple[HostPage, ComfyServer]], name: str) -> None:
    page, server = open_page(hosts.NEWEST.version)
    server.free_memory()  # the host shows no pictures of nodes that it need not run again
    graph = api_form(page, name)
    assert graph == api_workflow(name)
    assert page.unknown_nodes() == []
    changes = quick_changes(graph, has_real_base(name))
    page.tab.evaluate(SET_WIDGETS, changes)
    assert page.graph_to_prompt().keys() == graph.keys()
    outputs = page.run()
    check_outputs(server, name, graph, outputs)
    FURTHER_CHECKS.get(name, lambda *_: None)(server, changed(graph, changes), outputs)
    assert covered(page.tab.evaluate(RECTANGLES)) == []
    assert page.tab.evaluate(CUT_TEXTS) == []
    for node_type in VIEWERS_3D.intersection(entry["class_type"] for entry in graph.values()):
        assert shows_something(page, node_type), node_type
    assert page.console_errors() == []


def test_a_template_runs_in_the_vue_rendering(open_page: Callable[[str], tuple[HostPage, ComfyServer]]) -> None:
    name = "blend_adjust_mini"
    page, server = open_page(hosts.NEWEST.version)
    server.free_memory()
    known = len(page.console_errors())
    page.tab.evaluate(SET_VUE, True)
    try:
        graph = api_form(page, name)
        assert graph == api_workflow(name)
        page.tab.wait_for_function(
            "() => document.querySelectorAll('[data-node-id]').length >= window.app.graph.nodes.length"
        )
        changes = quick_changes(graph, has_real_base(name))
        page.tab.evaluate(SET_WIDGETS, changes)
        outputs = page.run()
        check_outputs(server, name, graph, outputs)
        FURTHER_CHECKS[name](server, changed(graph, changes), outputs)
        page.tab.wait_for_selector(".sf-numbers dd", state="attached")
        assert page.console_errors()[known:] == []
    finally:
        page.tab.evaluate(SET_VUE, False)


@pytest.mark.parametrize("name", [name for name in template_names() if not needs_moge(name)])
def test_template_runs_in_the_oldest_host(open_page: Callable[[str], tuple[HostPage, ComfyServer]], name: str) -> None:
    """Its front end knows every node; the API form that scripts use runs."""
    page, server = open_page(hosts.OLDEST.version)
    server.free_memory()
    page.load_graph(workflow(name))
    assert page.unknown_nodes() == []
    graph = api_workflow(name)
    outputs = server.run(changed(graph, quick_changes(graph, has_real_base(name))))
    check_outputs(server, name, graph, outputs)
    assert page.console_errors() == []


@WITH_MOGE
def test_oldest_host_says_which_nodes_it_lacks(
    open_page: Callable[[str], tuple[HostPage, ComfyServer]], name: str
) -> None:
    """It has no MoGe: its front end and its server say so by name, and both live on."""
    page, server = open_page(hosts.OLDEST.version)
    page.load_graph(workflow(name))
    assert set(page.unknown_nodes()) == {"LoadMoGeModel", "MoGeInference"}
    page.tab.get_by_text("LoadMoGeModel").first.wait_for(state="visible")
    page.tab.keyboard.press("Escape")
    with pytest.raises(PromptError, match="MoGe"):
        server.run(api_workflow(name))
    assert server.alive and page.console_errors() == []


def test_bypassed_adapter_works_beside_lora_and_controlnet(
    open_page: Callable[[str], tuple[HostPage, ComfyServer]],
) -> None:
    """With a checkpoint for the base, Ctrl+B on the two nodes puts the adapter on the same model, and it acts."""
    page, server = open_page(hosts.NEWEST.version)
    config = tiny_config("qwen_image", "token")
    checkpoint = write_tiny_checkpoint(server.base / "models" / "spatialfusion", "qwen_template.safetensors", config)
    graph = api_form(page, MIXED)
    bypassed = [node["id"] for node in workflow(MIXED)["nodes"] if node["mode"] == 4]
    page.tab.evaluate(SET_MODE, [bypassed, 0])
    with_adapter = page.graph_to_prompt()
    assert len(with_adapter) == len(graph) + 2
    quick = quick_changes(with_adapter, real_base=True)
    loader = node_titled(with_adapter, "Load SpatialFusion MLLM+MoT: of the base")
    (sampler,) = nodes_of_type(with_adapter, "KSampler")
    quick[sampler] |= {"seed": 1}
    quick[loader] = {"checkpoint": checkpoint}
    pictures = [
        np.asarray(picture_of(server, server.run(changed(run, quick)), nodes_of_type(run, "SaveImage")[0]), float)
        for run in (graph, with_adapter)
    ]
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.1


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_template_chooses_the_object_and_little_ground(newest_server: ComfyServer, name: str) -> None:
    """With the template's own values and size, on the scene of its picture: exact depth stands in for MoGe's."""
    graph = api_workflow(name)
    chair = write_scene(newest_server).object_index[0].numpy() == 0
    newest_server.free_memory()  # what another template has in the cache is not run, and shows nothing
    outputs = newest_server.run(without_models(with_scene(graph)))
    check_move(newest_server, graph, outputs, *DRAFT_MOVE)
    before_m, after_m = (depth_of(newest_server, outputs, node_titled(graph, title)) for title in DRAFT_MOVE)
    moved = ~np.isclose(before_m, after_m, rtol=1e-4)
    assert (moved & chair).sum() > 0.99 * chair.sum()
    assert (moved & chair).sum() > 0.7 * moved.sum(), "the rest is the ground between its feet"


@EACH_TEMPLATE
def test_host_serves_the_template_and_its_picture(server: ComfyServer, name: str) -> None:
    with DIRECT.open(f"{server.url}/api/workflow_templates", timeout=60) as response:
        assert name in json.load(response)["ComfyUI-SpatialFusion"]
    url = f"{server.url}/api/workflow_templates/ComfyUI-SpatialFusion/{name}.jpg"
    with DIRECT.open(url, timeout=60) as response, Image.open(response) as picture:
        assert picture.size == THUMBNAIL_SIZE
