"""500 queued runs with random cancels in one server: `python -m tests.by_hand.many_runs --runs 500 --host 0.30.0`.

Every run has another prompt, seed, strength and size. A quarter of them is cancelled at a random moment. It fails where
the server's memory after the last run is more than 50 MB above that after the hundredth, where the temp folder is not
bounded, or where the next image differs from that of a fresh server.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.host import mini_checkpoints
from tests.host.conftest import PROBE_NODES
from tests.host.mini_checkpoints import write_checkpoints
from tests.host.mini_graphs import add_sampler, apply_graph, node
from tests.host.server import ComfyServer, Graph
from tools import hosts
from tools.host_process import link_folder

REPOSITORY = Path(__file__).resolve().parents[2]
WARM_UP_RUNS = 100
MAX_GROWTH_MIB = 50
# nodes/host/preview.py keeps 1 GiB; the host's own previews of these graphs are small.
MAX_TEMP_MIB = 1100
CANCELLED_SHARE = 0.25


def graph(draw: random.Random) -> Graph:
    side = draw.choice([64, 64, 96, 128])
    checkpoint = draw.choice([mini_checkpoints.TOKEN, mini_checkpoints.LATENT])
    made = apply_graph(checkpoint=checkpoint, strength=draw.uniform(0.5, 1.5))
    prompt = f"a red car {draw.randint(1, 20)} metres away, {draw.randint(0, 10**9)}"
    made["predict"]["inputs"] |= {"prompt": prompt, "width": side, "height": side}
    made["inspect"] = node("SpatialFusionInspectDepth", geometry=["predict", 0])
    made = add_sampler(made, width=side, height=side, steps=draw.randint(1, 4), seed=draw.randint(0, 2**32))
    made["sampler"]["inputs"]["depth_guidance"] = draw.choice([1.0, 2.0])
    return made


def start(folder: Path, version: str) -> ComfyServer:
    server = ComfyServer(REPOSITORY, version, folder)
    link_folder(server.base / "custom_nodes" / PROBE_NODES.name, PROBE_NODES)
    write_checkpoints(server.base / "models" / "spatialfusion")
    server.start()
    return server


def temp_mib(server: ComfyServer) -> float:
    return sum(path.stat().st_size for path in (server.base / "temp").rglob("*") if path.is_file()) / 2**20


def image_of(server: ComfyServer) -> str:
    return server.run(graph(random.Random("the image that is compared")))["sampler digest"]["digest"][0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=hosts.NEWEST.version, choices=list(hosts.RELEASES))
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = start(Path(folder) / "used", options.host)
        try:
            problems = run(server, options)
            used = image_of(server)
        finally:
            server.stop()
        fresh = start(Path(folder) / "fresh", options.host)
        try:
            if image_of(fresh) != used:
                problems.append("the next image differs from that of a fresh server")
        finally:
            fresh.stop()
    print("\n".join(problems) or "no problems")
    return 1 if problems else 0


def run(server: ComfyServer, options: argparse.Namespace) -> list[str]:
    """Run and cancel. Returns what is wrong."""
    draw = random.Random(options.seed)
    ends: dict[str, int] = {}
    memory: dict[int, float] = {}
    for number in range(1, options.runs + 1):
        prompt_id = server.queue(graph(draw))
        if draw.random() < CANCELLED_SHARE:
            time.sleep(draw.uniform(0, 0.6))
            server.interrupt()
        entry = server.wait(prompt_id)
        messages = [name for name, _ in entry["status"]["messages"]]
        end = "cancelled" if "execution_interrupted" in messages else entry["status"]["status_str"]
        ends[end] = ends.get(end, 0) + 1
        if number % 50 == 0 or number == WARM_UP_RUNS:
            memory[number] = server.rss_bytes() / 2**20
            print(f"{number} runs {ends}: {memory[number]:.0f} MiB, temp {temp_mib(server):.0f} MiB", flush=True)
    memory[options.runs] = server.rss_bytes() / 2**20
    problems = [f"{ends['error']} runs failed"] if ends.get("error") else []
    growth = memory[options.runs] - memory.get(WARM_UP_RUNS, memory[options.runs])
    if growth > MAX_GROWTH_MIB:
        problems.append(f"memory grew by {growth:.0f} MiB after {WARM_UP_RUNS} runs")
    if temp_mib(server) > MAX_TEMP_MIB:
        problems.append(f"the temp folder has {temp_mib(server):.0f} MiB")
    return problems


if __name__ == "__main__":
    sys.exit(main())
