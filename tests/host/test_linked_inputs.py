"""Widgets whose values are linked: the host passes None for them to fingerprints, and any value to `execute`."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.host.mini_graphs import BUILT_IN, digest, node
from tests.host.server import ComfyServer, Graph, PromptError
from tests.host.test_depth_files import PLANE, load, npy, put
from tests.host.test_scaffold import PYRAMID, compose, mesh


def value(content: Any) -> dict[str, Any]:
    return node("ProbeValue", text=json.dumps(content))


def linked_depth(name: Any) -> Graph:
    graph = {"value": value(name), "linked": load("", fov_y_deg=40), "digest": digest(["linked", 0])}
    graph["linked"]["inputs"]["file"] = ["value", 0]
    return graph


def linked_mesh(name: Any) -> Graph:
    graph = {"value": value(name), "linked": mesh(model_file=["value", 0], z_m=10.0)}
    return graph | {"compose": compose(["linked", 0]), "digest": digest(["compose", 0])}


def linked_checkpoint(name: Any) -> Graph:
    loader = node("SpatialFusionLoader", clip=["base", 1], checkpoint=["value", 0])
    predict = node("SpatialFusionPredictDepth", spatialfusion=["linked", 0], prompt="a car", width=64, height=64)
    graph = {"value": value(name), "base": node("SpatialFusionMiniLoader"), "linked": loader, "predict": predict}
    return graph | {"digest": digest(["predict", 0])}


LINKED = {
    "depth": (linked_depth, "linked.npy", npy(PLANE), npy(PLANE + 1)),
    "mesh": (linked_mesh, "linked.obj", PYRAMID, PYRAMID.replace(b" 2\n", b" 4\n")),
}


def cached(server: ComfyServer, graph: Graph) -> tuple[list[str], str]:
    """The nodes that the host did not run again, and the digest."""
    entry = server.wait(server.queue(graph))
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    (nodes,) = [data["nodes"] for name, data in entry["status"]["messages"] if name == "execution_cached"]
    return nodes, entry["outputs"]["digest"]["digest"][0]


@pytest.mark.parametrize("kind", LINKED)
def test_a_linked_file_is_read_again_only_when_it_changed(server: ComfyServer, kind: str) -> None:
    graph, name, content, other = LINKED[kind]
    path = server.base / "input" / put(server, name, content)
    _, first = cached(server, graph(name))
    nodes, second = cached(server, graph(name))
    assert "linked" in nodes and second == first
    path.write_bytes(other)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))  # some file systems count whole seconds
    nodes, third = cached(server, graph(name))
    assert "linked" not in nodes and third != first


def test_a_linked_checkpoint_is_read_once(server: ComfyServer) -> None:
    cached(server, linked_checkpoint(BUILT_IN))
    nodes, _ = cached(server, linked_checkpoint(BUILT_IN))
    assert {"linked", "predict"} <= set(nodes)


@pytest.mark.parametrize(
    "graph, content, message",
    [
        (linked_depth, 7, "connect the name of a depth file.*type int is connected"),
        (linked_depth, None, "connect the name of a depth file"),
        (linked_depth, "../../secret.npy", "put the depth file.*no such file"),
        (linked_mesh, ["a.obj"], "connect the name of a mesh file.*type list is connected"),
        (linked_checkpoint, "nowhere.safetensors", "choose or connect the name of a file in models/spatialfusion"),
        (linked_checkpoint, "a\0b", "choose or connect the name of a file in models/spatialfusion"),
        (linked_checkpoint, {}, "choose or connect the name of a file in models/spatialfusion"),
    ],
)
def test_other_values_are_refused_with_a_remedy(server: ComfyServer, graph: Any, content: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        server.run(graph(content))
    assert (caught.value.kind, caught.value.node_id) == ("execution", "linked")
