"""Instructions that a virtual machine announces and cannot carry out: a hypervisor may hide the sizes of AMX tiles."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

from .environment import say

PROBE = "import torch; torch.ones(256, 256).bfloat16() @ torch.ones(256, 256).bfloat16()"
# The newest instructions for bfloat16 before AMX, by the name that oneDNN's documentation gives them.
WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
# How a process ends at an instruction that the processor refuses: by a signal, on Windows with a status.
REFUSED = (-signal.SIGILL, 0xC000001D)


def instructions(probe: Sequence[str]) -> dict[str, str]:
    """What the environment of torch's processes has to say for bfloat16 to work here: nothing on most machines.

    probe: a command that multiplies bfloat16 matrices, as `[python, "-c", PROBE]`.
    """
    if subprocess.run(probe, capture_output=True).returncode not in REFUSED:
        return {}
    say("This machine cannot multiply bfloat16 matrices by the instructions that it announces; trying without AMX")
    return WITHOUT_AMX
