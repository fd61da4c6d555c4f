"""`dev.py bench`: the time, memory and parameters that SpatialFusion adds to OmniGen2 and Qwen-Image in ComfyUI.

The models have their real architectures and random weights: no figure depends on the values. COMFYUI_PATH names another
ComfyUI, for example one whose torch uses the GPU. Without it the newest host runs with the packages of dev.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from .demo import find_target, has_accelerator
from .environment import say
from .errors import DevError
from .host_process import OFFLINE

# "tiny": for tests. "reduced": real widths, few layers. "full": needs a GPU with 80 GB and 128 GB of RAM.
SIZES = ("tiny", "reduced", "full")
BASES = ("omnigen2", "qwen_image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=SIZES, help="default: full on a GPU, reduced on a CPU")
    parser.add_argument("--base", choices=BASES, action="append", help="default: both")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each kind, taken in turns")
    parser.add_argument("--side", type=int, help="side of the image in pixels; default: of the size")
    parser.add_argument("--steps", type=int, help="sampling steps; default: of the size")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def bench(root: Path, options: argparse.Namespace) -> int:
    """Run the measurement with the host's Python. Returns the exit status."""
    if options.repeats < 1:
        raise DevError(f"Set --repeats to 1 or more: it is {options.repeats}.")
    target = find_target(root)
    accelerated = has_accelerator(target.python)
    size = options.size or ("full" if accelerated else "reduced")
    say(f"Measuring {size} sizes in ComfyUI from {target.host}")
    command = [str(target.python), str(Path(__file__).with_name("bench_run.py")), "--host", str(target.host)]
    command += ["--size", size, "--repeats", str(options.repeats)]
    for base in options.base or BASES:
        command += ["--base", base]
    for name in ("side", "steps", "json"):
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name}", str(value.absolute() if isinstance(value, Path) else value)]
    if not accelerated:
        command.append("--cpu")
    env = dict(os.environ, PYTHONUTF8="1", **OFFLINE)
    if target.packages is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(target.packages), env.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as scratch:
        return subprocess.run([*command, "--scratch", scratch], cwd=target.host, env=env).returncode
