"""The scene editor of Compose Depth Scaffold in the real front ends of both hosts, classic and Vue."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from tests.host.browser import Browser, HostPage
from tests.host.editor_depth import Comparison, browser_depth, compare, random_layout, server_depth
from tests.host.scene_editor_page import ScenePage, scene_graph
from tests.host.server import ComfyServer
from tests.host.test_inspect_viewer import set_setting
from tools import hosts

HTML_NAME = '<img src=x onerror="window.wasRun = true"> \u6a39 \u0634\u062c\u0631\u0629'
CAR = LayoutObject("red car", "car", (-1.0, 0.0, 8.0), 90.0, (1.8, 1.5, 4.2))
TABLE = LayoutObject("table", "table", (1.5, 0.0, 4.0), 0.0, (1.6, 0.75, 0.9))
SCENE = Layout(LayoutCamera(1.6, 10.0, 50.0), True, (CAR, TABLE))


@pytest.fixture(scope="module", params=list(hosts.RELEASES))
def host_page(
    request: pytest.FixtureRequest, browser: Browser, start_server: Callable[[str], ComfyServer]
) -> Iterator[tuple[HostPage, ComfyServer]]:
    server = start_server(request.param)
    with browser.open(server) as page:
        yield page, server
        # The server keeps it, for the pages of other tests too.
        set_setting(page, "Comfy.VueNodes.Enabled", False)


@pytest.fixture
def scene(page: HostPage) -> Iterator[ScenePage]:
    """The newest host, classic, with SCENE in the open editor."""
    scene = ScenePage(page)
    scene.load(scene_graph(edited_layout=SCENE.to_json()))
    scene.open()
    yield scene
    assert page.console_errors() == []


@pytest.mark.parametrize("rendering", ["classic", "vue"])
def test_a_connected_layout_is_taken_over_dragged_and_composed(
    host_page: tuple[HostPage, ComfyServer], rendering: str
) -> None:
    """By hand: a drag by two metres in the plan moves by two metres; what runs is what was dragged."""
    page, server = host_page
    set_setting(page, "Comfy.VueNodes.Enabled", rendering == "vue")
    scene = ScenePage(page, rendering)
    # The newest host gives a node without a value the one of the last node with its id.
    scene.load(scene_graph(SCENE.to_json(), edited_layout=""))
    if rendering == "vue":
        page.tab.wait_for_selector("[data-node-id]")
        assert page.tab.locator("[data-node-id]").get_by_text("edited_layout").count() == 0
    server.free_memory()  # the host shows no results of nodes that it need not run again
    page.run()
    scene.open()
    assert scene.names() == ["red car", "table"]
    scene.press("n", "ArrowRight", "Delete")
    assert scene.text() == ""
    scene.locator(".sfe-action").click()
    assert scene.layout() == SCENE
    scene.settle()
    metre = scene.metre_px()
    scene.locator(".sfe-do-snap").click()
    scene.drag(scene.locator(".sfe-thing").nth(1), 2 * metre, -3 * metre)
    assert scene.layout().objects[1].position_m == pytest.approx((3.5, 0.0, 7.0), abs=0.02)
    scene.press("Shift+ArrowLeft")
    moved = scene.layout()
    assert moved.objects[1].position_m == pytest.approx((3.4, 0.0, 7.0), abs=0.02)
    scene.press("Control+z", "Control+z")
    page.tab.wait_for_timeout(100)
    assert scene.layout() == SCENE
    scene.press("Control+y", "Control+Shift+Z")
    assert scene.layout() == moved
    scene.close()
    outputs = page.run()
    saved = next(value for value in outputs.values() if "metric_depth" in value)["metric_depth"][0]
    depth = np.load(io.BytesIO(server.view(saved)))["depth_m"]
    np.testing.assert_array_equal(depth, compose_layout(moved, 96, 64).depth.depth[0].numpy())
    ours, _ = browser_depth(page.tab, moved, 96, 64)
    assert compare(ours, depth).largest_difference < 1e-3
    assert page.console_errors() == []


def test_the_browsers_depth_is_the_servers(page: HostPage) -> None:
    """Twelve of the 200 layouts of `python -m tests.host.compare_editor`."""
    for seed in range(12):
        layout = random_layout(seed)
        ours, theirs = browser_depth(page.tab, layout, 160, 120), server_depth(layout, 160, 120)
        found = compare(ours[0], theirs[0])
        assert found.largest_difference < 0.01
        assert found.edges_within_a_pixel
        # The objects are told apart, not only the depths.
        assert (ours[1] != theirs[1]).mean() < 0.001


def test_all_is_done_with_the_keyboard_alone(scene: ScenePage) -> None:
    """By hand: where the woman stands after each key. The newest object is the selected one."""
    scene.press("a")
    scene.tab.keyboard.type("woman")
    scene.press("Enter")
    woman = scene.layout().objects[2]
    assert (woman.name, woman.shape, woman.size_m) == ("woman", "standing person", (0.5, 1.63, 0.32))
    x, y, z = woman.position_m
    scene.press("ArrowRight", "ArrowRight", "Shift+ArrowUp", "Shift+PageUp", ",", "Shift+<", "Shift+>", "+")
    moved = scene.layout().objects[2]
    assert moved.position_m == pytest.approx((x + 0.02, y + 0.1, z + 0.1))
    assert moved.heading_deg == 1.0
    assert moved.size_m == pytest.approx((0.505, 1.6463, 0.3232))
    scene.press("End", "Control+d")
    assert scene.layout().objects[2].position_m[1] == 0.0
    assert [thing.name for thing in scene.layout().objects] == ["red car", "table", "woman", "woman 2"]
    scene.press("Delete", "n", "Delete")
    assert [thing.name for thing in scene.layout().objects] == ["table", "woman"]
    # Out of the view and into the list and the numbers, by Tab alone.
    scene.press("n")
    for _ in range(8):
        scene.press("Tab")
        if "sfe-list" in scene.tab.evaluate("document.activeElement.shadowRoot.activeElement.className"):
            break
    scene.press("Home", "F2")
    scene.tab.keyboard.type(" for two")
    scene.press("Tab", "Tab")
    scene.tab.keyboard.type("2.25")
    assert scene.layout().objects[0].name == "table for two"
    assert scene.layout().objects[0].position_m[0] == 2.25
    assert scene.locator(".sfe-spoken").get_attribute("role") == "status"
    scene.press("Escape")
    scene.tab.wait_for_function("() => !document.querySelector('.sfe-dialog')")


def test_handles_turn_and_size_and_the_opposite_side_stays(scene: ScenePage) -> None:
    """By hand: the table's right-hand side is image left, at x = 0.7; dragged by 1 m, its other side stays at 2.3."""
    scene.locator(".sfe-do-snap").click()
    scene.locator(".sfe-item").nth(1).click()
    scene.settle()
    metre = scene.metre_px()
    scene.drag(scene.locator("[data-handle='size 1 0']"), -metre, 0)
    table = scene.layout().objects[1]
    assert table.size_m == pytest.approx((2.6, 0.75, 0.9), abs=0.02)
    assert table.position_m == pytest.approx((1.0, 0.0, 4.0), abs=0.02)
    turn = scene.locator("[data-handle=turn]").bounding_box()
    middle = scene.locator(".sfe-thing").nth(1).locator(".sfe-bounds").bounding_box()
    from_turn = turn["y"] + turn["height"] / 2 - middle["y"] - middle["height"] / 2
    scene.drag(scene.locator("[data-handle=turn]"), 3 * metre, -from_turn)
    assert scene.layout().objects[1].heading_deg == pytest.approx(90.0, abs=1.0)
    scene.drag(scene.locator("[data-handle=height]"), 0, -20)
    higher = scene.layout().objects[1]
    assert higher.size_m[1] > 0.8
    assert higher.position_m == scene.layout().objects[1].position_m
    scene.drag(scene.locator("[data-handle=lift]"), 0, -20)
    assert scene.layout().objects[1].position_m[1] > 0.05
    assert scene.layout().objects[1].size_m == higher.size_m


