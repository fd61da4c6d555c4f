"""The processes that accelerate or torchrun started, for what needs no Accelerator."""

from __future__ import annotations

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def process_state() -> PartialState:
    """As an Accelerator finds it: left to itself, PartialState does not look at ACCELERATE_USE_CPU, and on CPUs every
    process would take itself for the only one."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
