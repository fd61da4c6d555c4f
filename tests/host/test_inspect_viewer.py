"""The depth viewer in the real front ends of both hosts, in the classic and in the Vue rendering."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Route

from tests.host.browser import Browser, HostPage
from tests.host.mini_graphs import node, predict_graph
from tests.host.server import ComfyServer, Graph
from tools import hosts

SIZE = 64
NODE_TYPE = "SpatialFusionInspectDepth"
FIND = "type => window.app.graph.nodes.find(node => node.type === type)"


@pytest.fixture(scope="module", params=list(hosts.RELEASES))
def host_page(
    request: pytest.FixtureRequest, browser: Browser, start_server: Callable[[str], ComfyServer]
) -> Iterator[tuple[HostPage, ComfyServer]]:
    server = start_server(request.param)
    with browser.open(server) as page:
        yield page, server
        # The server keeps them, for the pages of other tests too.
        set_setting(page, "Comfy.VueNodes.Enabled", False)
        set_setting(page, "Comfy.ColorPalette", "dark")


@pytest.fixture(params=["classic", "vue"])
def viewer(request: pytest.FixtureRequest, host_page: tuple[HostPage, ComfyServer]) -> Iterator[Viewer]:
    """The viewer of an Inspect Metric Depth that has run on the probe's plane, twice in a batch."""
    page, server = host_page
    set_setting(page, "Comfy.VueNodes.Enabled", request.param == "vue")
    set_setting(page, "Comfy.ColorPalette", "dark")
    viewer = Viewer(page, server, request.param)
    viewer.open(inspect_graph(), NODE_TYPE)
    before = len(page.console_errors())
    yield viewer
    errors = page.console_errors()[before:]
    assert [error for error in errors if not any(part in error for part in viewer.expected_errors)] == []


def in_one_front_end(test: Callable[..., None]) -> Callable[..., None]:
    """For what does not depend on the host: the newest, in its own rendering."""
    test = pytest.mark.parametrize("host_page", [hosts.NEWEST.version], indirect=True)(test)
    return pytest.mark.parametrize("viewer", ["vue"], indirect=True)(test)


