"""The processes that accelerate or torchrun started, for code that needs no Accelerator."""

from __future__ import annotations

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def process_state() -> PartialState:
    """The state that an Accelerator has.

    PartialState alone ignores ACCELERATE_USE_CPU. On CPUs every process would then believe that it is the only one.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
