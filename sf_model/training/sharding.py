"""Parameters that several processes share (FSDP2's DTensors): whole again to be saved, in shares after loading."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn as nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(parameters: Mapping[str, nn.Parameter]) -> bool:
    return any(isinstance(value, DTensor) for value in parameters.values())


def whole(tensors: Mapping[str, torch.Tensor], keep: bool) -> dict[str, torch.Tensor]:
    """Every tensor in full on the CPU, in the processes that `keep` them; nothing in the others.

    All processes must call this together: a shared tensor is gathered on every device, but only one at a time.
    """
    kept = {}
    for name, value in tensors.items():
        full = value.detach().full_tensor() if isinstance(value, DTensor) else value.detach()
        if keep:
            kept[name] = full.cpu()
    return kept


def shared_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """The share of `value` that this process holds of `parameter`; scalars such as step counts stay whole."""
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device)
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def flatten_shared_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """The optimiser's tensors as `<parameter>|<slot>`, still in shares."""
    return {
        f"{name}|{slot}": value
        for name, parameter in parameters.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def load_shared_optimizer(
    stored: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> None:
    """Put `<parameter>|<slot>` tensors into an optimiser whose parameters are shared."""
    for key, value in stored.items():
        name, _, slot = key.rpartition("|")
        optimizer.state[parameters[name]][slot] = shared_like(value, parameters[name])
