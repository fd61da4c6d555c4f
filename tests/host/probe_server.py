"""Servers that have the pack, the probe nodes and test checkpoints: one a version for the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.mini_checkpoints import write_checkpoints
from tests.host.server import ComfyServer
from tools import hosts

PROBE_NODES = Path(__file__).parent / "probe_nodes"


def prepare(server: ComfyServer) -> None:
    """Add the probe nodes and the test checkpoints to a server's folders, before it starts."""
    (server.base / "custom_nodes" / PROBE_NODES.name).symlink_to(PROBE_NODES, target_is_directory=True)
    write_checkpoints(server.base / "models" / "spatialfusion")


@pytest.fixture(scope="session")
def start_probe_server(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], ComfyServer]]:
    """Gives the session's server of a version, started when first asked for."""
    servers: dict[str, ComfyServer] = {}

    def start(version: str) -> ComfyServer:
        if version not in servers:
            servers[version] = ComfyServer(repository, version, tmp_path_factory.mktemp(f"probe-host-{version}"))
            prepare(servers[version])
            servers[version].start()
        return servers[version]

    yield start
    for server in servers.values():
        server.stop()


@pytest.fixture(params=list(hosts.RELEASES))
def probe_server(request: pytest.FixtureRequest, start_probe_server: Callable[[str], ComfyServer]) -> ComfyServer:
    """A running server with the probe nodes, once in the oldest and once in the newest host."""
    return start_probe_server(request.param)


@pytest.fixture
def newest_probe_server(start_probe_server: Callable[[str], ComfyServer]) -> ComfyServer:
    return start_probe_server(hosts.NEWEST.version)
