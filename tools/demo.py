"""`dev.py demo`: runs a template of the pack in a real ComfyUI and saves picture and metres in output/."""

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
# Exit status of run_graph.py for a broken connection.
_CONNECTION_LOST = 3
_FIND_ACCELERATOR = """
import sys, torch
modern = getattr(torch, "accelerator", None)
sys.exit(0 if (modern.is_available() if modern else torch.cuda.is_available()) else 1)
"""


@dataclass(frozen=True)
class Target:
    """A ComfyUI to run."""

    # The Python that runs it.
    python: Path
    # The folder of main.py.
    host: Path
    # The folder for its models, input, output and packs.
    base: Path
    # Packages that only this ComfyUI needs.
    packages: Path | None = None


def demo(root: Path, prompt: str | None, port: int | None) -> int:
    """Make one image and its depth. prompt: None for the template's. port: None for a free one. Returns the status."""
    started = time.monotonic()
    graph = load_graph(root / TEMPLATE, prompt)
    if port is not None:
        free_port(port)  # fails early, before the environment is made
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
            raise host.failure("ComfyUI stopped during the run")
    if status == 0:
        say(f"Done in {time.monotonic() - started:.0f} s; the server has been stopped")
    return status


def load_graph(template: Path, prompt: str | None) -> dict[str, dict]:
    """A template in API form. prompt: replaces the template's. None: does not. DevError if the file is not usable."""
    if not template.exists():
        raise DevError(
            f"Restore {template} with 'git checkout': the template is missing, so the clone is not complete."
        )
    graph = json.loads(template.read_text(encoding="utf-8"))
    nodes = [node for node in graph.values() if node["class_type"] == PROMPT_NODE]
    if not nodes:
        raise DevError(f"Restore {template} with 'git checkout': it has no node {PROMPT_NODE} for the prompt.")
    for node in nodes:
        if prompt is not None:
            node["inputs"]["prompt"] = prompt
    return graph


def external_python(host: Path) -> Path:
    """The Python of an existing ComfyUI: of its virtual or embedded environment, else the current one."""
    for folder in (host, host.parent):
        for name in ("venv", ".venv", "python_embeded"):
            for place in ("bin/python", "Scripts/python.exe", "python.exe"):
                if (folder / name / place).exists():
                    return folder / name / place
    return Path(sys.executable)


def find_target(root: Path) -> Target:
    """The ComfyUI that COMFYUI_PATH names, else the newest host, which is installed if needed. DevError."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        environment = Environment(root)
        hosts.prepare(environment, "demo", [hosts.NEWEST])
        version = hosts.NEWEST.version
        host = hosts.host_folder(root, version)
        return Target(environment.python, host, host.parent / "base", hosts.packages_folder(root, version))
    host = Path(named).expanduser().resolve()
    if not (host / "main.py").exists():
        raise DevError(f"Set COMFYUI_PATH to the folder of a ComfyUI: {host} has no main.py.")
    return Target(external_python(host), host, root / ".host" / "external" / "base")


def has_accelerator(python: Path) -> bool:
    """Whether this Python's torch finds a GPU or another accelerator."""
    return subprocess.run([str(python), "-c", _FIND_ACCELERATOR], capture_output=True).returncode == 0


def _run_graph(root: Path, python: Path, url: str, graph: dict[str, dict]) -> int:
    """Run run_graph.py with the host's Python, which has aiohttp. Returns its exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "graph.json")
        file.write_text(json.dumps(graph), encoding="utf-8")
        client = Path(__file__).with_name("run_graph.py")
        command = [str(python), str(client), "--url", url, "--graph", str(file), "--output", str(root / "output")]
        return subprocess.run(command, env=dict(os.environ, PYTHONUTF8="1")).returncode
