"""`dev.py demo`: a real ComfyUI runs the template with the pack, and the pictures and metres land in output/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import hosts
from .environment import Environment, say
from .errors import DevError
from .host_process import HostProcess, free_port, make_base_folder

TEMPLATE = Path("workflows", "api", "text_to_image_mini.json")
PROMPT_NODE = "SpatialFusionPredictDepth"
# run_graph.py's exit status for a connection that broke in the middle.
_CONNECTION_LOST = 3
_FIND_ACCELERATOR = """
import sys, torch
modern = getattr(torch, "accelerator", None)
sys.exit(0 if (modern.is_available() if modern else torch.cuda.is_available()) else 1)
"""


@dataclass(frozen=True)
class Target:
    """The ComfyUI to run, the Python that runs it, and the folder of packages that only it needs."""

    python: Path
    host: Path
    base: Path
    packages: Path | None = None


def demo(root: Path, prompt: str | None, port: int | None) -> int:
    """Make one image with its depth from `prompt` (None: the template's own). Returns the exit status."""
    started = time.monotonic()
    graph = load_graph(root / TEMPLATE, prompt)
    if port is not None:
        free_port(port)  # complain before the environment is made
    target = find_target(root)
    make_base_folder(target.base, root)
    log = root / ".host" / "logs" / "demo-server.log"
    arguments = [] if has_accelerator(target.python) else ["--cpu"]
    say(f"Starting ComfyUI from {target.host}")
    with HostProcess(
        target.python, target.host, target.base, log, port=port, packages=target.packages, arguments=arguments
    ) as host:
        host.wait_ready()
        say(f"ComfyUI answers at {host.url}")
        status = _run_graph(root, target.python, host.url, graph)
        if status == _CONNECTION_LOST:
            raise host.failure("ComfyUI broke off in the middle of the run")
    if status == 0:
        say(f"Done in {time.monotonic() - started:.0f} s; the server has been stopped")
    return status


def load_graph(template: Path, prompt: str | None) -> dict[str, dict]:
    """The API form of a template with `prompt` put in place of its own, if one is given."""
    if not template.exists():
        raise DevError(
            f"The template {template} is missing: the clone is not complete. Restore it with 'git checkout'."
        )
    graph = json.loads(template.read_text(encoding="utf-8"))
    nodes = [node for node in graph.values() if node["class_type"] == PROMPT_NODE]
    if not nodes:
        raise DevError(f"The template {template} has no node {PROMPT_NODE} that could take the prompt.")
    for node in nodes:
        if prompt is not None:
            node["inputs"]["prompt"] = prompt
    return graph


def external_python(host: Path) -> Path:
    """The Python of an existing ComfyUI: its virtual or embedded environment, else the current one."""
    for folder in (host, host.parent):
        for name in ("venv", ".venv", "python_embeded"):
            for place in ("bin/python", "Scripts/python.exe", "python.exe"):
                if (folder / name / place).exists():
                    return folder / name / place
    return Path(sys.executable)


def find_target(root: Path) -> Target:
    """The ComfyUI that COMFYUI_PATH names, else the newest host, made if need be."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        environment = Environment(root)
        hosts.prepare(environment, "demo", [hosts.NEWEST])
        version = hosts.NEWEST.version
        host = hosts.host_folder(root, version)
        return Target(environment.python, host, host.parent / "base", hosts.packages_folder(root, version))
    host = Path(named).expanduser().resolve()
    if not (host / "main.py").exists():
        raise DevError(f"COMFYUI_PATH names {host}, which has no main.py: it must be the folder of a ComfyUI.")
    return Target(external_python(host), host, root / ".host" / "external" / "base")


def has_accelerator(python: Path) -> bool:
    """Whether this Python's torch finds a GPU or the like."""
    return subprocess.run([str(python), "-c", _FIND_ACCELERATOR], capture_output=True).returncode == 0


def _run_graph(root: Path, python: Path, url: str, graph: dict[str, dict]) -> int:
    """Run run_graph.py, which needs aiohttp, with the host's own Python; returns its exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "graph.json")
        file.write_text(json.dumps(graph), encoding="utf-8")
        client = Path(__file__).with_name("run_graph.py")
        command = [str(python), str(client), "--url", url, "--graph", str(file), "--output", str(root / "output")]
        return subprocess.run(command, env=dict(os.environ, PYTHONUTF8="1")).returncode
