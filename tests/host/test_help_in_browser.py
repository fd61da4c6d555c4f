"""Help and languages as a user meets them: the help panel with its picture, and the pack's own texts translated."""

from __future__ import annotations

import json
from pathlib import Path

from tests.host.browser import HostPage
from tests.host.mini_graphs import node

NODE = "SpatialFusionInspectDepth"


def open_node(page: HostPage) -> None:
    """Open a graph of the viewer's node alone, and select it."""
    page.tab.evaluate("async graph => { await window.app.loadApiJson(graph, 'help') }", {"1": node(NODE)})
    page.tab.wait_for_selector(".sf-viewer", state="attached")
    page.tab.evaluate(
        """() => {
            const { canvas, graph } = window.app;
            graph.nodes[0].pos = [300, 300];
            canvas.ds.scale = 1;
            canvas.ds.offset = [0, 0];
            canvas.selectNode(graph.nodes[0]);
            canvas.setDirty(true, true);
        }"""
    )


def test_the_help_panel_shows_the_page_with_its_picture(page: HostPage) -> None:
    open_node(page)
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
