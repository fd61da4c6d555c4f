"""Times of a flow's integration, from noise (0) to data (1)."""

from __future__ import annotations

import torch


def shifted_times(steps: int, shift: float) -> torch.Tensor:
    """(steps + 1,) times from 0 to 1. The host's flow sampling with `shift` has the same times, as sigma = 1 - t."""
    sigma = torch.linspace(1, 0, steps + 1)
    return 1 - shift * sigma / (1 + (shift - 1) * sigma)
