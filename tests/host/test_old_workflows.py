"""Workflows that older versions saved: they open, mean what they meant, and run.

old_workflows/<version>/ holds that version's templates as they were, as the front end saved them (.json) and as it sent
them to the server (.api.json). Add a folder with every release; never change one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.browser import Browser, HostPage
from tests.host.server import ComfyServer, Graph
from tests.host.template_runs import load_json, provide_files, quick_changes
from tools import hosts

FOLDER = Path(__file__).parent / "old_workflows"
SAVED = sorted(path.relative_to(FOLDER).as_posix()[: -len(".api.json")] for path in FOLDER.glob("*/*.api.json"))


@pytest.fixture(scope="module")
def opened(browser: Browser, start_server: Callable[[str], ComfyServer]) -> Iterator[tuple[HostPage, ComfyServer]]:
    server = start_server(hosts.NEWEST.version)
    provide_files(server)
    with browser.open(server) as page:
        yield page, server


def is_as_before(now: Graph, before: Graph) -> bool:
    """The same nodes with the same inputs; a newer node may have further inputs, with defaults."""
    return now.keys() == before.keys() and all(
        now[node_id]["class_type"] == entry["class_type"] and entry["inputs"].items() <= now[node_id]["inputs"].items()
        for node_id, entry in before.items()
    )


@pytest.mark.parametrize("name", SAVED)
def test_a_workflow_of_an_older_version_opens_and_runs(opened: tuple[HostPage, ComfyServer], name: str) -> None:
    page, server = opened
    known = len(page.console_errors())
    page.load_graph(load_json(FOLDER / f"{name}.json"))
    assert page.unknown_nodes() == []
    before = load_json(FOLDER / f"{name}.api.json")
    now = page.graph_to_prompt()
    assert is_as_before(now, before), name
    assert page.console_errors()[known:] == []
    real_base = "UNETLoader" in {entry["class_type"] for entry in before.values()}
    for graph in (now, before):  # from the front end, and by a script that kept the API form
        for node_id, changes in quick_changes(graph, real_base).items():
            graph[node_id]["inputs"] |= changes
    server.run(before)
    server.run(now)