def test_a_thing_that_is_dragged_in_the_view_stays_under_the_pointer_and_snaps(scene: ScenePage) -> None:
    """The car's foot is dragged along the ground: what is under the pointer afterwards is the car again. A cup that is
    dragged over the table stands on it."""
    overlay = scene.locator(".sfe-overlay")
    box = overlay.bounding_box()
    depth, index = server_depth(SCENE, 96, 64)
    rows, columns = np.nonzero(index == 0)
    x = box["x"] + (np.median(columns) + 0.5) / 96 * box["width"]
    y = box["y"] + (np.median(rows) + 0.5) / 64 * box["height"]
    scene.tab.mouse.move(x, y)
    scene.tab.mouse.down()
    scene.tab.mouse.move(x - 10, y)
    scene.tab.mouse.move(x - 20, y + 12)
    scene.tab.mouse.up()
    car = scene.layout().objects[0]
    assert car.position_m[1] == 0.0
    assert car.position_m[0] < CAR.position_m[0]
    assert car.position_m[2] < CAR.position_m[2] - 0.3
    scene.press("a")
    scene.tab.keyboard.type("cup")
    scene.press("Enter")
    scene.settle()
    cup = scene.layout().objects[2]
    metre = scene.metre_px()
    scene.drag(
        scene.locator(".sfe-thing").nth(2).locator(".sfe-bounds"),
        (1.5 - cup.position_m[0]) * metre,
        (cup.position_m[2] - 4.0) * metre,
    )
    x, y, z = scene.layout().objects[2].position_m
    assert (x, y, z) == (1.5, 0.75, 4.0)