def set_setting(page: HostPage, name: str, value: Any) -> None:
    page.tab.evaluate("([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value])


def inspect_graph(kind: str = "moge", batch: int = 2) -> Graph:
    return {
        "1": node("ProbeGeometry", kind=kind, width=SIZE, height=SIZE, batch=batch),
        "2": node(NODE_TYPE, geometry=["1", 0]),
    }


class Viewer:
    """What a test does with the viewer, and reads from it."""

    def __init__(self, page: HostPage, server: ComfyServer, rendering: str) -> None:
        self.page = page
        self.server = server
        self.rendering = rendering
        self.tab = page.tab
        # Parts of console errors that the test causes.
        self.expected_errors: list[str] = []

    def open(self, graph: Graph, node_type: str) -> dict[str, Any]:
        """Open a graph and run it; returns the results of the node of this type, whose viewer is now on the screen."""
        for entry in graph.values():
            entry.setdefault("_meta", {"title": entry["class_type"]})
        self.tab.evaluate("async graph => { await window.app.loadApiJson(graph, 'inspect') }", graph)
        self.server.free_memory()  # the host shows no results of nodes that it need not run again
        outputs = self.page.run()
        self.show(node_type)
        return outputs[self.tab.evaluate(f"type => String(({FIND})(type).id)", node_type)]

    def show(self, node_type: str) -> None:
        """Bring the node into view, alone and enlarged, and wait for its numbers."""
        self.tab.evaluate(
            f"""type => {{
                const node = ({FIND})(type);
                for (const other of window.app.graph.nodes) other.pos = [-2000, 0];
                node.pos = [300, 120];
                window.app.canvas.ds.scale = 1.25;
                window.app.canvas.ds.offset = [0, 0];
                window.app.canvas.setDirty(true, true);
            }}""",
            node_type,
        )
        self.settle()

    def settle(self) -> None:
        """Wait for the numbers, and until the picture lies still where `show` has put the node."""
        self.tab.wait_for_selector(".sf-numbers dd", timeout=60_000)
        self.tab.wait_for_function(
            """() => {
                const { left, top, width } = document.querySelector(".sf-picture").getBoundingClientRect();
                const [last, now] = [window.lastPlace, `${left} ${top} ${width}`];
                window.lastPlace = now;
                return last === now && left > 375 && left < 500 && top > 150;
            }""",
            polling=200,
        )

    def place(self, column: int, row: int) -> tuple[float, float]:
        """Where the middle of a pixel is on the screen."""
        box = self.tab.locator(".sf-picture").bounding_box()
        assert box is not None
        scale = min(box["width"], box["height"]) / SIZE
        left = box["x"] + (box["width"] - SIZE * scale) / 2
        top = box["y"] + (box["height"] - SIZE * scale) / 2
        return left + (column + 0.5) * scale, top + (row + 0.5) * scale

    def text(self, name: str) -> str:
        return self.tab.locator(f".sf-{name}").text_content() or ""

    def reading(self, column: int, row: int) -> float:
        """The metres that are shown with the mouse over a pixel."""
        self.tab.mouse.move(*self.place(column, row))
        found = re.match(rf"x {column}, y {row}: ([\d.]+) m", self.text("reading"))
        assert found, self.text("reading")
        return float(found[1])

    def number(self, name: str) -> float:
        return float(self.text(f'numbers [data-name="{name}"] dd').split()[0].rstrip("%"))


def metres(column: int) -> float:
    """The probe's plane: 2 m at the left, 6 m at the right."""
    return 2 + 4 * column / (SIZE - 1)


def point(column: int, row: int) -> tuple[float, float, float]:
    """OpenCV axes; 90 degrees make the focal length half the picture."""
    z = metres(column)
    return (column + 0.5 - SIZE / 2) / (SIZE / 2) * z, (row + 0.5 - SIZE / 2) / (SIZE / 2) * z, z


def test_hovering_reads_metres(viewer: Viewer) -> None:
    for column, row in ((0, 40), (20, 63), (33, 17), (63, 50)):
        assert viewer.reading(column, row) == pytest.approx(metres(column), rel=0.01)
    viewer.tab.mouse.move(*viewer.place(30, 5))
    assert viewer.text("reading") == "x 30, y 5: no surface"
    x, y = viewer.place(0, 30)
    viewer.tab.mouse.move(x - 20, y)  # beside the picture
    assert viewer.text("reading").startswith("Point to read")


def test_two_clicks_measure_in_space(viewer: Viewer) -> None:
    viewer.tab.mouse.click(*viewer.place(30, 5))
    assert "no surface" in viewer.text("measured")
    first, second = (10, 30), (50, 60)
    viewer.tab.mouse.click(*viewer.place(*first))
    viewer.tab.mouse.click(*viewer.place(*second))
    found = re.fullmatch(r"distance ([\d.]+) m", viewer.text("measured"))
    assert found
    assert float(found[1]) == pytest.approx(math.dist(point(*first), point(*second)), rel=0.01)
    assert viewer.tab.locator(".sf-overlay circle").count() == 2


def test_keyboard_and_touch_reach_it(viewer: Viewer) -> None:
    place = viewer.tab.evaluate(f"type => [...({FIND})(type).pos]", NODE_TYPE)
    viewer.tab.locator(".sf-stage").focus()
    for key in ("ArrowRight", "Shift+ArrowDown", "ArrowLeft", "Enter", "Shift+ArrowRight", "Enter"):
        viewer.tab.keyboard.press(key)
    assert viewer.text("reading") == f"x 42, y 42: {float(f'{metres(42):.4g}'):g} m"
    expected = math.dist(point(32, 42), point(42, 42))
    assert float(viewer.text("measured").split()[1]) == pytest.approx(expected, rel=0.01)
    viewer.tab.keyboard.press("Escape")
    assert viewer.text("measured") == ""
    assert viewer.tab.evaluate(f"type => [...({FIND})(type).pos]", NODE_TYPE) == place
    x, y = viewer.place(20, 50)
    viewer.tab.locator(".sf-stage").dispatch_event(
        "pointerdown", {"pointerType": "touch", "clientX": x, "clientY": y, "bubbles": True}
    )
    assert viewer.text("reading").startswith("x 20, y 50: 3.27 m")


def test_histogram_scale_and_statistics(viewer: Viewer) -> None:
    assert viewer.number("min") == pytest.approx(2)
    assert viewer.number("median") == pytest.approx(4)
    assert viewer.number("max") == pytest.approx(6)
    assert viewer.number("sky") == pytest.approx(25)
    assert viewer.tab.locator(".sf-bars").get_attribute("d")
    assert viewer.tab.locator(".sf-ticks span").all_text_contents() == [
        f"{tick} m" for tick in ("0.5", "1", "2", "5", "10", "20", "50", "100")
    ]
    viewer.tab.locator(".sf-range").select_option("fit")
    ticks = [float(text.split()[0]) for text in viewer.tab.locator(".sf-ticks span").all_text_contents()]
    assert len(ticks) >= 4 and min(ticks) >= 2 and max(ticks) <= 6


def test_colour_maps_and_the_packs_own_picture(viewer: Viewer) -> None:
    outputs = viewer.page.outputs()
    (entry,) = [output for output in outputs.values() if "spatialfusion_depth" in output]
    with Image.open(io.BytesIO(viewer.server.view(entry["images"][0]))) as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    shown = {}
    for colormap in ("spatialfusion", "turbo", "viridis", "grey"):
        viewer.tab.locator(".sf-colormap").select_option(colormap)
        shown[colormap] = np.array(viewer.tab.evaluate(PIXELS)).reshape(SIZE, SIZE, 4)[..., :3]
    assert abs(shown["spatialfusion"] - expected).max() <= 2
    assert len({array.tobytes() for array in shown.values()}) == 4
    assert viewer.tab.evaluate(f"type => ({FIND})(type).properties.depth_colormap", NODE_TYPE) == "grey"


PIXELS = """() => {
    const canvas = document.querySelector(".sf-picture");
    return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def test_each_image_of_a_batch(viewer: Viewer) -> None:
    assert viewer.text("count") == "1 / 2"
    assert viewer.tab.locator(".sf-previous").is_disabled()
    with viewer.tab.expect_response(re.compile(r"/view\?.*_00002_\.npy")):
        viewer.tab.locator(".sf-next").click()
    assert viewer.text("count") == "2 / 2"
    assert viewer.tab.locator(".sf-next").is_disabled()
    viewer.tab.wait_for_timeout(200)
    assert viewer.reading(33, 40) == pytest.approx(metres(33), rel=0.01)


def test_no_node_is_missing_and_the_host_shows_no_picture_of_its_own(viewer: Viewer) -> None:
    assert viewer.page.unknown_nodes() == []
    widgets = viewer.tab.evaluate(f"type => ({FIND})(type).widgets.map(widget => widget.name)", NODE_TYPE)
    assert len(widgets) == 1
    assert viewer.tab.locator("[data-node-id] img").count() == 0


def test_it_follows_the_theme(viewer: Viewer) -> None:
    looks = {}
    for palette in ("dark", "light"):
        set_setting(viewer.page, "Comfy.ColorPalette", palette)
        viewer.tab.wait_for_function(BACKGROUND_IS, arg=palette == "dark")
        looks[palette] = viewer.tab.evaluate(LOOK)
        assert looks[palette]["text"] == looks[palette]["themeText"]
    assert all(looks["dark"][name] != looks["light"][name] for name in looks["dark"])


# Whether the theme's background is dark: the front ends have no other mark of it in common.
BACKGROUND_IS = """dark => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = "var(--bg-color)";
    const [red] = getComputedStyle(probe).color.match(/\\d+/g);
    probe.remove();
    return (red < 128) === dark;
}"""
# The viewer's text and the theme's, and the bars of the histogram.
LOOK = """() => {
    const text = getComputedStyle(document.querySelector(".sf-viewer")).color;
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = "var(--input-text)";
    const themeText = getComputedStyle(probe).color;
    probe.remove();
    return { text, themeText, bars: getComputedStyle(document.querySelector(".sf-bars")).fill };
}"""


class Requests:
    """Requests for depth files, answered when and as the test says. Use it as a context."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer, self.waiting, self.urls = viewer, [], []

    def __enter__(self) -> Requests:
        self.viewer.tab.route(re.compile(r"/view\?.*\.npy"), self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        self.answer()
        self.viewer.tab.unroute(re.compile(r"/view\?.*\.npy"))

    def _hold(self, route: Route) -> None:
        self.urls.append(route.request.url)
        self.waiting.append(route)

    def wait(self, count: int) -> None:
        for _ in range(100):
            if len(self.urls) >= count:
                return
            self.viewer.tab.wait_for_timeout(50)
        raise AssertionError(f"{len(self.urls)} requests")

    def answer(self, status: int | None = None) -> None:
        """Let the waiting requests go to the server, or answer them with an error."""
        waiting, self.waiting = self.waiting, []
        for route in waiting:
            with contextlib.suppress(PlaywrightError):  # the viewer has given it up
                route.continue_() if status is None else route.fulfill(status=status)


# What the front end does after every run, of this node or of another.
FINISH_TEN_RUNS = """() => {
    for (let run = 0; run < 10; run += 1) {
        for (const extension of window.app.extensions.filter(({ name }) => name === "SpatialFusion")) {
            extension.onNodeOutputsUpdated(window.app.nodeOutputs);
        }
    }
}"""


def open_again(viewer: Viewer) -> None:
    """The same graph as a new one, so that its viewer has loaded nothing yet."""
    viewer.tab.evaluate("async () => { await window.app.loadGraphData(window.app.graph.serialize(), false, false) }")


@in_one_front_end
def test_a_file_is_asked_for_once_whatever_finishes_meanwhile(viewer: Viewer) -> None:
    with Requests(viewer) as requests:
        open_again(viewer)
        requests.wait(1)
        viewer.tab.evaluate(FINISH_TEN_RUNS)
        requests.answer()
        viewer.show(NODE_TYPE)
        viewer.tab.evaluate(FINISH_TEN_RUNS)
        viewer.tab.locator(".sf-next").click()
        requests.wait(2)
        requests.answer()
        viewer.tab.wait_for_function("() => document.querySelector('.sf-count').textContent === '2 / 2'")
        viewer.tab.locator(".sf-previous").click()
        viewer.tab.wait_for_function("() => document.querySelector('.sf-count').textContent === '1 / 2'")
        assert len(requests.urls) == len(set(requests.urls)) == 2
    assert viewer.reading(40, 40) == pytest.approx(metres(40), rel=0.01)


@in_one_front_end
def test_a_file_that_is_gone_is_not_asked_for_again_but_a_busy_server_is(viewer: Viewer) -> None:
    with Requests(viewer) as requests:
        open_again(viewer)
        for count, status in enumerate((503, 404), start=1):
            requests.wait(count)
            requests.answer(status)
            viewer.tab.wait_for_selector(f".sf-empty .sf-message:text('{'503' if status == 503 else 'no longer'}')")
            viewer.tab.evaluate(FINISH_TEN_RUNS)
        viewer.tab.wait_for_timeout(300)
        assert len(requests.urls) == 2
    for expected in ("503", "404"):
        viewer.expected_errors.append(f"status of {expected}")


@in_one_front_end
def test_the_old_map_is_read_until_the_new_one_is_there(viewer: Viewer) -> None:
    with Requests(viewer) as requests:
        viewer.tab.locator(".sf-next").click()
        requests.wait(1)
        assert viewer.text("count") == "1 / 2"
        assert viewer.reading(33, 40) == pytest.approx(metres(33), rel=0.01)
        viewer.tab.evaluate(
            f"""([type, files]) => {{
                const node = ({FIND})(type);
                const output = Object.values(window.app.nodeOutputs).find((output) => output.spatialfusion_depth);
                output.spatialfusion_depth = files;
            }}""",
            [NODE_TYPE, smaller_files(viewer)],
        )
        viewer.tab.evaluate(FINISH_TEN_RUNS)
        requests.wait(2)
        assert viewer.reading(63, 63) == pytest.approx(metres(63), rel=0.01)
    viewer.tab.wait_for_function("() => document.querySelector('.sf-picture').width === 32")
    viewer.tab.mouse.move(0, 0)  # leaving the picture later would take the reading away
    viewer.tab.locator(".sf-stage").focus()
    viewer.tab.keyboard.press("ArrowRight")
    assert viewer.text("reading") == f"x 35, y 33: {float(f'{metres(35):.4g}'):g} m"


def smaller_files(viewer: Viewer) -> list[dict[str, Any]]:
    """A preview of the probe's plane: every second pixel of a row and a column, beginning with the second."""
    plane = np.broadcast_to(np.linspace(2, 6, SIZE, dtype="<f4"), (1, SIZE, SIZE))[:, 1::2, 1::2]
    name = f"smaller_{viewer.rendering}.npy"
    np.save(viewer.server.base / "temp" / name, plane)
    place = {"filename": name, "subfolder": "", "type": "temp", "width": SIZE // 2, "height": SIZE // 2}
    return [{**place, "step": 2, "full_width": SIZE, "full_height": SIZE, "fov_y_deg": 90.0, "batch": 8}]


@in_one_front_end
def test_only_what_the_user_asks_for_is_read_aloud(viewer: Viewer) -> None:
    live = "() => document.querySelector('.sf-reading').getAttribute('aria-live')"
    viewer.reading(33, 40)
    assert viewer.tab.evaluate(live) == "off"
    assert viewer.tab.locator(".sf-reading").evaluate("element => element.tagName") == "SPAN"
    viewer.tab.locator(".sf-stage").focus()
    viewer.tab.keyboard.press("ArrowRight")
    assert viewer.tab.evaluate(live) == "polite"


@in_one_front_end
def test_colours_keep_the_numbers_and_the_measured_points(viewer: Viewer) -> None:
    for place in ((10, 30), (50, 60)):
        viewer.tab.mouse.click(*viewer.place(*place))
    measured = viewer.text("measured")
    viewer.tab.evaluate("() => { window.numbers = document.querySelector('.sf-numbers').firstChild }")
    for colormap in ("turbo", "grey"):
        viewer.tab.locator(".sf-colormap").select_option(colormap)
    viewer.tab.locator(".sf-range").select_option("fit")
    assert viewer.text("measured") == measured
    assert viewer.tab.locator(".sf-overlay circle").count() == 2
    assert viewer.tab.evaluate("() => window.numbers === document.querySelector('.sf-numbers').firstChild")


def test_a_node_keeps_the_size_that_the_user_gave_it(viewer: Viewer) -> None:
    """Narrower than a new viewer, and higher than it needs: after another run, and after opening the workflow again."""
    graph = inspect_graph(batch=1)
    graph["2"] = node("SpatialFusionSaveDepth", geometry=["1", 0], filename_prefix="viewer/size", format="npz")
    viewer.open(graph, "SpatialFusionSaveDepth")
    size = f"type => [...({FIND})(type).size]"
    viewer.tab.evaluate(f"type => {{ ({FIND})(type).setSize([290, 800]); }}", "SpatialFusionSaveDepth")
    given = viewer.tab.evaluate(size, "SpatialFusionSaveDepth")
    assert given[0] < 320
    viewer.server.free_memory()
    viewer.page.run()
    assert viewer.tab.evaluate(size, "SpatialFusionSaveDepth") == given
    open_again(viewer)
    viewer.tab.wait_for_selector(".sf-numbers dd")
    assert viewer.tab.evaluate(size, "SpatialFusionSaveDepth") == given


def test_it_survives_undo_and_collapse(viewer: Viewer) -> None:
    # What an undo does: the graph as it was, into the same workflow, the results kept.
    viewer.tab.evaluate("async () => { await window.app.loadGraphData(window.app.graph.serialize(), false, false) }")
    viewer.show(NODE_TYPE)
    assert viewer.tab.locator(".sf-viewer").count() == 1
    assert viewer.reading(40, 40) == pytest.approx(metres(40), rel=0.01)
    collapse = f"type => {{ ({FIND})(type).collapse(); window.app.canvas.setDirty(true, true); }}"
    viewer.tab.evaluate(collapse, NODE_TYPE)
    viewer.tab.wait_for_function("() => !document.querySelector('.sf-viewer')?.checkVisibility()")
    viewer.tab.evaluate(collapse, NODE_TYPE)
    viewer.tab.wait_for_function("() => document.querySelector('.sf-viewer')?.checkVisibility()")
    viewer.show(NODE_TYPE)
    assert viewer.reading(40, 40) == pytest.approx(metres(40), rel=0.01)


def test_it_survives_a_switch_of_workflows(viewer: Viewer) -> None:
    viewer.tab.evaluate("""async () => {
        const { app } = window;
        app.extensionManager.workflow.activeWorkflow.changeTracker.store();
        window.before = [app.graph.serialize(), true, true, app.extensionManager.workflow.activeWorkflow];
        await app.loadApiJson({ 1: { class_type: "ProbeMemory", inputs: {}, _meta: { title: "other" } } }, "other");
    }""")
    viewer.tab.wait_for_function("() => !document.querySelector('.sf-viewer')")
    viewer.tab.evaluate("async () => { await window.app.loadGraphData(...window.before) }")
    viewer.show(NODE_TYPE)
    assert viewer.reading(40, 40) == pytest.approx(metres(40), rel=0.01)


def test_it_works_in_a_subgraph(viewer: Viewer) -> None:
    viewer.tab.evaluate(
        f"""async type => {{
        const node = ({FIND})(type);
        window.group = window.app.graph.convertToSubgraph(new Set([node])).node;
        window.group.pos = [300, 120];
    }}""",
        NODE_TYPE,
    )
    viewer.server.free_memory()
    viewer.page.queue()
    viewer.tab.wait_for_function("() => Object.keys(window.app.nodeOutputs).some(key => key.includes(':'))")
    viewer.tab.evaluate("() => window.app.canvas.openSubgraph(window.group.subgraph, window.group)")
    viewer.tab.wait_for_function("() => window.app.canvas.graph !== window.app.rootGraph")
    viewer.tab.evaluate(
        """type => {
        const node = window.app.canvas.graph.nodes.find(node => node.type === type);
        node.pos = [300, 120];
        window.app.canvas.ds.scale = 1.25;
        window.app.canvas.ds.offset = [0, 0];
        window.app.canvas.setDirty(true, true);
    }""",
        NODE_TYPE,
    )
    viewer.settle()
    assert viewer.reading(40, 40) == pytest.approx(metres(40), rel=0.01)
    viewer.tab.evaluate("() => window.app.canvas.setGraph(window.app.rootGraph)")


def test_removed_nodes_free_their_viewers(viewer: Viewer) -> None:
    viewer.tab.evaluate(
        f"""type => {{
        const {{ graph }} = window.app;
        const nodes = Array.from({{ length: 20 }}, () => LiteGraph.createNode(type));
        for (const node of nodes) graph.add(node);
        window.viewers = nodes.map(node => new WeakRef(node.widgets[0].element));
        for (const node of [...nodes, ({FIND})(type)]) graph.remove(node);
    }}""",
        NODE_TYPE,
    )
    viewer.tab.wait_for_timeout(500)
    session = viewer.tab.context.new_cdp_session(viewer.tab)
    session.send("HeapProfiler.collectGarbage")
    assert viewer.tab.locator(".sf-viewer").count() == 0
    assert viewer.tab.evaluate("() => window.viewers.filter(ref => ref.deref()).length") == 0


def test_predict_metric_depth_has_it_too(host_page: tuple[HostPage, ComfyServer]) -> None:
    page, server = host_page
    viewer = Viewer(page, server, "classic")
    set_setting(page, "Comfy.VueNodes.Enabled", False)
    graph = predict_graph()
    numbers = {name: str(index) for index, name in enumerate(graph, start=1)}
    for entry in graph.values():
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                entry["inputs"][name] = [numbers[value[0]], value[1]]
    outputs = viewer.open({numbers[name]: entry for name, entry in graph.items()}, "SpatialFusionPredictDepth")
    (file,) = outputs["spatialfusion_depth"]
    depth = np.load(io.BytesIO(server.view(file)))[0]
    finite = np.isfinite(depth)
    assert viewer.number("median") == pytest.approx(float(np.median(depth[finite])), rel=0.01)
    row, column = (int(index) for index in np.argwhere(finite)[-1])
    assert viewer.reading(column, row) == pytest.approx(float(depth[row, column]), rel=0.01)


def test_save_metric_depth_has_it_too(viewer: Viewer) -> None:
    graph = inspect_graph(batch=1)
    graph["2"] = node("SpatialFusionSaveDepth", geometry=["1", 0], filename_prefix="viewer/depth", format="exr 32-bit")
    output = viewer.open(graph, "SpatialFusionSaveDepth")
    assert output["images"][0]["type"] == output["metric_depth"][0]["type"] == "output"
    assert viewer.reading(33, 40) == pytest.approx(metres(33), rel=0.01)
    assert viewer.tab.locator("[data-node-id] img").count() == 0
