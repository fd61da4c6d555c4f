"""What the exporters of pictures share: the newest host with the pack and its front end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.host.browser import Browser, HostPage
from tests.host.server import ComfyServer
from tools import hosts
from tools.host_process import link_folder

ROOT = Path(__file__).resolve().parents[2]
PROBE_NODES = Path(__file__).parent / "probe_nodes"


@contextmanager
def newest_host(prepare: Callable[[ComfyServer], object] | None = None) -> Iterator[tuple[ComfyServer, HostPage]]:
    """A running server in a scratch folder, with the tests' nodes, and a page of it.

    `prepare` may put files there before the page opens.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(ROOT, hosts.NEWEST.version, Path(folder))
        link_folder(server.base / "custom_nodes" / PROBE_NODES.name, PROBE_NODES)
        server.start(timeout_s=600)
        try:
            if prepare is not None:
                prepare(server)
            with Browser() as browser, browser.open(server) as page:
                yield server, page
        finally:
            server.stop()
