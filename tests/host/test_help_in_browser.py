"""Help and languages as a user meets them: the help panel with its picture, and the pack's own texts translated.

The pages' minimal graphs run here from the front end, as they are drawn for the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.browser import Browser, HostPage
from tests.host.help_graphs import GRAPHS, write_files
from tests.host.help_pictures import blemishes, prepare, show
from tests.host.mini_graphs import node
from tests.host.server import ComfyServer
from tests.host.template_thumbnails import render_scene
from tools import hosts
from tools.documents.help_pages import ORDER

NODE = "SpatialFusionInspectDepth"


def open_node(page: HostPage) -> None:
    """Open a graph of the viewer's node alone."""
    page.tab.evaluate("async graph => { await window.app.loadApiJson(graph, 'help') }", {"1": node(NODE)})
    page.tab.wait_for_selector(".sf-viewer", state="attached")
    page.tab.evaluate(
        """() => {
            const { canvas, graph } = window.app;
            graph.nodes[0].pos = [300, 300];
            canvas.ds.scale = 1;
            canvas.ds.offset = [0, 0];
            canvas.setDirty(true, true);
        }"""
    )


def select_node(page: HostPage) -> None:
    """Select the node until its toolbox is there: what the front end still loads after its start may deselect it."""
    page.tab.wait_for_function(
        """() => {
            const { canvas, graph } = window.app;
            if (document.querySelector('[data-testid="info-button"]')) return true;
            canvas.deselectAll();
            canvas.selectNode(graph.nodes[0]);
            return false;
        }""",
        polling=500,
    )


def test_the_help_panel_shows_the_page_with_its_picture(page: HostPage) -> None:
    open_node(page)
    select_node(page)
    page.tab.get_by_test_id("info-button").click()
    page.tab.wait_for_selector(".node-help-content h1")
    picture = page.tab.locator(".node-help-content img")
    page.tab.wait_for_function("() => document.querySelector('.node-help-content img')?.naturalWidth > 100")
    assert (picture.get_attribute("src") or "").endswith(f"/docs/{NODE}/graph.png")


def test_node_and_viewer_are_shown_in_the_language_of_the_front_end(page: HostPage, repository: Path) -> None:
    page.tab.evaluate("async () => { await window.app.extensionManager.setting.set('Comfy.Locale', 'ja') }")
    try:
        page.start()
        open_node(page)
        folder = repository / "locales" / "ja"
        texts = json.loads((folder / "main.json").read_text(encoding="utf-8"))["spatialfusionViewer"]
        names = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))[NODE]
        assert page.tab.locator(".sf-message").text_content() == texts["empty"]
        assert page.tab.locator(".sf-colormap").get_attribute("aria-label") == texts["colourMap"]
        shown = page.tab.evaluate("() => window.app.graph.nodes[0].inputs[0].localized_name")
        assert shown == names["inputs"]["geometry"]["name"]
    finally:
        page.tab.evaluate("async () => { await window.app.extensionManager.setting.set('Comfy.Locale', 'en') }")


@pytest.fixture(scope="module")
def drawing_page(browser: Browser, start_server: Callable[[str], ComfyServer]) -> Iterator[HostPage]:
    """The newest host's front end as the exporter of the pictures opens it, with the files that the graphs load."""
    server = start_server(hosts.NEWEST.version)
    write_files(server, render_scene().depth_m[0].numpy())
    with browser.open(server) as page:
        prepare(page)
        yield page


def test_every_page_has_a_graph_of_its_node() -> None:
    assert sorted(GRAPHS) == sorted(ORDER)
    for node_id, graph in GRAPHS.items():
        assert node_id in {entry["class_type"] for entry in graph.values()}


@pytest.mark.parametrize("node_id", list(GRAPHS))
def test_minimal_graph_runs_and_its_picture_is_clean(drawing_page: HostPage, node_id: str) -> None:
    """It is whole, so that the front end runs it; every wire is seen, no value lacks, nothing covers the canvas."""
    show(drawing_page, node_id)
    assert blemishes(drawing_page, node_id) == []


def test_blemishes_of_a_picture_are_found(drawing_page: HostPage) -> None:
    node_id = "SpatialFusionAdjustDepth"
    show(drawing_page, node_id)
    drawing_page.tab.evaluate(
        """() => {
            const { graph, extensionManager, canvas } = window.app;
            const of = type => graph.nodes.find(node => node.type === 'SpatialFusion' + type);
            extensionManager.toast.add({ severity: 'error', summary: 'covered' });
            of('ScaffoldObject').has_errors = true;
            of('AdjustDepth').widgets.find(widget => widget.name === 'distance_moves').value = undefined;
            of('InspectDepth').disconnectInput(0);
            for (const id of [...graph.reroutes.keys()]) graph.removeReroute(id);
            of('AdjustDepth').connect(0, of('InspectDepth'), 0);
            of('InspectDepth').pos = [of('AdjustDepth').pos[0] + 600, of('AdjustDepth').pos[1]];
            of('ScaffoldObject').pos = [of('AdjustDepth').pos[0] + 300, of('AdjustDepth').pos[1] - 20];
            canvas.setDirty(true, true);
        }"""
    )
    drawing_page.tab.wait_for_selector(".p-toast-message, [data-toast-kind]")
    drawing_page.tab.wait_for_timeout(500)
    found = "\n".join(blemishes(drawing_page, node_id))
    assert "over the canvas: covered" in found
    assert "Scaffold Object is marked as wrong" in found
    assert "distance_moves is empty" in found
    assert "the wire from Adjust Metric Depth to Inspect Metric Depth runs behind Scaffold Object" in found
