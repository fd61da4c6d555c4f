"""What tests do with the scene editor in a real front end, and read from it."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator

from sf_model.scaffold.layout import Layout
from sf_model.scaffold.layout_reading import read_layout
from tests.host.browser import HostPage
from tests.host.mini_graphs import node
from tests.host.server import Graph

NODE_TYPE = "SpatialFusionComposeDepth"
FIND = f"window.app.graph.nodes.find(node => node.type === '{NODE_TYPE}')"


def scene_graph(connected: str = "", **inputs: Any) -> Graph:
    """Compose Depth Scaffold at 96 x 64 pixels, whose depth is saved. connected: the text of a connected layout."""
    sizes = {"width": 96, "height": 64, "camera_height_m": 1.6, "camera_pitch_deg": 10.0, "fov_y_deg": 50.0}
    graph = {
        "1": node(NODE_TYPE, **(sizes | inputs)),
        "2": node("SpatialFusionSaveDepth", geometry=["1", 0], filename_prefix="tests/scene"),
    }
    if connected:
        graph["3"] = node("ProbeLayout", text=connected)
        graph["1"]["inputs"]["layout"] = ["3", 0]
    return graph


class ScenePage:
    """The editor of the only Compose Depth Scaffold of the open graph."""

    def __init__(self, page: HostPage, rendering: str = "classic") -> None:
        self.page = page
        self.tab = page.tab
        self.rendering = rendering

    def load(self, graph: Graph) -> None:
        for entry in graph.values():
            entry.setdefault("_meta", {"title": entry["class_type"]})
        self.tab.evaluate("async graph => { await window.app.loadApiJson(graph, 'scene') }", graph)

    def open(self) -> None:
        """Press the button of the node. On the classic canvas it is no element, so its function is called."""
        if self.rendering == "vue":
            button = self.tab.locator("[data-node-id]").get_by_text("Edit scene")
            button.evaluate("button => button.click()")
        else:
            self.tab.evaluate(f"{FIND}.widgets.find(widget => widget.name === 'edit_scene').callback()")
        self.tab.wait_for_selector(".sfe-dialog[open] .sfe-plan")
        self.settle()

    def settle(self) -> None:
        """Wait until the plan and the camera's view have been drawn, and lie still."""
        self.tab.wait_for_function(
            """() => {
                const editor = document.querySelector(".sfe-isolated")?.shadowRoot;
                const grid = editor?.querySelector(".sfe-grid path")?.getAttribute("d");
                const box = editor?.querySelector(".sfe-plan")?.getBoundingClientRect();
                const picture = editor?.querySelector(".sfe-picture")?.width;
                const [last, now] = [window.lastScene, `${grid} ${box?.left} ${box?.width} ${picture}`];
                window.lastScene = now;
                return grid && picture && last === now;
            }""",
            polling=100,
            timeout=60_000,
        )

    def close(self) -> None:
        self.locator(".sfe-do-close").click()
        self.tab.wait_for_function("() => !document.querySelector('.sfe-dialog')")

    def locator(self, selector: str) -> Locator:
        return self.tab.locator(f".sfe-dialog {selector}")

    def text(self) -> str:
        """What the node holds."""
        return self.tab.evaluate(f"{FIND}.widgets.find(widget => widget.name === 'edited_layout').value")

    def layout(self) -> Layout:
        """The same as a layout. It must be in the strict form, which the server reads without assuming anything."""
        read = read_layout(self.text())
        assert read.notes == ()
        assert read.layout.to_dict() == json.loads(self.text())
        return read.layout

    def widget(self, name: str) -> Any:
        return self.tab.evaluate(f"name => {FIND}.widgets.find(widget => widget.name === name).value", name)

    def set_widget(self, name: str, value: Any) -> None:
        """Give a widget a value as the host does it."""
        self.tab.evaluate(
            f"""([name, value]) => {{
                const widget = {FIND}.widgets.find(widget => widget.name === name);
                widget.value = value;
                widget.callback?.(value);
            }}""",
            [name, value],
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def names(self) -> list[str]:
        return self.locator(".sfe-item").all_inner_texts()

    def metre_px(self) -> float:
        """Pixels of the window for a metre of the plan, by the marks of its grid."""
        marks = {
            mark.text_content(): mark.bounding_box()["x"] + mark.bounding_box()["width"] / 2
            for mark in self.locator(".sfe-metres[text-anchor=middle]").all()
        }
        metres = sorted((float(text.removesuffix(" m")), x) for text, x in marks.items())
        (first, left), (last, right) = metres[0], metres[-1]
        return (right - left) / (last - first)

    def drag(self, place: Locator, dx: float, dy: float) -> None:
        """Press in the middle of an element, move and let go."""
        # What was changed before is drawn in the next frame.
        self.tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        box = place.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.tab.mouse.move(x, y)
        self.tab.mouse.down()
        self.tab.mouse.move(x + dx / 2, y + dy / 2)
        self.tab.mouse.move(x + dx, y + dy)
        self.tab.mouse.up()