def test_keys_stay_in_the_editor_wherever_the_focus_is(scene: ScenePage) -> None:
    """Ctrl+Z and Delete would otherwise change the graph behind the editor."""
    scene.tab.evaluate("window.app.canvas.selectItems?.(window.app.graph.nodes)")
    scene.locator(".sfe-item").nth(0).click()
    scene.press("ArrowDown")  # in the list: the table
    for place in (".sfe-heading", ".sfe-foot", ".sfe-caption >> nth=0"):
        scene.locator(place).click(force=True)
        scene.press("Shift+ArrowUp")
    assert scene.layout().objects[1].position_m == pytest.approx((1.5, 0.0, 4.3))
    scene.tab.mouse.click(5, 500)  # beside the dialog
    scene.press("Delete", "Control+z")
    scene.tab.wait_for_timeout(100)  # the host would undo in the next frame
    assert scene.tab.evaluate("window.app.graph.nodes.length") == 2
    assert len(scene.layout().objects) == 2
    assert scene.locator(".sfe-plan").is_visible()


def test_names_are_text_and_what_the_server_reads(scene: ScenePage) -> None:
    scene.locator(".sfe-item").nth(0).click()
    scene.locator(".sfe-details input[type=text]").fill(HTML_NAME)
    assert scene.layout().objects[0].name == HTML_NAME
    assert scene.names()[0] == HTML_NAME
    scene.settle()
    assert scene.locator(".sfe-label").nth(0).text_content().startswith("<img src=x")
    assert scene.tab.evaluate("window.wasRun") is None
    assert scene.locator("img:not(.sfe-photo)").count() == 0


def test_the_camera_is_one_in_the_widgets_and_the_scene(scene: ScenePage) -> None:
    """By hand: 50 mm on film 24 mm high is 26.991 degrees."""
    lens = scene.locator(".sfe-camera-fields input[aria-label^=lens]")
    lens.fill("50")
    assert scene.layout().camera.fov_y_deg == pytest.approx(26.991)
    assert scene.widget("fov_y_deg") == pytest.approx(26.991)
    scene.set_widget("camera_height_m", 2.5)
    scene.tab.wait_for_function("() => true")
    assert scene.layout().camera.height_m == 2.5
    scene.locator(".sfe-tick").click()
    assert not scene.layout().ground
    assert scene.widget("ground") is False
    scene.close()
    # A text from elsewhere gives the widgets its camera.
    scene.set_widget("edited_layout", SCENE.to_json())
    assert [scene.widget(name) for name in ("camera_height_m", "fov_y_deg", "ground")] == [1.6, 50, True]


