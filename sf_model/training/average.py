"""Exponential moving average of the trained parameters, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn as nn


class ParameterAverage:
    """Averages `parameters` by name. The decay grows with the step, so that early values are soon forgotten."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().float().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Mix in the parameters after optimiser step `step` (1 is the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        names = list(self.values)
        current = [parameters[name].detach().float() for name in names]
        torch._foreach_lerp_([self.values[name] for name in names], current, 1 - decay)

    @torch.no_grad()
    def copy_from(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Take these values as the averages."""
        for name, value in parameters.items():
            self.values[name].copy_(value)

    @contextmanager
    def applied(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """Swap the parameters with their averages inside the block. This needs no second copy of them."""
        self._swap(parameters)
        try:
            yield
        finally:
            self._swap(parameters)

    @torch.no_grad()
    def _swap(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, value in parameters.items():
            assert value.dtype == torch.float32, f"{name} must be float32: a swap would round it"
            trained = value.detach().clone()
            value.copy_(self.values[name])
            self.values[name].copy_(trained)
