"""Times of a flow, from noise (0) to data (1): those of its integration, and how networks read them."""

from __future__ import annotations

import math

import torch

# Times are in [0, 1]; the sinusoids need numbers up to about 1000.
TIME_SCALE = 1000.0
MAX_PERIOD = 10000.0


def shifted_times(steps: int, shift: float) -> torch.Tensor:
    """(steps + 1,) times from 0 to 1. The host's flow sampling with `shift` has the same times, as sigma = 1 - t."""
    sigma = torch.linspace(1, 0, steps + 1)
    return 1 - shift * sigma / (1 + (shift - 1) * sigma)


def time_sinusoids(time: torch.Tensor, channels: int) -> torch.Tensor:
    """(B, channels) cosines and sines of times (B,) in [0, 1]."""
    half = channels // 2
    rates = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=time.device) / half)
    angles = TIME_SCALE * time.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)
