"""Cancelling in the middle of prediction and of sampling: the run stops, the next works and memory is back.

A probe node holds the work until the cancel has come, and the cancel comes at the node's first progress message, so
that nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import aiohttp
import pytest

from tests.host import mini_checkpoints
from tests.host.mini_graphs import APPLIED, add_sampler, apply_graph, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError

MIB = 2**20
STOP_WITHIN_S = 60.0
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


async def first_progress(socket: aiohttp.ClientWebSocketResponse, node_id: str) -> None:
    """Read messages until one tells of the node's progress."""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        if event["type"] == "progress" and event["data"]["node"] == node_id:
            return


async def cancel_at_first_progress(server: ComfyServer, graph: Graph, node_id: str) -> None:
    """Run a graph and interrupt it at the first progress message of the node. Raises what ended the run."""
    # The server tells every client of a prompt that names no client.
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as socket:
        run = asyncio.create_task(asyncio.to_thread(server.run, graph, STOP_WITHIN_S))
        await asyncio.wait_for(first_progress(socket, node_id), STOP_WITHIN_S)
        await asyncio.to_thread(server.interrupt)
        await run


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
        asyncio.run(cancel_at_first_progress(server, graph(), node_id))
    assert (caught.value.kind, caught.value.node_id) == ("interrupted", node_id)
    assert digest_of(server) == before
    assert not loaded_models(server) - models
    assert server.rss_bytes() - rss < ALLOWED_GROWTH_BYTES
