"""The templates: they run from the real front end, and their API forms are what it makes of them."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from tests.host.browser import HostPage
from tests.host.export_workflows import TEMPLATES, THUMBNAIL_SIZE, api_form, load_json, template_names
from tests.host.server import ComfyServer
from tools.host_process import DIRECT

EACH_TEMPLATE = pytest.mark.parametrize("name", template_names())


def node_of_type(graph: dict, node_type: str) -> str:
    (node_id,) = [node_id for node_id, node in graph.items() if node["class_type"] == node_type]
    return node_id


@EACH_TEMPLATE
def test_template_is_tidy(name: str) -> None:
    nodes = load_json(TEMPLATES / f"{name}.json")["nodes"]
    assert any(node["type"] == "MarkdownNote" for node in nodes)
    boxes = [(*node["pos"], *node["size"]) for node in nodes]
    title = 30  # a node's title bar lies above its position
    overlapping = [
        (a, b)
        for index, a in enumerate(boxes)
        for b in boxes[index + 1 :]
        if a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] - title < b[1] + b[3] and b[1] - title < a[1] + a[3]
    ]
    assert overlapping == []


@EACH_TEMPLATE
def test_api_form_is_what_the_front_end_makes(page: HostPage, name: str) -> None:
    """If this fails after a change to a template: python -m tests.host.export_workflows."""
    assert api_form(page, name) == load_json(TEMPLATES / "api" / f"{name}.json")


@EACH_TEMPLATE
def test_template_runs_in_the_front_end(page: HostPage, newest_server: ComfyServer, name: str) -> None:
    graph = api_form(page, name)
    newest_server.free_memory()  # the host shows no pictures of nodes that it need not run again
    outputs = page.run()
    picture = outputs[node_of_type(graph, "SaveImage")]["images"][0]
    assert Image.open(io.BytesIO(newest_server.view(picture))).size == (64, 64)
    assert outputs[node_of_type(graph, "SpatialFusionSaveDepth")]["metric_depth"]
    assert outputs[node_of_type(graph, "SpatialFusionPredictDepth")]["images"]
    assert page.console_errors() == []


@EACH_TEMPLATE
def test_api_form_runs_in_both_hosts(server: ComfyServer, name: str) -> None:
    graph = load_json(TEMPLATES / "api" / f"{name}.json")
    outputs = server.run(graph)
    assert outputs[node_of_type(graph, "SaveImage")]["images"]


@EACH_TEMPLATE
def test_host_serves_the_template_and_its_picture(server: ComfyServer, name: str) -> None:
    with DIRECT.open(f"{server.url}/api/workflow_templates", timeout=60) as response:
        assert name in json.load(response)["ComfyUI-SpatialFusion"]
    url = f"{server.url}/api/workflow_templates/ComfyUI-SpatialFusion/{name}.jpg"
    with DIRECT.open(url, timeout=60) as response, Image.open(response) as picture:
        assert picture.size == THUMBNAIL_SIZE
