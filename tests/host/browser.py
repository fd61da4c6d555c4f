"""The host's real front end in a real, headless Chromium."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.host.server import ComfyServer, Graph
from tools.chromium import require_chromium

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# The host's own complaints with a fresh user folder: files that are not there yet, an icon that the oldest lacks, stock
# templates that dev.py leaves out, and the default graph looking for its models on the web. Started without API nodes,
# the newest forbids its own 3D viewer to load textures.
_HOSTS_OWN = re.compile(
    r"status of 404 \(Not Found\) .*/(favicon\.ico|user\.css|api/userdata\S*|templates/\S*)$"
    r"|^ComfyApp graph accessed before initialization"
    r"|Content Security Policy"
    r"|Couldn't load texture blob:"
)


class Browser:
    """`with Browser() as browser, browser.open(server) as page:`."""

    def __enter__(self) -> Browser:
        self._playwright = sync_playwright().start()
        try:
            path = str(require_chromium(Path(sys.executable)))
            self._chromium = self._playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._chromium.close()
        self._playwright.stop()

    @contextmanager
    def open(self, server: ComfyServer) -> Iterator[HostPage]:
        """The server's front end in a fresh profile, once its default graph is loaded."""
        context = self._chromium.new_context(viewport={"width": 1600, "height": 1000})
        try:
            page = HostPage(context.new_page(), server)
            page.start()
            yield page
        finally:
            context.close()


class HostPage:
    """One tab with the front end. `tab` is playwright's own page, for what has no method here."""

    def __init__(self, tab: Page, server: ComfyServer) -> None:
        self.tab = tab
        self._server = server
        self._errors: list[str] = []
        tab.on("console", self._on_console)
        tab.on("pageerror", lambda error: self._errors.append(f"uncaught: {error}"))

    def start(self) -> None:
        self.tab.goto(self._server.url)
        # The default graph loads last; a graph loaded before it would be replaced by it.
        self.tab.wait_for_function("window.app?.graph?.nodes?.length > 0", timeout=60_000)

    def load_graph(self, graph: dict[str, Any]) -> None:
        """Open a graph in UI form (what the front end saves and templates are)."""
        self.tab.evaluate("async graph => { await window.app.loadGraphData(graph) }", graph)

    def graph_to_prompt(self) -> Graph:
        """The open graph in API form, as the front end itself converts it."""
        return self.tab.evaluate("async () => (await window.app.graphToPrompt()).output")

    def unknown_nodes(self) -> list[str]:
        """The types of the open graph's nodes that the front end does not know, and marks."""
        return self.tab.evaluate(
            """() => window.app.graph.nodes.map(node => node.type)
                .filter(type => !window.LiteGraph.registered_node_types[type])"""
        )

    def queue(self) -> str:
        """Press Run; returns the prompt id. AssertionError where the server refuses the graph."""
        with self.tab.expect_response(lambda response: response.url.endswith("/api/prompt")) as answer:
            self.tab.get_by_test_id("queue-button").click()
        response = answer.value
        assert response.ok, f"the server refused the graph: {response.text()}"
        return response.json()["prompt_id"]

    def run(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Press Run, wait for the end, and return what the front end shows: UI outputs by node id."""
        entry = self._server.wait(self.queue(), timeout_s)
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        # The server's history is ahead of the messages to the page.
        self.tab.wait_for_function(
            "ids => ids.every(id => window.app.nodeOutputs[id])", arg=list(entry["outputs"]), timeout=60_000
        )
        return self.outputs()

    def outputs(self) -> dict[str, Any]:
        """What the front end holds as results, by node id."""
        return self.tab.evaluate("() => window.app.nodeOutputs")

    def console_errors(self) -> list[str]:
        """Errors since the tab was opened, without the host's own on a fresh user folder."""
        return [error for error in self._errors if not _HOSTS_OWN.search(error)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._errors.append(f"{message.text} {message.location.get('url', '')}")
