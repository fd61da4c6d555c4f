"""The time that the pack adds to ComfyUI's start: python -m tools.bench_import [--version 0.30.0] [--repeats 9].

The host starts with this pack and with an empty one, in turns, each time in a new process. Prints the medians of the
loading time of each, their difference and ratio, and the slowest modules. Run `dev.py test` first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import hosts
from .host_process import OFFLINE, make_base_folder

ROOT = Path(__file__).resolve().parents[1]
PACK_PARTS = ("__init__.py", "pyproject.toml", "nodes", "sf_model", "web", "locales", "workflows", "subgraphs")
EMPTY = "NODE_CLASS_MAPPINGS = {}\n"
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")


def make_base(folder: Path, pack: str) -> Path:
    """Make a base folder with one pack: "spatialfusion" (a copy of this one) or "empty"."""
    make_base_folder(folder, None)
    target = folder / "custom_nodes" / pack
    target.mkdir()
    if pack == "empty":
        (target / "__init__.py").write_text(EMPTY, encoding="utf-8")
        return folder
    for name in PACK_PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, target / name)
    return folder


def start_once(version: str, base: Path, python: list[str] | None = None) -> tuple[dict[str, Any], str]:
    """Start the host once. python: the command, with options. Returns timed_start's measurements and stderr."""
    env = dict(os.environ, PYTHONUTF8="1", **OFFLINE)
    env["PYTHONPATH"] = str(hosts.packages_folder(ROOT, version))
    command = [*(python or [sys.executable]), str(Path(__file__).with_name("timed_start.py")), "--cpu"]
    command += ["--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    host = hosts.host_folder(ROOT, version)
    result = subprocess.run(command, cwd=host, env=env, capture_output=True, text=True, encoding="utf-8")
    if result.returncode:
        raise SystemExit(f"the host did not start:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def slowest_modules(import_times: str, pack_folder: str, count: int) -> list[tuple[float, str]]:
    """(own milliseconds, module) of the pack's slowest modules, from the output of `python -X importtime`."""
    found = [(int(own) / 1000, name) for own, _, _, name in _IMPORT_TIME.findall(import_times)]
    # The host names a pack's modules after its folder, with the dots replaced.
    ours = [(own, name.split(f"/{pack_folder}")[-1]) for own, name in found if f"/{pack_folder}" in name]
    return sorted(ours, reverse=True)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", choices=list(hosts.RELEASES), default=hosts.NEWEST.version)
    parser.add_argument("--repeats", type=int, default=9, help="counted starts of each kind")
    parser.add_argument("--slowest", type=int, default=10, help="how many modules to list")
    options = parser.parse_args()
    names = ("spatialfusion", "empty")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    totals: dict[str, list[float]] = {name: [] for name in names}
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        bases = {name: make_base(Path(scratch, name), name) for name in names}
        for repeat in range(-1, options.repeats):  # -1: the first start compiles to bytecode; it does not count
            for name in names if repeat % 2 else reversed(names):
                measured, _ = start_once(options.version, bases[name])
                pack = measured["packs"][name]
                if not pack["loaded"]:
                    raise SystemExit(f"the host could not load the pack {name!r}")
                if repeat < 0:
                    first[name] = pack["seconds"]
                else:
                    seconds[name].append(pack["seconds"])
                    totals[name].append(measured["total_s"])
        _, import_times = start_once(options.version, bases["spatialfusion"], [sys.executable, "-X", "importtime"])
    print(f"ComfyUI {options.version}, {options.repeats} starts of each, by turns")
    for name in names:
        low, middle, high = min(seconds[name]), statistics.median(seconds[name]), max(seconds[name])
        start = statistics.median(totals[name])
        print(f"{name:>14}: {middle:.4f} s (median; {low:.4f} to {high:.4f}) of a start of {start:.2f} s")
    ours, empty = (statistics.median(seconds[name]) for name in names)
    share = (ours - empty) / statistics.median(totals["empty"])
    print(f"    difference: {ours - empty:.4f} s, {100 * share:.2f}% of the start; ratio {ours / empty:.1f}")
    print(f"    very first start after an install: {first['spatialfusion']:.4f} s, empty {first['empty']:.4f} s")
    print("The pack's slowest modules, without what they import, in the last start:")
    for own_ms, name in slowest_modules(import_times, "spatialfusion", options.slowest):
        print(f"{own_ms:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
