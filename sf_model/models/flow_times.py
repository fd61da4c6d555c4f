"""When a flow is integrated: times from noise (0) to data (1), as the host's flow sampling spends its sigmas."""

from __future__ import annotations

import torch


def shifted_times(steps: int, shift: float) -> torch.Tensor:
    """(steps + 1,) times from 0 to 1, spent as the host's flow sampling with `shift` spends its sigmas = 1 - t."""
    sigma = torch.linspace(1, 0, steps + 1)
    return 1 - shift * sigma / (1 + (shift - 1) * sigma)
