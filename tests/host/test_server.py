"""The harness itself, on stock nodes: both hosts by HTTP, the newest in the browser."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.host.browser import HostPage
from tests.host.server import ComfyServer, Graph, PromptError

RED = 0xFF0000


def stock_graph(width: int) -> Graph:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": width, "height": 16, "batch_size": 1, "color": RED}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def assert_red(png: bytes, size: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(png))
    assert image.size == size
    assert image.getpixel((size[0] - 1, 0)) == (255, 0, 0)


def test_runs_a_stock_graph(server: ComfyServer) -> None:
    (file,) = server.run(stock_graph(32))["2"]["images"]
    assert_red(server.view(file), (32, 16))


def test_is_the_version_it_says(server: ComfyServer) -> None:
    assert f"ComfyUI version: {server.version}" in server.log_text()


def test_all_nodes_import(server: ComfyServer) -> None:
    assert "IMPORT FAILED" not in server.log_text()
    assert server.object_info("EmptyImage")["output"] == ["IMAGE"]
    assert server.object_info("NoSuchNode") is None


def test_refused_graph_names_the_node(server: ComfyServer) -> None:
    with pytest.raises(PromptError, match="smaller than min") as caught:
        server.run(stock_graph(0))
    assert (caught.value.kind, caught.value.node_id, caught.value.node_type) == ("validation", "1", "EmptyImage")


def test_failing_node_is_named_and_the_server_lives(server: ComfyServer) -> None:
    graph = stock_graph(32)
    graph["3"] = {"class_type": "LoadLatent", "inputs": {"latent": "broken.latent"}}
    graph["4"] = {"class_type": "SaveLatent", "inputs": {"samples": ["3", 0], "filename_prefix": "x"}}
    (server.base / "input" / "broken.latent").write_bytes(b"not a latent")
    with pytest.raises(PromptError) as caught:
        server.run(graph)
    assert (caught.value.kind, caught.value.node_id, caught.value.node_type) == ("execution", "3", "LoadLatent")
    assert server.run(stock_graph(48))["2"]["images"]


def test_memory_is_reported(server: ComfyServer) -> None:
    server.free_memory()
    assert 100e6 < server.rss_bytes() < 3e9


def test_browser_loads_and_runs_a_graph(page: HostPage, newest_server: ComfyServer) -> None:
    page.load_graph(
        {
            "last_node_id": 2,
            "last_link_id": 1,
            "nodes": [
                {
                    "id": 1,
                    "type": "EmptyImage",
                    "pos": [100, 100],
                    "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                    "widgets_values": [40, 16, 1, RED],
                },
                {
                    "id": 2,
                    "type": "PreviewImage",
                    "pos": [500, 100],
                    "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                },
            ],
            "links": [[1, 1, 0, 2, 0, "IMAGE"]],
            "version": 0.4,
        }
    )
    prompt = page.graph_to_prompt()
    assert {key: node["class_type"] for key, node in prompt.items()} == {"1": "EmptyImage", "2": "PreviewImage"}
    assert prompt["1"]["inputs"]["width"] == 40
    (file,) = page.run()["2"]["images"]
    assert_red(newest_server.view(file), (40, 16))
    assert page.console_errors() == []
