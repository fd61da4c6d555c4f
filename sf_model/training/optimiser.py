"""The optimiser, its weight decay and its learning rate."""

from __future__ import annotations

import torch
import torch.nn as nn

from .settings import LoopSettings

BETAS = (0.9, 0.95)
# The learning rate of the last step, as a share of the peak.
LAST_RATE = 0.02


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not frozen, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def build_optimiser(module: nn.Module, loop: LoopSettings) -> torch.optim.AdamW:
    """AdamW for the trainable parameters. Matrices get weight decay; norms, biases and embeddings do not.

    Embeddings are the weights of nn.Embedding, and parameters that are not the weight of a layer: positions, indices
    of images.
    """
    parameters = trainable_parameters(module)
    embedded = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    decayed = {
        name
        for name, value in parameters.items()
        if value.ndim > 1 and name.endswith("weight") and name not in embedded
    }
    groups = [
        {"params": [value for name, value in parameters.items() if name in decayed], "weight_decay": loop.weight_decay},
        {"params": [value for name, value in parameters.items() if name not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=loop.learning_rate, betas=BETAS)


def learning_rate(loop: LoopSettings, step: int) -> float:
    """The rate of step `step` (0 is the first): linear warm-up, constant, then linear to LAST_RATE of the peak."""
    warmup = min(1.0, (step + 1) / max(1, loop.warmup_steps))
    left = (loop.steps - 1 - step) / max(1, loop.decay_steps)
    decay = LAST_RATE + (1 - LAST_RATE) * min(1.0, max(0.0, left))
    return loop.learning_rate * warmup * decay
