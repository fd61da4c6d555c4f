"""The server's memory over many runs of the whole graph, each with another prompt, seed and strength."""

from __future__ import annotations

from tests.host import mini_checkpoints
from tests.host.mini_graphs import add_sampler, apply_graph
from tests.host.server import ComfyServer, Graph

WARM_UP_RUNS, RUNS = 10, 50
MAX_RSS_BYTES = 3e9
# One kept F, prompt cache or MODEL clone a run would pass this within the runs; the allocator's noise does not.
MAX_GROWTH = 0.03


def graph(run: int) -> Graph:
    graph = apply_graph(checkpoint=mini_checkpoints.TOKEN, strength=0.5 + run / 100)
    graph["predict"]["inputs"]["prompt"] = f"a red car {run} metres away"
    return add_sampler(graph, steps=2, seed=run, depth_guidance=2.0)


def test_memory_does_not_grow_over_50_runs(server: ComfyServer) -> None:
    for run in range(WARM_UP_RUNS):
        server.run(graph(run))
    before = server.rss_bytes()
    for run in range(WARM_UP_RUNS, WARM_UP_RUNS + RUNS):
        server.run(graph(run))
    after = server.rss_bytes()
    assert after < MAX_RSS_BYTES
    assert after - before < MAX_GROWTH * before, f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after {RUNS} runs"
