"""The demo's client against a real server: what it saves, and what it says when the graph fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.host.server import ComfyServer, Graph

SOLID_COLOUR = {"class_type": "EmptyImage", "inputs": {"width": 24, "height": 16, "batch_size": 1, "color": 255}}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}, "_meta": {"title": "Keep"}}


def run_client(server: ComfyServer, repository: Path, folder: Path, graph: Graph) -> subprocess.CompletedProcess[str]:
    file = folder / "graph.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    client = repository / "tools" / "run_graph.py"
    command = [sys.executable, str(client), "--url", server.url, "--graph", str(file), "--output", str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_saves_and_numbers_what_the_nodes_made(server: ComfyServer, repository: Path, tmp_path: Path) -> None:
    for number, width in ((1, 24), (2, 40)):
        colour = {"class_type": "EmptyImage", "inputs": SOLID_COLOUR["inputs"] | {"width": width}}
        result = run_client(server, repository, tmp_path, {"1": colour, "2": SAVE})
        assert result.returncode == 0, result.stderr
        path = tmp_path / "out" / f"{number:04d}_depth.png"  # no decoder made it, so it is not called the image
        assert f"Saved {path}" in result.stdout
        assert Image.open(path).size == (width, 16)
        assert "  Keep: " in result.stdout


def test_failing_node_is_told_by_its_title(server: ComfyServer, repository: Path, tmp_path: Path) -> None:
    (server.base / "input" / "broken.latent").write_bytes(b"not a latent")
    graph = {
        "1": {"class_type": "LoadLatent", "inputs": {"latent": "broken.latent"}, "_meta": {"title": "Open it"}},
        "2": {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "x"}},
    }
    result = run_client(server, repository, tmp_path, graph)
    assert result.returncode == 1
    assert result.stderr.startswith("dev.py: Open it: ")
    assert "Traceback" not in result.stderr


def test_refused_graph_names_the_input(server: ComfyServer, repository: Path, tmp_path: Path) -> None:
    result = run_client(server, repository, tmp_path, {"2": SAVE, "1": SOLID_COLOUR | {"inputs": {"width": 24}}})
    assert result.returncode == 1
    assert "EmptyImage: Required input is missing (height)" in result.stderr


def test_unreachable_server_is_told_apart(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text("{}", encoding="utf-8")
    client = [sys.executable, str(repository / "tools" / "run_graph.py"), "--url", "http://127.0.0.1:9"]
    command = [*client, "--graph", str(tmp_path / "graph.json"), "--output", str(tmp_path)]
    assert subprocess.run(command, timeout=60).returncode == 3
