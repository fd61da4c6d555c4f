"""The state of a training run on disk: safetensors and JSON only, written so that a kill at any moment loses little.

<run>/config.json, log.jsonl, sheets/, and state-<step>/ with trained.safetensors (the parameters that learn),
average.safetensors (their averages), optimiser.safetensors (`<parameter>|<slot>`) and state.json. A state is renamed
into place when it is complete. The last two are kept, in case the newest turns out to be bad.

With FSDP each process holds a part of the parameters. torch.distributed.checkpoint gathers and distributes them.
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
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from .average import ParameterAverage
from .optimiser import trainable_parameters

STATE_PREFIX = "state-"
PARTIAL = ".partial"
# Of the names in these files. Version 1, which says no version, had other files.
STATE_VERSION = 2
TRAINED, AVERAGE, OPTIMISER, STATE = "trained.safetensors", "average.safetensors", "optimiser.safetensors", "state.json"
KEPT_STATES = 2
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
Tensors = dict[str, torch.Tensor]


def latest_state(run_dir: Path) -> Path | None:
    """The newest complete state of a run."""
    return max(_states(run_dir), key=_step_of, default=None)


def _states(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.glob(f"{STATE_PREFIX}*") if path.suffix != PARTIAL]


def _step_of(state_dir: Path) -> int:
    return int(state_dir.name[len(STATE_PREFIX) :])


def saved_progress(state_dir: Path) -> dict[str, int]:
    """The `progress` given to `save_state`: "step", the optimiser steps so far, and other counts.

    ValueError for the state of another version of the trainer.
    """
    progress = json.loads((state_dir / STATE).read_text(encoding="utf-8"))
    version = progress.pop("version", 1)
    if version != STATE_VERSION:
        raise ValueError(
            f"train this stage again in another folder, or go on with the release that began it: {state_dir} is a "
            f"training's state of version {version}, and this release reads version {STATE_VERSION}"
        )
    return progress


def load_average(state_dir: Path) -> Tensors:
    """The averages of a state, by parameter name."""
    return safetensors.torch.load_file(state_dir / AVERAGE)


class RunState:
    """Reads and writes a module, its optimiser and its averages as whole tensors, sharded or not.

    All processes must call its methods together.
    """

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer, average: ParameterAverage) -> None:
        self.module, self.optimiser, self.average = module, optimiser, average

    def whole(self) -> dict[str, Tensors]:
        """The tensors of each file of a state in the main process; empty dicts in the others."""
        trained = _contiguous(get_model_state_dict(self.module, options=WHOLE), self._learns())
        with self.average.applied(trainable_parameters(self.module)):
            average = _contiguous(get_model_state_dict(self.module, options=WHOLE), self._learns())
            # On the CPU these share memory with the parameters, which get their trained values back.
            average = {name: value.clone() for name, value in average.items()}
        return {TRAINED: trained, AVERAGE: average, OPTIMISER: self._moments()}

    def _moments(self) -> Tensors:
        if not self.optimiser.state:
            # Here torch would fill the state by a step with zero gradients, and count that step.
            return {}
        # Empty in every process but the main one.
        state = get_optimizer_state_dict(self.module, self.optimiser, options=WHOLE).get("state", {})
        return _contiguous({f"{name}|{slot}": value for name, slots in state.items() for slot, value in slots.items()})

    def _learns(self) -> set[str]:
        return {_bare(name) for name in trainable_parameters(self.module)}

    def load(self, state_dir: Path) -> None:
        """Load weights, averages and moments of a saved state. ValueError if it trained other parameters."""
        average, trained = load_average(state_dir), safetensors.torch.load_file(state_dir / TRAINED)
        differing = sorted(self._learns() ^ trained.keys())
        if differing:
            raise ValueError(
                "begin a new run in another folder (runs), and name this one in starts: other parameters were trained "
                f"in {state_dir} ({differing[:3]})"
            )
        set_model_state_dict(self.module, average, options=WHOLE)
        self.average.copy_from(trainable_parameters(self.module))
        set_model_state_dict(self.module, trained, options=WHOLE)
        self._load_moments(safetensors.torch.load_file(state_dir / OPTIMISER))

    def _load_moments(self, stored: Mapping[str, torch.Tensor]) -> None:
        if not stored:
            return
        state: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in stored.items():
            name, _, slot = key.rpartition("|")
            state.setdefault(name, {})[slot] = value
        # Weight decay and learning rate come from the settings, not from the file.
        names = {value: _bare(name) for name, value in trainable_parameters(self.module).items()}
        groups = [{**group, "params": [names[p] for p in group["params"]]} for group in self.optimiser.param_groups]
        loaded: dict[str, Any] = {"state": state, "param_groups": groups}
        set_optimizer_state_dict(self.module, self.optimiser, loaded, options=WHOLE)
        # torch fills the state of parameters that have had no gradient yet, such as those that only edits use.
        for name, value in trainable_parameters(self.module).items():
            if _bare(name) not in state:
                self.optimiser.state.pop(value, None)


def _bare(name: str) -> str:
    """A parameter's name without the prefixes of wrappers and torch.compile."""
    return name.removeprefix("module.").replace("_orig_mod.", "")


def _contiguous(tensors: Mapping[str, Any], wanted: set[str] | None = None) -> Tensors:
    return {
        name: value.contiguous()
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor) and (wanted is None or name in wanted)
    }


def save_state(run_dir: Path, files: Mapping[str, Tensors], progress: Mapping[str, int]) -> Path:
    """Write the files of `RunState.whole` after `progress["step"]` optimiser steps, and delete the oldest states."""
    final = run_dir / f"{STATE_PREFIX}{progress['step']:07d}"
    partial = final.with_suffix(PARTIAL)
    for unfinished in run_dir.glob(f"*{PARTIAL}"):
        shutil.rmtree(unfinished)
    partial.mkdir(parents=True)
    for name, tensors in files.items():
        safetensors.torch.save_file(tensors, partial / name)
    (partial / STATE).write_text(json.dumps({"version": STATE_VERSION, **progress}), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in sorted(_states(run_dir), key=_step_of)[:-KEPT_STATES]:
        shutil.rmtree(old)
    return final
