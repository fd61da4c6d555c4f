"""Turns off CPU instructions that a virtual machine announces but cannot execute.

A hypervisor may announce AMX and hide the sizes of its tiles. oneDNN multiplies torch's bfloat16 matrices with AMX. It
then ends the process with an illegal instruction. So a child process tries it first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROBE = "import torch; torch.ones(256, 256).bfloat16() @ torch.ones(256, 256).bfloat16()"
LIMIT = "ONEDNN_MAX_CPU_ISA"
# The newest instructions for bfloat16 before AMX, by the name that oneDNN's documentation gives them.
WITHOUT_AMX = {LIMIT: "AVX512_CORE_BF16"}
# Exit codes after an illegal instruction: by a signal, and on Windows.
REFUSED = (-signal.SIGILL, 0xC000001D)
CPU_INFO = Path("/proc/cpuinfo")


def limited_instructions(probe: Sequence[str]) -> dict[str, str]:
    """The environment variables that bfloat16 needs on this machine. Most machines need none.

    probe: a command that multiplies bfloat16 matrices, such as `[python, "-c", PROBE]`.
    """
    if LIMIT in os.environ or not _announces_amx():
        return {}
    if subprocess.run(probe, capture_output=True).returncode not in REFUSED:
        return {}
    notice = f"This machine announces AMX and refuses it: {LIMIT}={WITHOUT_AMX[LIMIT]} is set"
    print(notice, file=sys.stderr, flush=True)
    return WITHOUT_AMX


def avoid_refused_instructions() -> None:
    """Set the variables for this process and its children. Call it before the first matrix is multiplied."""
    os.environ.update(limited_instructions([sys.executable, "-c", PROBE]))


def _announces_amx() -> bool:
    """Whether the CPU announces AMX. Only then is the probe run, which takes seconds. Only Linux has the file."""
    return CPU_INFO.exists() and "amx_bf16" in CPU_INFO.read_text(encoding="utf-8")
