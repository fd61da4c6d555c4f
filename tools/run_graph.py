"""Second stage of the demo, run by the host's Python: queue a graph, show its progress, save its outputs.

Needs aiohttp, which every ComfyUI has, and imports nothing of this repository.
Exit status: 0 saved, 1 the graph failed, 3 the connection broke, 130 cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from pathlib import Path

import aiohttp

CONNECTION_LOST = 3
_BAR_WIDTH = 30


class GraphError(Exception):
    """The server's message about a failed node or a refused graph."""


class ProgressDisplay:
    """Prints a line for each node. On a terminal the running node's line has a progress bar."""

    def __init__(self, graph: dict[str, dict]) -> None:
        self._graph = graph
        self._started = 0.0
        self._line = ""

    def start(self, node_id: str) -> None:
        self.finish()
        self._line, self._started = node_title(self._graph, node_id), time.monotonic()
        if sys.stdout.isatty():
            print(f"  {self._line}", end="", flush=True)

    def step(self, value: float, maximum: float) -> None:
        if self._line and maximum and sys.stdout.isatty():
            filled = round(_BAR_WIDTH * value / maximum)
            bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
            print(f"\r  {self._line} [{bar}] {value:.0f}/{maximum:.0f}", end="", flush=True)

    def finish(self) -> None:
        if self._line:
            start = "\r" if sys.stdout.isatty() else ""
            elapsed = f"{time.monotonic() - self._started:.1f} s"
            print(f"{start}  {self._line}: {elapsed}".ljust(_BAR_WIDTH + 60 if start else 0), flush=True)
        self._line = ""


def node_title(graph: dict[str, dict], node_id: str) -> str:
    node = graph.get(node_id, {})
    return node.get("_meta", {}).get("title") or node.get("class_type") or f"node {node_id}"


def refusal(graph: dict[str, dict], answer: dict) -> GraphError:
    """The error for a graph that failed validation, with a line for each fault."""
    lines = [
        f"{node_title(graph, node_id)}: {error['message']} ({error['details']})"
        for node_id, node in (answer.get("node_errors") or {}).items()
        for error in node["errors"]
    ]
    return GraphError("\n".join(lines) or answer["error"]["message"])


async def run_graph(session: aiohttp.ClientSession, graph: dict[str, dict], display: ProgressDisplay) -> dict:
    """Queue `graph` and wait for its end. Returns the outputs by node id. Raises GraphError or ConnectionError."""
    client = uuid.uuid4().hex
    async with session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as socket:
        async with session.post("/prompt", json={"prompt": graph, "client_id": client}) as response:
            answer = await response.json()
            if response.status != 200:
                raise refusal(graph, answer)
        await follow(socket, graph, answer["prompt_id"], display)
    async with session.get(f"/history/{answer['prompt_id']}") as response:
        return (await response.json())[answer["prompt_id"]]["outputs"]


async def follow(
    socket: aiohttp.ClientWebSocketResponse, graph: dict[str, dict], prompt_id: str, display: ProgressDisplay
) -> None:
    """Show the server's messages about one prompt until it is done. Raises GraphError or ConnectionError."""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue  # binary frames are preview pictures
        event = json.loads(message.data)
        kind, data = event["type"], event["data"]
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "executing" and data["node"] is None:  # the history is written only now
            display.finish()
            return
        if kind == "executing":
            display.start(data["node"])
        elif kind == "progress":
            display.step(data["value"], data["max"])
        elif kind == "execution_error":
            title = node_title(graph, data["node_id"])
            raise GraphError(f"{title}: {data['exception_message'].strip()}")
        elif kind == "execution_interrupted":
            raise GraphError("The run was interrupted.")
    raise ConnectionError("the server closed the connection")


def output_name(graph: dict[str, dict], node_id: str, filename: str) -> str:
    """The file name of an output: image (from a decoder), depth (another picture) or depth_m (metres)."""
    suffix = Path(filename).suffix
    if suffix == ".npz":
        return "depth_m" + suffix
    source = graph[node_id]["inputs"].get("images")
    from_decoder = isinstance(source, list) and "Decode" in graph[source[0]]["class_type"]
    return ("image" if from_decoder else "depth") + suffix


def unused_number(folder: Path) -> int:
    """One more than the highest number that starts a file name in `folder`."""
    numbers = [int(path.name[:4]) for path in folder.glob("[0-9][0-9][0-9][0-9]_*")]
    return max(numbers, default=0) + 1


def files_to_save(graph: dict[str, dict], outputs: dict) -> list[tuple[str, dict[str, str]]]:
    """(name, file) of the nodes' outputs. A preview counts only if no node saved a file of its name."""
    found = [
        (output_name(graph, node_id, file["filename"]), file)
        for node_id, results in outputs.items()
        for result in results.values()
        if isinstance(result, list)
        for file in result
        if isinstance(file, dict) and "filename" in file
    ]
    kept = {name for name, file in found if file["type"] == "output"}
    return [(name, file) for name, file in found if file["type"] == "output" or name not in kept]


async def save_outputs(
    session: aiohttp.ClientSession, graph: dict[str, dict], outputs: dict, folder: Path
) -> list[Path]:
    """Download all files of a run to `folder`, with the next free number in their names. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    number = unused_number(folder)
    saved: list[Path] = []
    for name, file in files_to_save(graph, outputs):
        path = folder / f"{number:04d}_{name}"
        if path in saved:  # another file of this name
            path = path.with_stem(f"{path.stem}_{len(saved)}")
        query = {key: file[key] for key in ("filename", "subfolder", "type")}
        async with session.get("/view", params=query) as response:
            response.raise_for_status()
            path.write_bytes(await response.read())
        saved.append(path)
    return saved


async def run(url: str, graph: dict[str, dict], folder: Path) -> int:
    display = ProgressDisplay(graph)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        try:
            outputs = await run_graph(session, graph, display)
        except GraphError as error:
            display.finish()
            print(f"dev.py: {error}", file=sys.stderr)
            return 1
        saved = await save_outputs(session, graph, outputs, folder)
    for path in saved:
        print(f"Saved {path}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    graph = json.loads(options.graph.read_text(encoding="utf-8"))
    try:
        return asyncio.run(run(options.url, graph, options.output))
    except (aiohttp.ClientConnectionError, ConnectionError):
        return CONNECTION_LOST
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
