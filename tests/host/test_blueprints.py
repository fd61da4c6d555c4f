"""The blueprints in subgraphs/: both hosts serve them, and each holds what its template does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.host.browser import Browser, HostPage
from tests.host.server import ComfyServer, Graph
from tests.host.template_runs import (
    ROOT,
    SHRINK,
    api_workflow,
    load_json,
    nodes_of_type,
    provide_files,
    quick_changes,
    template_names,
)
from tools import hosts
from tools.documents.blueprints import LEFT_OUT, blueprints
from tools.host_process import DIRECT

FILES = {path.stem: path for path in blueprints(ROOT)}
PLANS = [name for name in template_names() if name.startswith("plan_")]
WHOLE = {
    "plan_z_image_turbo": "Planned Scene to Image (Z-Image-Turbo)",
    "plan_qwen_image": "Planned Scene to Image (Qwen-Image)",
    "plan_flux": "Planned Scene to Image (FLUX.1-dev)",
    "plan_sdxl": "Planned Scene to Image (SDXL)",
}
# The names of the blueprints that the front end offers as nodes.
OFFERED = """() => {
  const pinia = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia
  return pinia._s.get("subgraph").subgraphBlueprints.map(node => node.display_name)
}"""
# Sets the prompt of the only node, and saves its image.
COMPLETE = """text => {
  const { graph } = window.app, [node] = graph.nodes
  node.widgets.find(widget => widget.name === "prompt").value = text
  const save = window.LiteGraph.createNode("SaveImage")
  graph.add(save)
  node.connect(node.outputs.findIndex(output => output.type === "IMAGE"), save, 0)
}"""


@pytest.fixture(scope="module")
def opened(browser: Browser, start_server: Callable[[str], ComfyServer]) -> Iterator[tuple[HostPage, ComfyServer]]:
    server = start_server(hosts.NEWEST.version)
    provide_files(server)
    with browser.open(server) as page:
        yield page, server


def settings(graph: Graph) -> Counter[str]:
    """What a graph consists of: the nodes with the values that no link gives them."""
    return Counter(
        json.dumps([entry["class_type"], {k: v for k, v in entry["inputs"].items() if not isinstance(v, list)}])
        for entry in graph.values()
        if entry["class_type"] not in LEFT_OUT
    )


def whole_graph(page: HostPage, name: str) -> Graph:
    """The API form of a whole blueprint with the template's prompt."""
    template = api_workflow(name)
    (prompt,) = (entry["inputs"]["value"] for entry in template.values() if "value" in entry["inputs"])
    page.load_graph(load_json(FILES[WHOLE[name]]))
    assert page.unknown_nodes() == []
    page.tab.evaluate(COMPLETE, prompt)
    return page.graph_to_prompt()


def with_prompt_linked(graph: Graph) -> Graph:
    """Without the prompt, which the template links and the blueprint has as a value."""
    texts = {"SpatialFusionPlanLayout": "prompt", "CLIPTextEncode": "text"}
    planner = graph[nodes_of_type(graph, "SpatialFusionPlanLayout")[0]]["inputs"]["prompt"]

    def without(entry: dict[str, Any]) -> dict[str, Any]:
        name = texts.get(entry["class_type"], "")
        inputs = entry["inputs"]
        return dict(entry, inputs={k: v for k, v in inputs.items() if k != name or v != planner})

    return {node_id: without(entry) for node_id, entry in graph.items()}


def test_both_hosts_serve_the_blueprints(server: ComfyServer) -> None:
    with DIRECT.open(f"{server.url}/api/global_subgraphs", timeout=60) as response:
        entries = json.load(response)
    ours = {entry["name"]: name for name, entry in entries.items() if "SpatialFusion" in entry["info"]["node_pack"]}
    assert ours.keys() == FILES.keys()
    for name, entry_id in ours.items():
        with DIRECT.open(f"{server.url}/api/global_subgraphs/{entry_id}", timeout=60) as response:
            assert json.loads(json.load(response)["data"]) == load_json(FILES[name])


def test_the_front_end_offers_the_blueprints(opened: tuple[HostPage, ComfyServer]) -> None:
    page, _ = opened
    page.tab.wait_for_function(f"names => names.every(name => ({OFFERED})().includes(name))", arg=list(FILES))


@pytest.mark.parametrize("name", PLANS)
def test_a_whole_blueprint_is_its_template(opened: tuple[HostPage, ComfyServer], name: str) -> None:
    page, _ = opened
    assert settings(with_prompt_linked(whole_graph(page, name))) == settings(api_workflow(name))
    assert page.console_errors() == []


@pytest.mark.parametrize("name", PLANS)
def test_the_block_of_a_template_shows_its_widgets(opened: tuple[HostPage, ComfyServer], name: str) -> None:
    """In the front end the blueprint is one node with its sockets, and with the widgets of what is inside."""
    page, _ = opened
    file = FILES[WHOLE[name].replace("Planned Scene", "Metric Depth")]
    page.load_graph(load_json(file))
    (node,) = page.tab.evaluate(
        "() => window.app.graph.nodes.map(node => ({widgets: node.widgets.map(widget => [widget.name, widget.value]), "
        "inputs: node.inputs.map(input => input.type), outputs: node.outputs.map(output => output.type)}))"
    )
    (subgraph,) = load_json(file)["definitions"]["subgraphs"]
    values = [value for inner in subgraph["nodes"] for value in inner["widgets_values"] or ()]
    assert {"prompt", "seed", "steps"} <= {widget for widget, _ in node["widgets"]}
    assert all(value in values for _, value in node["widgets"])
    assert node["inputs"][0] == "MOGE_GEOMETRY,DA3_GEOMETRY" and node["outputs"] == ["IMAGE"]


def test_a_whole_blueprint_runs(opened: tuple[HostPage, ComfyServer]) -> None:
    """From a prompt to an image, as one node. Its width and height set the plan, the depth and the image."""
    page, server = opened
    graph = whole_graph(page, PLANS[-1])
    for node_id, changes in quick_changes(graph, real_base=True).items():
        graph[node_id]["inputs"] |= changes
    outputs = server.run(graph)
    (saved,) = nodes_of_type(graph, "SaveImage")
    assert len(outputs[saved]["images"]) == 1
    (composer,) = nodes_of_type(graph, "SpatialFusionComposeDepth")
    (planner,) = nodes_of_type(graph, "SpatialFusionPlanLayout")
    assert graph[composer]["inputs"]["width"] == graph[planner]["inputs"]["width"] == 1024 // SHRINK
