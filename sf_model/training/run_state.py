"""A training run on disk: safetensors and JSON only (no pickle), written so that a kill at any moment loses little.

<run>/config.json, log.jsonl, sheets/, and state-<step>/ with system.safetensors (all weights; beside a real base only
the trained ones), optimizer.safetensors, average.safetensors and state.json, renamed into place when complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn as nn

STATE_PREFIX = "state-"
PARTIAL = ".partial"


def latest_state(run_dir: Path) -> Path | None:
    """The newest complete state of a run."""
    return max(_states(run_dir), key=_step_of, default=None)


def _states(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.glob(f"{STATE_PREFIX}*") if path.suffix != PARTIAL]


def _step_of(state_dir: Path) -> int:
    return int(state_dir.name[len(STATE_PREFIX) :])


def save_state(
    run_dir: Path,
    step: int,
    system: nn.Module | Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer | Mapping[str, torch.Tensor],
    names: list[str],
    average: Mapping[str, torch.Tensor],
    keep: int = 1,
) -> Path:
    """Write the state after `step` optimiser steps. `names`: the optimiser's parameters in its own order.

    system, optimizer: modules, or their tensors already gathered from several processes.
    """
    final = run_dir / f"{STATE_PREFIX}{step:07d}"
    partial = final.with_suffix(PARTIAL)
    for unfinished in run_dir.glob(f"*{PARTIAL}"):
        shutil.rmtree(unfinished)
    partial.mkdir(parents=True)
    if isinstance(system, nn.Module):
        # The language model's output layer is tied to its embedding: safetensors stores it once.
        safetensors.torch.save_model(system, str(partial / "system.safetensors"))
    else:
        safetensors.torch.save_file(dict(system), partial / "system.safetensors")
    if isinstance(optimizer, torch.optim.Optimizer):
        optimizer = flatten_optimizer(optimizer, names)
    safetensors.torch.save_file(dict(optimizer), partial / "optimizer.safetensors")
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in average.items()}, partial / "average.safetensors"
    )
    (partial / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in sorted(_states(run_dir), key=_step_of)[:-keep]:
        shutil.rmtree(old)
    return final


def load_system(state_dir: Path, system: nn.Module) -> int:
    """Load the weights of a state, strictly; returns its step. States from before the depth flow leave it as it is."""
    missing, unexpected = safetensors.torch.load_model(system, state_dir / "system.safetensors", strict=False)
    differing = sorted([name for name in missing if "depth_flow." not in name] + list(unexpected))
    if differing:
        raise ValueError(f"{state_dir} holds another system than this run trains: {differing[:3]}")
    return saved_step(state_dir)


def saved_step(state_dir: Path) -> int:
    """How many optimiser steps led to a state."""
    return int(json.loads((state_dir / "state.json").read_text(encoding="utf-8"))["step"])


def load_optimizer(state_dir: Path, optimizer: torch.optim.Optimizer, names: list[str]) -> None:
    """Restore the moments that `save_state` wrote. ValueError where other parameters learned then."""
    stored = safetensors.torch.load_file(state_dir / "optimizer.safetensors")
    others = sorted({key.rpartition("|")[0] for key in stored} - set(names))
    if others:
        raise ValueError(
            f"{state_dir}: {len(others)} parameters learned when this run began that do not learn now, such as "
            f"{others[0]}: begin a new run, and name this one with --part"
        )
    entries: dict[int, dict[str, Any]] = {index: {} for index in range(len(names))}
    for key, value in stored.items():
        name, _, slot = key.rpartition("|")
        entries[names.index(name)][slot] = value
    state = optimizer.state_dict()
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})


def load_average(state_dir: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(state_dir / "average.safetensors")


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    """The optimiser's tensors as `<parameter>|<slot>`."""
    entries = optimizer.state_dict()["state"]
    return {
        f"{names[index]}|{slot}": value.contiguous()
        for index, entry in entries.items()
        for slot, value in entry.items()
    }
