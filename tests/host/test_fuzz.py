"""Random graphs with hostile values: each succeeds, is refused, or ends in an error of the pack with a remedy.

`python -m tests.by_hand.fuzz` runs thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.fuzzing import GraphMaker, fault_of, run_seeds
from tests.host.server import ComfyServer
from tools import hosts


@pytest.mark.parametrize("version, count", [(hosts.NEWEST.version, 300), (hosts.OLDEST.version, 100)])
def test_random_graphs_have_clear_ends(
    start_server: Callable[[str], ComfyServer], repository: Path, version: str, count: int
) -> None:
    server = start_server(version)
    answers = run_seeds(server, GraphMaker(server, repository), range(count))
    assert list(answers.faults.values()) == []
    assert server.alive
    # They are neither all refused nor all harmless.
    assert all(answers.counts[end] > count / 20 for end in ("success", "refused", "ValueError")), answers.counts


def test_a_seed_gives_the_same_graph(newest_server: ComfyServer, repository: Path) -> None:
    first, second = (GraphMaker(newest_server, repository) for _ in range(2))
    graphs = [first.make(seed) for seed in range(20)]
    assert repr([second.make(seed) for seed in range(20)]) == repr(graphs)  # NaN is not equal to itself
    assert len({name for name, _ in graphs}) > 5


@pytest.mark.parametrize(
    "file, kind, message, fault",
    [
        ("/pack/nodes/depth/adjust.py", "ValueError", "connect a mask: this is none", None),
        ("C:\\pack\\sf_model\\checkpoint.py", "sf_model.checkpoint.CheckpointError", "/a.file: export it again", None),
        ("/pack/nodes/depth/adjust.py", "ValueError", "this is no mask", "without a remedy"),
        ("/pack/nodes/depth/adjust.py", "KeyError", "'mask': none", "KeyError"),
        ("/host/comfy/samplers.py", "ValueError", "samples: none", "in /host/comfy/samplers.py"),
    ],
)
def test_faults_are_told_from_clear_errors(file: str, kind: str, message: str, fault: str | None) -> None:
    error = {"node_type": "SpatialFusionAdjustDepth", "exception_type": kind, "exception_message": message}
    error["traceback"] = ['  File "/host/execution.py", line 1, in run\n', f'  File "{file}", line 2, in execute\n']
    found = fault_of({"status": {"messages": [("execution_start", {}), ("execution_error", error)]}})
    assert (found is None) == (fault is None) and (fault is None or fault in found)
