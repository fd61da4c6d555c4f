"""Prompt keys/values -> a layout: a second expert beside the MLLM, with one token for the camera and one an object.

Many layouts fit a prompt, so it is a flow: from a seed's noise to one definite layout. It runs before the depth, which
is then predicted given the layout. Its tokens are few, so that its many passes cost little.

The network is preconditioned as in arXiv 2206.00364, for x_t = t x + (1 - t) noise with data of unit variance: what it
computes has unit variance at every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..config import LayoutConfig, MLLMConfig
from .expert_inputs import ExpertInputs
from .flow_times import time_sinusoids
from .initialisation import start_from_zero
from .layout import Layout, layout_of, state_channels
from .rotary import rotary_tables
from .spatial_transformer import SpatialTransformerLayer, attention_mask, uniform_layer_map

TIME_CHANNELS = 128
# Users give layout, depth and image the same seed. This makes their noise differ.
LAYOUT_SEED = 0x1A70
DEFAULT_STEPS = 16
DEFAULT_GUIDANCE = 1.5


@dataclass(frozen=True)
class LayoutSampling:
    """How a layout is sampled."""

    # (B, 1 + N, D), from `layout_noise`.
    noise: torch.Tensor
    # Euler steps; the last prediction is the result.
    steps: int = DEFAULT_STEPS
    # Above 1, every step also predicts without the prompt, and moves away from that prediction.
    guidance: float = DEFAULT_GUIDANCE


class LayoutPredictor(nn.Module):
    """Layers of the spatial transformer over 1 + N tokens. The names of its children are prefixes in the checkpoint."""

    def __init__(
        self,
        config: LayoutConfig,
        mllm: MLLMConfig,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        width, channels = config.hidden_size, state_channels(len(config.categories), len(config.colors))
        self.config, self.mllm = config, mllm
        self.layer_map = uniform_layer_map(config.num_layers, mllm.num_layers)
        self.slots = operations.Embedding(1 + config.objects, width, **factory)
        self.source = operations.Embedding(1, width, **factory)
        self.source_in = operations.Linear(channels, width, **factory)
        self.state_in = operations.Linear(channels, width, **factory)
        self.time_in = operations.Linear(TIME_CHANNELS, width, **factory)
        self.time_out = operations.Linear(width, width, **factory)
        self.layers = nn.ModuleList(
            SpatialTransformerLayer(config, mllm, operations, dtype, device) for _ in range(config.num_layers)
        )
        self.norm_out = operations.RMSNorm(width, eps=config.rms_norm_eps, **factory)
        self.state_out = operations.Linear(width, channels, **factory)
        start_from_zero(self.state_out)

    def noise_shape(self, batch: int) -> tuple[int, int, int]:
        """Shape of the flow's state."""
        channels = state_channels(len(self.config.categories), len(self.config.colors))
        return batch, 1 + self.config.objects, channels

    def forward(
        self, inputs: ExpertInputs, noisy: torch.Tensor, time: torch.Tensor, source: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The clean state (B, 1 + N, D) of a noisy one at times (B,) in [0, 1], 1 being data.

        source: the state of the layout before an edit.
        """
        dtype, count = inputs.computing_dtype, noisy.shape[1]
        keep, share, scale = (value[:, None, None] for value in preconditioning(time.float()))
        x = self.slots(torch.arange(count, device=noisy.device)).to(dtype)
        step = self.time_out(F.silu(self.time_in(time_sinusoids(time, TIME_CHANNELS).to(dtype))))
        x = x + self.state_in((scale * noisy).to(dtype)) + step[:, None]
        # One step apart, as text is. So every token is as far from its own register in the prompt as the others.
        if source is not None:
            before = self.source_in(source.to(dtype)) + self.source(
                torch.zeros(1, dtype=torch.long, device=x.device)
            ).to(dtype)
            x = torch.cat([x, before], dim=1)
        start = inputs.query_start.to(noisy.device).float()
        positions = (start[:, None] + torch.arange(x.shape[1], device=noisy.device))[..., None].expand(-1, -1, 3)
        rotary = rotary_tables(positions, self.mllm.head_dim, self.mllm.rope_theta)
        mask = None if inputs.prompt_mask is None else attention_mask(inputs.prompt_mask, x.shape[1])
        for layer, mllm_layer in zip(self.layers, self.layer_map):
            x = layer(x, inputs.keys_values[mllm_layer], rotary, mask)
        return keep * noisy + share * self.state_out(self.norm_out(x[:, :count])).float()

    @torch.no_grad()
    def sample(self, inputs: ExpertInputs, sampling: LayoutSampling, source: torch.Tensor | None = None) -> Layout:
        """One layout for each prompt. source: as in `forward`."""
        state, count = sampling.noise.float(), len(sampling.noise)
        doubled = inputs if sampling.guidance == 1 else inputs.doubled_without_prompt(set(self.layer_map))
        copies = 1 if sampling.guidance == 1 else 2
        before = None if source is None else torch.cat([source] * copies)
        times = torch.linspace(0, 1, sampling.steps + 1)[:-1].tolist()
        for now, after in zip(times, [*times[1:], None]):
            if inputs.on_layer is not None:
                inputs.on_layer()
            time = torch.full((copies * count,), now, device=state.device)
            clean, *without = self(doubled, torch.cat([state] * copies), time, before).split(count)
            if after is None:
                return layout_of(clean, len(self.config.categories))
            if without:
                clean = without[0] + sampling.guidance * (clean - without[0])
            state = state + (after - now) / (1 - now) * (clean - state)
        raise ValueError(f"steps must be at least 1, not {sampling.steps}")


def preconditioning(time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is kept of x_t, the share of the network's output, and the scale of its input; each (B,).

    The best linear guess of x from x_t is kept, and the output is divided by what is left, for unit variances.
    """
    variance = time.square() + (1 - time).square()
    return time / variance, (1 - time) / variance.sqrt(), variance.rsqrt()


def layout_loss_weight(time: torch.Tensor) -> torch.Tensor:
    """(B,) what turns a squared error of the data into one of the network's output. Bounded near the data."""
    return preconditioning(time)[1].clamp_min(0.02).square().reciprocal()


def layout_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Noise from a seed, drawn on the CPU: the same on every device."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed ^ LAYOUT_SEED))
