"""Layers and computing types that several networks share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F


class ResidualConvUnit(nn.Module):
    """Two convolutions with ReLU before each, beside the identity (arXiv 2103.13413)."""

    def __init__(self, channels: int, operations: Any, dtype: Any, device: Any) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(channels, channels, 3, padding=1, dtype=dtype, device=device)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def computing_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast off inside if a type is given: autocast would choose its own."""
    if dtype is None or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
