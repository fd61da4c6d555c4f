"""Layouts on Compose Depth Scaffold in real servers: connected, edited by hand, beside wired objects, and bad ones."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from tests.host.mini_graphs import node
from tests.host.server import ComfyServer, Graph, PromptError
from tests.host.test_scaffold import compose, outputs_of, solid

CAR = LayoutObject("red car", "car", (-0.5, 0.0, 6.0), 60.0, (1.8, 1.5, 4.2), 0.5)
CUP = LayoutObject("\u676f <b>cup</b>", "cup", (0.6, 0.2, 3.0), 0.0, (0.6, 0.5, 0.5))
SCENE = Layout(LayoutCamera(1.2, 8.0, 55.0), True, (CAR, CUP))
MANY = Layout(objects=tuple(replace(CUP, name=f"cup {k}") for k in range(40)))
EDITED = Layout(LayoutCamera(0.9, 2.0, 40.0), False, (CUP,))


def connected(text: str, objects: list[Any] | None = None, **options: Any) -> Graph:
    return {"plan": node("ProbeLayout", text=text), "compose": compose(objects, layout=["plan", 0], **options)}


def is_composed(arrays: dict[str, np.ndarray], layout: Layout) -> None:
    """Assert that a saved depth is that of a layout, which the unit tests check against other renderers."""
    expected = compose_layout(layout, 64, 64).depth
    np.testing.assert_array_equal(arrays["depth_m"], expected.depth[0].numpy())
    np.testing.assert_allclose(arrays["confidence"], expected.confidence[0].numpy())
    assert float(arrays["fov_y_deg"]) == pytest.approx(layout.camera.fov_y_deg)


def test_a_connected_layout_is_composed_with_its_camera_and_ground(server: ComfyServer) -> None:
    outputs, arrays = outputs_of(server, connected(SCENE.to_json()))
    is_composed(arrays, SCENE)
    assert outputs["compose"]["spatialfusion_layout"] == [{"layout": SCENE.to_dict()}]


def test_an_edited_layout_takes_the_place_of_the_connected_one(server: ComfyServer) -> None:
    outputs, arrays = outputs_of(server, connected(SCENE.to_json(), edited_layout=EDITED.to_json()))
    is_composed(arrays, EDITED)
    # The connected one is still told, so that the editor can offer it.
    assert outputs["compose"]["spatialfusion_layout"][0]["layout"] == SCENE.to_dict()
    alone, arrays = outputs_of(server, {"compose": compose(edited_layout=EDITED.to_json())})
    is_composed(arrays, EDITED)
    assert alone["compose"]["spatialfusion_layout"] == [{"layout": None}]


def test_without_a_layout_nothing_is_different(newest_server: ComfyServer) -> None:
    outputs, plain = outputs_of(newest_server, {"box": solid(), "compose": compose(["box", 0])})
    _, empty = outputs_of(newest_server, {"box": solid(), "compose": compose(["box", 0], edited_layout=" ")})
    assert "spatialfusion_layout" not in outputs["compose"]
    np.testing.assert_array_equal(plain["depth_m"], empty["depth_m"])


def test_wired_objects_come_after_those_of_the_layout(newest_server: ComfyServer) -> None:
    """A box of 1 m at 4 m, which covers the middle. Its mask is the last of three."""
    graph = {"box": solid(x_m=0.0)} | connected(SCENE.to_json(), ["box", 0])
    graph["masks"] = node("MaskToImage", mask=["compose", 2])
    graph["shown"] = node("PreviewImage", images=["masks", 0])
    outputs, arrays = outputs_of(newest_server, graph)
    masks = [np.asarray(Image.open(io.BytesIO(newest_server.view(file)))) for file in outputs["shown"]["images"]]
    assert [bool(mask[40, 32].any()) for mask in masks] == [False, False, True]
    assert arrays["depth_m"][40, 32] < 4.0
    assert arrays["confidence"].min() == pytest.approx(0.5)


def test_a_text_that_was_written_by_hand_is_read_with_notes(newest_server: ComfyServer) -> None:
    text = '{"objects": [{"name": "oak tree", "position_m": [0, 0, 9]}]}'
    outputs, arrays = outputs_of(newest_server, {"compose": compose(edited_layout=text)})
    assert np.isfinite(arrays["depth_m"]).any()
    assert "size of 'oak tree' taken as" in " ".join(outputs["compose"]["text"])


BAD_INPUT = {
    "no layout": ({"compose": compose(edited_layout="a cat")}, "open the scene editor and start again.*'a cat'"),
    "newer": (
        {"compose": compose(edited_layout=json.dumps({"version": 2, "objects": []}))},
        "open the scene editor.*update ComfyUI-SpatialFusion.*version 2",
    ),
    "other value": (connected("[1]"), "connect a layout of Plan Scene Layout, or a layout as text.*type list"),
    "other text": (connected("a cat"), "write a layout such as.*'a cat'"),
    "masks": (
        {"compose": compose(edited_layout=MANY.to_json(), width=4096, height=4096)},
        "set width and height smaller.*40 objects at 4096x4096",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_says_what_to_do(newest_server: ComfyServer, case: str) -> None:
    graph, pattern = BAD_INPUT[case]
    with pytest.raises(PromptError) as error:
        newest_server.run(graph | {"end": node("PreviewImage", images=["compose", 1])})
    assert error.value.node_id == "compose"
    assert re.search(pattern, error.value.message)
