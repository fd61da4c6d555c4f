"""Instructions that a virtual machine announces and cannot carry out.

A hypervisor may announce AMX and hide the sizes of its tiles. oneDNN, which multiplies torch's bfloat16 matrices, then
ends the process with an illegal instruction, so it is tried in another process first.
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
# How a process ends at an instruction that the processor refuses: by a signal, on Windows with a status.
REFUSED = (-signal.SIGILL, 0xC000001D)
CPU_INFO = Path("/proc/cpuinfo")


def limited_instructions(probe: Sequence[str]) -> dict[str, str]:
    """What the environment of torch's processes has to say for bfloat16 to work here: nothing on most machines.

    probe: a command that multiplies bfloat16 matrices, as `[python, "-c", PROBE]`.
    """
    if LIMIT in os.environ or not _announces_amx():
        return {}
    if subprocess.run(probe, capture_output=True).returncode not in REFUSED:
        return {}
    notice = f"This machine announces AMX and refuses it: {LIMIT}={WITHOUT_AMX[LIMIT]} is set"
    print(notice, file=sys.stderr, flush=True)
    return WITHOUT_AMX


def avoid_refused_instructions() -> None:
    """For this process and its children; to be called before the first matrix is multiplied."""
    os.environ.update(limited_instructions([sys.executable, "-c", PROBE]))


def _announces_amx() -> bool:
    """Whether a trial, which takes seconds, is called for. Only Linux, which such machines run, has the file."""
    return CPU_INFO.exists() and "amx_bf16" in CPU_INFO.read_text(encoding="utf-8")
