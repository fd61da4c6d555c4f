"""Flow matching in OmniGen2's convention: x_t = t x + (1 - t) noise, velocity x - noise, t = 1 is data."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..models.flow_times import shifted_times


def interpolate(data: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """x_t for data and noise (B, ...) at times (B,)."""
    time = time.view(-1, *[1] * (data.ndim - 1))
    return time * data + (1 - time) * noise


@torch.no_grad()
def euler_sample(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], noise: torch.Tensor, steps: int, shift: float
) -> torch.Tensor:
    """Integrate from noise (B, ...) to data; velocity(x, t (B,)) may include guidance."""
    times = shifted_times(steps, shift).to(noise.device)
    x = noise
    for now, after in zip(times[:-1], times[1:]):
        x = x + (after - now) * velocity(x, now.expand(x.shape[0]))
    return x
