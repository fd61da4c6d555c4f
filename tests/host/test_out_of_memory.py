"""Too little memory: the host's own out-of-memory path is taken, and the run after it is as if nothing had been."""

from __future__ import annotations

import pytest

from tests.host.mini_graphs import add_sampler, apply_graph, node
from tests.host.server import ComfyServer, PromptError

# Where memory runs out, and the node on which the host then shows it.
PLACES = {"text encoder": "predict", "spatial transformer": "predict", "depth adapter": "sampler"}


def test_out_of_memory_takes_the_hosts_own_way(server: ComfyServer) -> None:
    graph = add_sampler(apply_graph(), steps=2)
    graph["memory"] = node("ProbeMemory")
    before = server.run(graph)["sampler digest"]
    for place, failing in PLACES.items():
        starved = {name: dict(entry, inputs=dict(entry["inputs"])) for name, entry in graph.items()}
        starved["starved"] = node("ProbeOutOfMemory", spatialfusion=["loader", 0], place=place)
        for name in ("predict", "apply"):
            starved[name]["inputs"]["spatialfusion"] = ["starved", 0]
        del starved["memory"]
        unloaded = server.log_text().count("Got an OOM, unloading all loaded models")
        with pytest.raises(
            PromptError, match="would exceed allowed memory(.|\n)*ran out of memory on your GPU"
        ) as caught:
            server.run(starved)
        assert (caught.value.kind, caught.value.node_id) == ("execution", failing)
        assert server.log_text().count("Got an OOM, unloading all loaded models") == unloaded + 1
        assert server.run({"memory": node("ProbeMemory")})["memory"]["loaded"] == [[]]
        assert server.run(graph)["sampler digest"] == before
