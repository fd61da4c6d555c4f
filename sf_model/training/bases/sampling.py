"""Images beside a real base in pure torch: what ComfyUI's KSampler draws with sampler euler and schedule simple."""

from __future__ import annotations

import torch

from ..flow import euler_sample
from .base import Base, Prompt


@torch.no_grad()
def sample_latent(
    base: Base,
    prompt: Prompt,
    negative: Prompt,
    features: torch.Tensor,
    noise: torch.Tensor,
    steps: int,
    guidance: float,
    reference: torch.Tensor | None = None,
    negative_reference: torch.Tensor | None = None,
) -> torch.Tensor:
    """The latent (B, C, h, w) float32 that grows from `noise` of its shape, at the base's own noise schedule.

    features: F (B, C, h, w) of the depth adapter, which both halves of the guidance see. guidance: KSampler's cfg.
    reference, negative_reference: latents of the source image, or None, beside each of the prompts.
    """

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        unconditional = base.velocity(x + features, time, negative, negative_reference)
        conditional = base.velocity(x + features, time, prompt, reference)
        return unconditional + guidance * (conditional - unconditional)

    return euler_sample(velocity, noise, steps, base.sampling_shift)
