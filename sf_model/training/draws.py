"""The random draws of training: noise, times and dropouts. Each sample draws from its own seed.

So the result of a step does not depend on how its samples are split into micro-batches and processes. Numbers are
drawn on the CPU, so that every device gets the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import torch

from ..models.depth_flow import DEPTH_SEED
from ..models.layout_predictor import LAYOUT_SEED
from .settings import DepthSettings, DiffusionSettings, DocumentSettings

# Makes the scaffold's draws differ from the diffusion's and the depth's.
SCAFFOLD_SEED = 0x5CAF


@dataclass(frozen=True)
class DiffusionDraws:
    """Draws for the diffusion of the image."""

    # Shape of the latent.
    noise: torch.Tensor
    # (B,) in [0, 1], 1 being data.
    time: torch.Tensor
    # (B,) bool: whether the caption, or the depth, is dropped.
    no_caption: torch.Tensor
    no_depth: torch.Tensor


def draw_diffusion(seeds: torch.Tensor, latent: torch.Tensor, settings: DiffusionSettings) -> DiffusionDraws:
    """For latents (B, C, h, w) of samples with these seeds (B,)."""
    noise, normal, numbers = _draw(seeds.tolist(), latent.shape[1:], 3)
    both = numbers[:, 2] < settings.joint_dropout
    no_caption = (numbers[:, 0] < settings.caption_dropout) | both
    no_depth = (numbers[:, 1] < settings.depth_dropout) | both
    time = torch.sigmoid(settings.time_std * normal + settings.time_mean)
    device = latent.device
    return DiffusionDraws(noise.to(latent), time.to(device), no_caption.to(device), no_depth.to(device))


@dataclass(frozen=True)
class DepthDraws:
    """Draws for the depth flow."""

    # (B, 2, 8 rows, 8 columns).
    noise: torch.Tensor
    # (B,) in [0, 1], 1 being data.
    time: torch.Tensor
    # (B,) bool: whether the network gets the noisy depth.
    has_noise: torch.Tensor
    # (B,) bool: whether the prompt is dropped. Only where has_noise is True.
    no_prompt: torch.Tensor


def draw_depth(seeds: torch.Tensor, state: torch.Tensor, settings: DepthSettings) -> DepthDraws:
    """For states (B, 2, 8 rows, 8 columns), independent of `draw_diffusion`."""
    noise, normal, numbers = _draw([seed ^ DEPTH_SEED for seed in seeds.tolist()], state.shape[1:], 2)
    has_noise = numbers[:, 0] < settings.flow
    no_prompt = has_noise & (numbers[:, 1] < settings.prompt_dropout)
    time = torch.sigmoid(settings.time_std * normal + settings.time_mean)
    device = state.device
    return DepthDraws(noise.to(state), time.to(device), has_noise.to(device), no_prompt.to(device))


@dataclass(frozen=True)
class LayoutDraws:
    """Draws for the layout's flow."""

    # (B, 1 + N, D).
    noise: torch.Tensor
    # (B,) in [0, 1], 1 being data.
    time: torch.Tensor
    # (B,) bool: whether the prompt is dropped.
    no_prompt: torch.Tensor


def draw_layout(seeds: torch.Tensor, state: torch.Tensor, settings: DocumentSettings) -> LayoutDraws:
    """For states (B, 1 + N, D) of layouts."""
    noise, normal, numbers = _draw([seed ^ LAYOUT_SEED for seed in seeds.tolist()], state.shape[1:], 1)
    time = torch.sigmoid(settings.time_std * normal + settings.time_mean)
    device = state.device
    return LayoutDraws(noise.to(state), time.to(device), (numbers[:, 0] < settings.prompt_dropout).to(device))


def draw_share(seeds: torch.Tensor, share: float, salt: int) -> torch.Tensor:
    """(B,) bool, True for a `share` of the samples. Each `salt` gives an independent draw from the same seeds."""
    _, _, numbers = _draw([seed ^ salt for seed in seeds.tolist()], torch.Size(), 1)
    return numbers[:, 0] < share


def _draw(seeds: list[int], shape: torch.Size, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise (B, *shape), normal (B,) and uniform (B, count) numbers."""
    noise, normal, numbers = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        noise.append(torch.randn(shape, generator=generator))
        normal.append(torch.randn((), generator=generator))
        numbers.append(torch.rand(count, generator=generator))
    return torch.stack(noise), torch.stack(normal), torch.stack(numbers)


def seeded_generator(numbers: torch.Tensor) -> torch.Generator:
    """A CPU generator that is seeded by a few whole numbers."""
    digest = sha256(",".join(map(str, numbers.tolist())).encode("ascii")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
