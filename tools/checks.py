"""`dev.py test`: ruff and pytest, with the oldest and the newest ComfyUI host and a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from . import hosts
from .chromium import ensure_chromium
from .environment import Environment, say
from .errors import DevError
from .host_process import OFFLINE

# A worker may run the servers of both hosts and a browser, which take about 4 GiB.
MAX_WORKERS = 4
# `--fast` leaves out servers, comparisons with other implementations, complete trainings and slow tests.
FAST = ["tests/unit", "-m", "not slow"]


def check(root: Path, pytest_arguments: list[str]) -> int:
    """Run ruff and pytest. Returns 0 only if all checks passed.

    `--fast` runs only the quick tests of tests/unit, without the oldest host and a browser. By default pytest has a
    process for each core, up to MAX_WORKERS, each with its own servers; `-n 0` runs all tests in one. The tests of a
    file stay together, in the order of the files: those with servers take longest and come first. Without a browser
    only the tests that need one fail.
    """
    is_fast = "--fast" in pytest_arguments
    if is_fast:
        pytest_arguments = [*FAST, *(argument for argument in pytest_arguments if argument != "--fast")]
    environment = Environment(root)
    hosts.prepare(environment, "test", [hosts.NEWEST] if is_fast else [hosts.NEWEST, hosts.OLDEST])
    if not is_fast:
        hosts.ensure_clean_environment(root)
    python = str(environment.python)
    env = dict(os.environ, PYTHONUTF8="1", **OFFLINE)
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in host_process.py
    failed = []
    for arguments in (["check", "."], ["format", "--check", "."]):
        name = "ruff " + arguments[0]
        say(f"== {name}")
        if subprocess.run([python, "-m", "ruff", *arguments], cwd=root, env=env).returncode:
            failed.append(name)
    if not is_fast:
        try:
            ensure_chromium(environment.python)
        except DevError as error:
            failed.append("finding a browser")
            print(f"dev.py: {error}", file=sys.stderr, flush=True)
    if failed:
        print(f"dev.py: {' and '.join(failed)} failed (see above), so this run will fail", file=sys.stderr, flush=True)
    say("== pytest")
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    spread = [f"--numprocesses={workers}", "--dist=loadfile", "--no-loadscope-reorder"]
    status = subprocess.run([python, "-m", "pytest", *spread, *pytest_arguments], cwd=root, env=env).returncode
    return status or (1 if failed else 0)
