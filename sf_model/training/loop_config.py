"""What the training loop is told; apart from the loop, so that a config file is read without its packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopConfig:
    """`steps` optimiser steps of the dataset's batch size; intervals in steps."""

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    ema_decay: float
    seed: int
    log_every: int
    save_every: int
    sheet_every: int
    workers: int
    mixed_precision: str
