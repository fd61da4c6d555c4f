"""The optimiser, its weight decay and its learning rate."""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn as nn

from .muon import MuonAdamW
from .settings import LoopSettings

BETAS = (0.9, 0.95)
# The matrices of transformers' repeated layers. Muon is not for what reads or writes another space.
MATRICES = re.compile(r"\.\d+\.(attn|self_attn|mlp|feed_forward)\.")
# The learning rate of the last step, as a share of the peak.
LAST_RATE = 0.02


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not frozen, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def build_optimiser(module: nn.Module, loop: LoopSettings) -> torch.optim.Optimizer:
    """AdamW for the trainable parameters. Matrices get weight decay; norms, biases and embeddings do not.

    Embeddings are the weights of nn.Embedding, and parameters that are not the weight of a layer: positions, indices
    of images. With `loop.matrix_rate` Muon trains the matrices that `MATRICES` names.
    """
    parameters = trainable_parameters(module)
    embedded = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    decayed = {
        name
        for name, value in parameters.items()
        if value.ndim > 1 and name.endswith("weight") and name not in embedded
    }
    by_muon = {
        name
        for name in decayed
        if loop.matrix_rate is not None and parameters[name].ndim == 2 and MATRICES.search(name) is not None
    }
    groups = [
        _group(parameters, decayed - by_muon, loop.weight_decay),
        _group(parameters, set(parameters) - decayed, 0.0),
    ]
    if by_muon:
        groups.append({**_group(parameters, by_muon, loop.weight_decay), "matrices": True})
    groups = [group for group in groups if group["params"]]
    kind = MuonAdamW if by_muon else torch.optim.AdamW
    return kind(groups, lr=loop.learning_rate, betas=BETAS)


def _group(parameters: dict[str, nn.Parameter], names: set[str], weight_decay: float) -> dict[str, Any]:
    return {"params": [value for name, value in parameters.items() if name in names], "weight_decay": weight_decay}


def set_rates(optimiser: torch.optim.Optimizer, loop: LoopSettings, step: int) -> None:
    """Set the rates of step `step` (0 is the first) in all groups."""
    share = share_of_peak(loop, step)
    for group in optimiser.param_groups:
        peak = loop.matrix_rate if group.get("matrices") else loop.learning_rate
        group["lr"] = peak * share


def learning_rate(loop: LoopSettings, step: int) -> float:
    """The rate of AdamW at step `step`."""
    return loop.learning_rate * share_of_peak(loop, step)


def share_of_peak(loop: LoopSettings, step: int) -> float:
    """The rate of step `step` (0 is the first): linear warm-up, constant, then linear to LAST_RATE of the peak."""
    warmup = min(1.0, (step + 1) / max(1, loop.warmup_steps))
    left = (loop.steps - 1 - step) / max(1, loop.decay_steps)
    decay = LAST_RATE + (1 - LAST_RATE) * min(1.0, max(0.0, left))
    return warmup * decay
