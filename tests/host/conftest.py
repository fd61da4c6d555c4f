"""Fixtures with real servers and a real browser. One server a version serves the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.browser import Browser, HostPage
from tests.host.mini_checkpoints import write_checkpoints
from tests.host.server import ComfyServer
from tools import hosts
from tools.host_process import link_folder

PROBE_NODES = Path(__file__).parent / "probe_nodes"


@pytest.fixture(scope="session")
def start_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ComfyServer]]:
    """Gives the session's server of a version: started when first asked for, and again if a test made it die.

    Besides the pack it has the probe nodes, which let graphs look at tensors, and the checkpoints of the tests.
    """
    servers: dict[str, ComfyServer] = {}

    def start(version: str) -> ComfyServer:
        if version not in servers or not servers[version].alive:
            server = ComfyServer(repository, version, tmp_path_factory.mktemp(f"host-{version}"))
            link_folder(server.base / "custom_nodes" / PROBE_NODES.name, PROBE_NODES)
            write_checkpoints(server.base / "models" / "spatialfusion")
            server.start()
            servers[version] = server
        return servers[version]

    yield start
    for server in servers.values():
        server.stop()


@pytest.fixture(params=list(hosts.RELEASES))
def server(request: pytest.FixtureRequest, start_server: Callable[[str], ComfyServer]) -> ComfyServer:
    """A running server; a test that asks for it runs once in the oldest and once in the newest host."""
    return start_server(request.param)


@pytest.fixture
def newest_server(start_server: Callable[[str], ComfyServer]) -> ComfyServer:
    """The running server of the newest host."""
    return start_server(hosts.NEWEST.version)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, newest_server: ComfyServer) -> Iterator[HostPage]:
    """The newest host's front end, loaded and ready, in a tab of its own."""
    with browser.open(newest_server) as page:
        yield page
