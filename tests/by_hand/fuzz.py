"""Runs thousands of random graphs with hostile values in a real server: `python -m tests.by_hand.fuzz --count 5000`.

It prints how they ended, every fault with its seed, and the server's memory. `--first SEED --count 1 --show` prints the
graph of one seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.host.conftest import PROBE_NODES
from tests.host.fuzzing import GraphMaker, run_seeds
from tests.host.mini_checkpoints import write_checkpoints
from tests.host.server import ComfyServer
from tools import hosts
from tools.host_process import link_folder

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = 250


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=hosts.NEWEST.version, choices=list(hosts.RELEASES))
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--show", action="store_true", help="print the graphs instead of running them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = ComfyServer(REPOSITORY, options.host, Path(folder))
        link_folder(server.base / "custom_nodes" / PROBE_NODES.name, PROBE_NODES)
        write_checkpoints(server.base / "models" / "spatialfusion")
        server.start()
        try:
            return run(server, options)
        finally:
            server.stop()


def run(server: ComfyServer, options: argparse.Namespace) -> int:
    """1 if there was a fault, else 0."""
    maker = GraphMaker(server, REPOSITORY)
    last, faults = options.first + options.count, 0
    for first in range(options.first, last, BLOCK):
        seeds = range(first, min(first + BLOCK, last))
        if options.show:
            for seed in seeds:
                print(seed, json.dumps(maker.make(seed), indent=1))
            continue
        answers = run_seeds(server, maker, seeds)
        faults += len(answers.faults)
        print(f"{seeds[0]} to {seeds[-1]}: {dict(answers.counts)}, {server.rss_bytes() / 2**20:.0f} MiB", flush=True)
        print(*answers.faults.values(), sep="\n", end="\n" if answers.faults else "", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
