"""Initial weights of layers that do not start from torch's own.

The host builds layers whose weights it brings later (dynamic loading); these have none yet and are left alone.
"""

from __future__ import annotations

import torch.nn as nn


def start_from_zero(*layers: nn.Module) -> None:
    """What these layers add is nothing at first."""
    for layer in layers:
        if layer.weight is not None:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def keep_variance(*layers: nn.Module) -> None:
    """Weights of layers before a ReLU. With torch's own each takes two thirds of the variance or more, and what is left
    learns ten times slower. Biases stay torch's own: from zero, a few steps of half precision differ by their signs."""
    for layer in layers:
        if layer.weight is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
