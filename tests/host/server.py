"""A real ComfyUI server for tests, with its HTTP API as methods. Standard library, and psutil for its memory."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tools import hosts
from tools.host_process import DIRECT, HostProcess, make_base_folder

Graph = dict[str, dict[str, Any]]


class PromptError(Exception):
    """A graph that the server refused, or a node that failed in it.

    kind: "validation" (nothing ran), "execution" or "interrupted". `message` is the text that the user sees on the
    node; for a refused graph with several complaints, those of the first node, one a line.
    """

    def __init__(self, kind: str, node_id: str | None, node_type: str | None, message: str) -> None:
        super().__init__(f"{kind} error on node {node_id} ({node_type}): {message}")
        self.kind = kind
        self.node_id = node_id
        self.node_type = node_type
        self.message = message


class ComfyServer:
    """One server process of `version` on a free port, with folders of its own under `folder`.

    The repository is linked into its custom_nodes unless `link_pack` is false. `python` and `host` replace the Python
    of the tests and the host's folder. The process keeps running between calls until `stop`.
    """

    def __init__(
        self,
        repository: Path,
        version: str,
        folder: Path,
        *,
        link_pack: bool = True,
        python: Path | None = None,
        host: Path | None = None,
    ) -> None:
        self.version = version
        self.base = folder / "base"
        make_base_folder(self.base, repository if link_pack else None)
        settings = self.base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        # Otherwise a first start opens the templates dialog over the graph.
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")
        host = host or hosts.host_folder(repository, version)
        if not host.exists():
            raise FileNotFoundError(f"no ComfyUI in {host}: 'python3 dev.py test' fetches one")
        packages = hosts.packages_folder(repository, version)
        self._process = HostProcess(
            python or Path(sys.executable),
            host,
            self.base,
            folder / "server.log",
            packages=packages,
            arguments=["--cpu", *_front_end()],
        )

    @property
    def url(self) -> str:
        return self._process.url

    @property
    def alive(self) -> bool:
        return self._process.alive

    def start(self, timeout_s: float = 180.0) -> None:
        self._process.start()
        try:
            self._process.wait_ready(timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.stop()

    def log_text(self) -> str:
        """All that the server has printed, without colours."""
        return self._process.log_text()

    def queue(self, graph: Graph) -> str:
        """Queue a graph in API form; returns the prompt id. PromptError where it fails validation."""
        try:
            return self._json("/prompt", {"prompt": graph})["prompt_id"]
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise _validation_error(json.load(error)) from None

    def wait(self, prompt_id: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """The history entry of a prompt that has ended, well or not. TimeoutError; DevError if the server died."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.alive:
                raise self._process.failure("The server died in the middle of a run")
            entry = self._json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} did not end within {timeout_s} s:\n{self.log_text()[-2000:]}")

    def run(self, graph: Graph, timeout_s: float = 120.0) -> dict[str, Any]:
        """Run a graph to its end; returns its UI outputs by node id. Raises PromptError."""
        entry = self.wait(self.queue(graph), timeout_s)
        if entry["status"]["status_str"] != "success":
            raise _execution_error(entry["status"]["messages"])
        return entry["outputs"]

    def interrupt(self) -> None:
        """Ask the server to cancel what is running."""
        self._post("/interrupt", {})

    def free_memory(self) -> None:
        """Ask the server to unload its models and empty its caches; it does so before its next run."""
        self._post("/free", {"unload_models": True, "free_memory": True})

    def object_info(self, node_type: str) -> dict[str, Any] | None:
        """The schema of a node type, or None where the server does not know it."""
        return self._json(f"/object_info/{urllib.parse.quote(node_type)}").get(node_type)

    def rss_bytes(self) -> int:
        """The resident memory of the server process."""
        return psutil.Process(self._process.pid).memory_info().rss

    def view(self, file: dict[str, str]) -> bytes:
        """The contents of a file that an output names: {"filename", "subfolder", "type"}."""
        query = urllib.parse.urlencode({key: file.get(key, "") for key in ("filename", "subfolder", "type")})
        with DIRECT.open(f"{self.url}/view?{query}", timeout=60) as response:
            return response.read()

    def _json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        with self._open(path, body) as response:
            return json.load(response)

    def _post(self, path: str, body: dict[str, Any]) -> None:
        with self._open(path, body):
            pass

    def _open(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        return DIRECT.open(request, timeout=60)


def _front_end() -> list[str]:
    """Another front end than the host's own, for browser tests by hand: FRONT_END_FOR_TESTS is its static folder."""
    folder = os.environ.get("FRONT_END_FOR_TESTS")
    return ["--front-end-root", folder] if folder else []


def _validation_error(answer: dict[str, Any]) -> PromptError:
    node_errors = answer.get("node_errors") or {}
    if not node_errors:
        error = answer["error"]
        extra = error.get("extra_info") or {}
        return PromptError("validation", extra.get("node_id"), extra.get("class_type"), error["message"])
    node_id, node = next(iter(node_errors.items()))
    lines = [f"{error['message']}: {error['details']}" for error in node["errors"]]
    return PromptError("validation", node_id, node["class_type"], "\n".join(lines))


def _execution_error(messages: list[tuple[str, dict[str, Any]]]) -> PromptError:
    for name, data in messages:
        if name == "execution_error":
            return PromptError("execution", data["node_id"], data["node_type"], data["exception_message"].strip())
        if name == "execution_interrupted":
            return PromptError("interrupted", data["node_id"], data["node_type"], "interrupted")
    return PromptError("execution", None, None, f"no error among {messages}")