def test_a_focal_length_in_the_widgets_is_the_scenes(scene: ScenePage) -> None:
    """By hand: 36 mm of a picture of 96 x 64 pixels are 96 pixels: 36.870 degrees. 64 pixels are 53.130."""
    assert (scene.widget("width"), scene.widget("height")) == (96, 64)
    scene.set_widget("focal_length_mm", 36)
    assert scene.layout().camera.fov_y_deg == pytest.approx(36.870, abs=1e-3)
    scene.set_widget("focal_length_mm", 0)
    assert scene.layout().camera.fov_y_deg == 50
    scene.set_widget("focal_length_px", 64)
    assert scene.layout().camera.fov_y_deg == pytest.approx(53.130, abs=1e-3)
    # The editor's own change is the one that counts then.
    scene.locator(".sfe-camera-fields input[aria-label^=lens]").fill("50")
    assert [scene.widget(name) for name in ("focal_length_px", "fov_y_deg")] == [0, pytest.approx(26.991)]


def test_a_text_that_is_no_layout_is_kept_until_the_user_starts_anew(page: HostPage) -> None:
    scene = ScenePage(page)
    scene.load(scene_graph(edited_layout="a cat"))
    scene.open()
    assert scene.locator(".sfe-notice").inner_text().startswith("The saved text is no layout")
    scene.press("a", "Delete", "ArrowUp")
    assert scene.text() == "a cat"
    scene.locator(".sfe-action").click()
    assert scene.text() == ""
    scene.press("a")
    scene.tab.keyboard.type("\u6a39")
    scene.press("Enter")
    assert [thing.shape for thing in scene.layout().objects] == ["box"]
    assert page.console_errors() == []


def test_a_photograph_is_behind_the_view_and_saved_with_the_node(scene: ScenePage, tmp_path: Path) -> None:
    picture = tmp_path / "room.png"
    Image.new("RGB", (8, 8), (200, 30, 30)).save(picture)
    scene.locator("input[type=file]").set_input_files(picture)
    scene.locator(".sfe-photo:not([hidden])").wait_for()
    scene.tab.wait_for_function(
        "() => document.querySelector('.sfe-isolated').shadowRoot.querySelector('.sfe-photo').naturalWidth === 8"
    )
    assert scene.locator(".sfe-picture").evaluate("canvas => canvas.style.opacity") == "0.5"
    saved = scene.tab.evaluate("() => window.app.graph.serialize()")
    (node,) = (node for node in saved["nodes"] if node["type"] == "SpatialFusionComposeDepth")
    assert node["properties"]["scene_photo"].startswith("room")
    scene.locator(".sfe-photo-fields .sfe-do-remove").click()
    assert scene.locator(".sfe-photo:not([hidden])").count() == 0


def test_two_fingers_zoom_the_plan_and_one_moves_an_object(scene: ScenePage) -> None:
    """Fingers that come from 100 to 200 pixels apart double the scale."""
    before = scene.metre_px()
    scene.locator(".sfe-surface").evaluate(
        """surface => {
            const box = surface.getBoundingClientRect();
            const send = (type, pointerId, x) => surface.dispatchEvent(new PointerEvent(type, {
                pointerId, pointerType: "touch", bubbles: true, clientX: box.left + x, clientY: box.top + 60,
            }));
            send("pointerdown", 11, 100);
            send("pointerdown", 12, 200);
            send("pointermove", 12, 250);
            send("pointermove", 11, 50);
            send("pointerup", 11, 50);
            send("pointerup", 12, 250);
        }"""
    )
    scene.settle()
    assert scene.metre_px() == pytest.approx(2 * before, rel=0.02)
    assert json.loads(scene.text()) == SCENE.to_dict()


def test_the_comparison_sees_an_edge_that_is_two_pixels_off() -> None:
    """By hand: a wall at 2 m before one at 8 m, whose edge is one and two pixels farther; a wall that is 2% farther."""
    picture = np.full((4, 8), 8.0)
    picture[:, :3] = 2.0
    one, two = picture.copy(), picture.copy()
    one[:, 3], two[:, 3:5] = 2.0, 2.0
    assert compare(one, picture) == Comparison(0.0, 4, True)
    assert compare(two, picture) == Comparison(0.0, 8, False)
    assert not compare(1.02 * picture, np.full((4, 8), 8.0)).edges_within_a_pixel
    assert compare(1.005 * picture, picture).largest_difference == pytest.approx(0.005)
    sky = np.where(picture == 8.0, np.inf, picture)
    assert compare(sky, picture) == Comparison(0.0, 20, False)
