"""Initial weights of layers that do not use torch's default.

With dynamic loading the host builds layers without weights and adds these later. Such layers are skipped.
"""

from __future__ import annotations

import torch.nn as nn


def start_from_zero(*layers: nn.Module) -> None:
    """Set weights and biases to zero, so that the layers add nothing before training."""
    for layer in layers:
        if layer.weight is not None:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def keep_variance(*layers: nn.Module) -> None:
    """Initialise the weights of layers before a ReLU.

    With torch's default each layer would lose two thirds of the variance or more, and training would be ten times
    slower. Biases keep torch's default: from zero, a few steps in half precision would differ in their signs.
    """
    for layer in layers:
        if layer.weight is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
