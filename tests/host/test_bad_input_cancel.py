"""Cancelling in the middle of prediction and of sampling: the run stops, the next works and memory is back.

A probe node holds the work until the cancel has come, and the cancel comes at the node's first progress message, so
that nothing here depends on how fast the machine is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.host import mini_checkpoints
from tests.host.cancelling import cancel_at_first_progress
from tests.host.mini_graphs import APPLIED, add_sampler, apply_graph, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError

MIB = 2**20
# The allocator's slack after a larger run; what models take is compared by name.
ALLOWED_GROWTH_BYTES = 150 * MIB


def small_graph() -> Graph:
    return add_sampler(apply_graph(checkpoint=mini_checkpoints.TOKEN), steps=2)


def held_prediction() -> Graph:
    graph = predict_graph(width=512, height=512)
    graph["hold"] = node("ProbeHoldPrediction", spatialfusion=["loader", 0])
    graph["predict"]["inputs"]["spatialfusion"] = ["hold", 0]
    return graph


def held_sampling() -> Graph:
    graph = apply_graph(checkpoint=mini_checkpoints.TOKEN)
    graph["hold"] = node("ProbeHoldModel", model=APPLIED)
    return add_sampler(graph, model=["hold", 0], steps=8)


def digest_of(server: ComfyServer) -> str:
    return server.run(small_graph())["sampler digest"]["digest"][0]


def loaded_models(server: ComfyServer) -> Counter[str]:
    return Counter(server.run({"memory": node("ProbeMemory")})["memory"]["loaded"][0])


@pytest.mark.parametrize("graph, node_id", [(held_prediction, "predict"), (held_sampling, "sampler")])
def test_cancel_stops_on_the_node_and_the_next_run_works(
    server: ComfyServer, graph: Callable[[], Graph], node_id: str
) -> None:
    before = digest_of(server)
    models = loaded_models(server)
    rss = server.rss_bytes()
    with pytest.raises(PromptError) as caught:
        cancel_at_first_progress(server, graph(), node_id)
    assert (caught.value.kind, caught.value.node_id) == ("interrupted", node_id)
    assert digest_of(server) == before
    assert not loaded_models(server) - models
    assert server.rss_bytes() - rss < ALLOWED_GROWTH_BYTES
