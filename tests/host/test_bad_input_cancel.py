"""Cancelling in the middle of prediction and of sampling: the run stops, the next works and memory is back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.host import mini_checkpoints
from tests.host.mini_graphs import add_sampler, apply_graph, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError

MIB = 2**20
STOP_WITHIN_S = 30.0
# The allocator's slack after a larger run; what models take is compared by name.
ALLOWED_GROWTH_BYTES = 150 * MIB


def small_graph() -> Graph:
    return add_sampler(apply_graph(checkpoint=mini_checkpoints.TOKEN), steps=2)


def long_prediction() -> Graph:
    """Some seconds a layer: attention over 9216 queries."""
    return predict_graph(width=768, height=768)


def long_sampling() -> Graph:
    return add_sampler(apply_graph(checkpoint=mini_checkpoints.TOKEN), steps=2000)


def cancel_in_the_middle(server: ComfyServer, graph: Graph, after_s: float) -> PromptError:
    """Run a graph and interrupt it `after_s` seconds later; the error that ended it."""
    timer = threading.Timer(after_s, server.interrupt)
    timer.start()
    try:
        with pytest.raises(PromptError) as caught:
            server.run(graph, timeout_s=after_s + STOP_WITHIN_S)
        return caught.value
    finally:
        timer.cancel()


def digest_of(server: ComfyServer) -> str:
    return server.run(small_graph())["sampler digest"]["digest"][0]


def loaded_models(server: ComfyServer) -> Counter[str]:
    return Counter(server.run({"memory": node("ProbeMemory")})["memory"]["loaded"][0])


@pytest.mark.parametrize("graph, node_id", [(long_prediction, "predict"), (long_sampling, "sampler")])
def test_cancel_stops_on_the_node_and_the_next_run_works(
    server: ComfyServer, graph: Callable[[], Graph], node_id: str
) -> None:
    before = digest_of(server)
    models = loaded_models(server)
    rss = server.rss_bytes()
    error = cancel_in_the_middle(server, graph(), after_s=1.5)
    assert (error.kind, error.node_id) == ("interrupted", node_id)
    assert digest_of(server) == before
    assert not loaded_models(server) - models
    assert server.rss_bytes() - rss < ALLOWED_GROWTH_BYTES
