"""Seeded depth: the spatial transformer as a flow-matching expert over the same cached keys and values.

Many scenes fit a caption. A regression predicts their mean, which is blurred. So the same network also learns to
predict the clean depth from a noisy one and its time (x-prediction, arXiv 2511.13720). A few Euler steps from a seed's
noise then give one definite scene. At pure noise the best prediction is the mean again. So the regression is the first
step of the flow, and both share one set of weights.

State: (B, 2, 8 rows, 8 columns) float32. Channel 0 is the log metres over LOG_DEPTH_STD from LOG_DEPTH_MEAN, at most
SKY; channel 1 is +1 for a surface and -1 for none. x_t = t x + (1 - t) noise, so t = 1 is data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..config import DepthFlowConfig
from ..depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD, MAX_DEPTH_M, MIN_DEPTH_M
from .depth_detail import DepthDetail, DetailSkips
from .depth_head import UPSCALE
from .depth_prediction import DepthPrediction
from .flow_times import shifted_times, time_sinusoids
from .initialisation import start_from_zero

STATE_CHANNELS = 2
# Normalised log depth of the sky, and of surfaces beyond 230 m.
SKY = 3.2
MIN_NOISE_LEVEL = 0.2
# Users give depth and image the same seed. This makes their noise differ.
DEPTH_SEED = 0x5DEE
# With these, sampling adds less than 0.5% to OmniGen2's operations at 1024x1024 (`tools.counting.spatial_flops`).
DEFAULT_STEPS = 8
DEFAULT_GUIDANCE = 3.0
DEPTH_SHIFT = 4.0
# Guidance acts where the layout is decided; later it costs passes and changes nothing (arXiv 2404.07724).
GUIDED_UNTIL = 0.1


@dataclass(frozen=True)
class NoisyDepth:
    """A depth that the network is to denoise."""

    # (B, 2, 8 rows, 8 columns).
    state: torch.Tensor
    # (B,) in [0, 1].
    time: torch.Tensor
    # (B,) bool: False for samples without a noisy depth, which predict the mean. None: all have one.
    has_noise: torch.Tensor | None = None


def depth_state(depth_m: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The state of true depth (B, H, W) in metres, inf for no surface, for a grid of rows x columns queries."""
    size = (UPSCALE * rows, UPSCALE * columns)
    if depth_m.shape[-2:] != size:
        # Nearest, not bilinear: the mean of an edge's two sides is the depth of neither.
        depth_m = F.interpolate(depth_m[:, None], size=size, mode="nearest-exact")[:, 0]
    valid = torch.isfinite(depth_m)
    normalised = (depth_m.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log() - LOG_DEPTH_MEAN) / LOG_DEPTH_STD
    return torch.stack([normalised.clamp(max=SKY), valid.to(normalised.dtype) * 2 - 1], dim=1)


def predicted_state(prediction: DepthPrediction) -> torch.Tensor:
    """The state that a prediction expects: its two channels' means."""
    surface = torch.sigmoid(prediction.validity_logit)
    normalised = ((prediction.log_depth - LOG_DEPTH_MEAN) / LOG_DEPTH_STD).clamp(max=SKY)
    return torch.stack([surface * normalised + (1 - surface) * SKY, 2 * surface - 1], dim=1)


class DepthFlowInput(nn.Module):
    """Embeds a noisy state (for the queries) and its time (for queries and camera). Both are zero before training."""

    def __init__(
        self,
        config: DepthFlowConfig,
        hidden_size: int,
        fusion_channels: int,
        source_channels: int | None = None,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.time_channels = config.time_channels
        self.patch = operations.Linear(STATE_CHANNELS * UPSCALE**2, hidden_size, **factory)
        self.time_in = operations.Linear(config.time_channels, hidden_size, **factory)
        self.time_out = operations.Linear(hidden_size, hidden_size, **factory)
        start_from_zero(self.patch, self.time_out)
        self.detail = (
            None
            if config.detail_channels is None
            else DepthDetail(
                config.detail_channels, STATE_CHANNELS, fusion_channels, source_channels, operations, **factory
            )
        )

    def skips(
        self, noisy: NoisyDepth, dtype: torch.dtype, source_pixels: torch.Tensor | None = None
    ) -> DetailSkips | None:
        """The skip connections of the noisy depth and of a source image. None for checkpoints without them."""
        if self.detail is None:
            return None
        return self.detail(noisy.state, noisy.time, noisy.has_noise, dtype, source_pixels)

    def forward(self, noisy: NoisyDepth, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """((B, rows * columns, D) for the queries, (B, 1, D) for queries and camera)."""
        patches = F.pixel_unshuffle(noisy.state, UPSCALE).flatten(2).transpose(1, 2)
        tokens = self.patch(patches.to(dtype))
        time = self.time_out(F.silu(self.time_in(time_sinusoids(noisy.time, self.time_channels).to(dtype))))[:, None]
        if noisy.has_noise is None:
            return tokens, time
        has_noise = noisy.has_noise.to(dtype)[:, None, None]
        return tokens * has_noise, time * has_noise


def flow_weight(time: torch.Tensor) -> torch.Tensor:
    """Turns a squared error of the data into one of the velocity, (data - x_t) / (1 - t). Bounded near the data."""
    return 1 / (1 - time).clamp_min(MIN_NOISE_LEVEL).square()


@dataclass(frozen=True)
class DepthSampling:
    """How a scene is sampled."""

    # Its shape is `DepthPredictor.noise_shape`.
    noise: torch.Tensor
    # Euler steps; the last prediction is the result.
    steps: int = DEFAULT_STEPS
    # Above 1, steps before time GUIDED_UNTIL also predict without the prompt, and move away from that prediction.
    guidance: float = DEFAULT_GUIDANCE
    # Spends more of the steps near the noise.
    shift: float = DEPTH_SHIFT
    # Called with what each step predicts for the scenes, at the state's size: noise first, the result last.
    on_prediction: Callable[[DepthPrediction], None] | None = None

    def report(self, prediction: DepthPrediction) -> None:
        """Call `on_prediction`. Of a doubled batch, with the half that has the prompt."""
        if self.on_prediction is not None:
            self.on_prediction(prediction.first(len(self.noise)))

    @property
    def times(self) -> list[float]:
        """Times of the predictions in [0, 1], 0 being noise; the last prediction is the result."""
        return shifted_times(self.steps, self.shift)[:-1].tolist()

    @property
    def guided_steps(self) -> int:
        """How many of the first steps are guided; the last one, which is the result, never is."""
        return 0 if self.guidance == 1 else sum(time < GUIDED_UNTIL for time in self.times[:-1])

    @property
    def passes(self) -> int:
        """Passes of one sample through the network. A guided step needs two."""
        return self.steps + self.guided_steps


def _bounded(state: torch.Tensor) -> torch.Tensor:
    """Clamp a state to its range, which guidance exceeds."""
    return torch.stack([state[:, 0].clamp(max=SKY), state[:, 1].clamp(-1, 1)], dim=1)


def draw_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Noise from a seed, drawn on the CPU: the same on every device. It differs from the image's noise of the seed."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed ^ DEPTH_SEED))


@torch.no_grad()
def sample_depth(
    predict: Callable[[NoisyDepth, bool], DepthPrediction], sampling: DepthSampling, mean_first: bool
) -> DepthPrediction:
    """The last prediction of Euler steps from noise to a scene.

    mean_first: the first prediction sees no noisy depth, and its confidence is the result's. It alone knows nothing but
    the prompt: the last one is sure of what the steps before have drawn.
    predict(noisy, guided) predicts at the state's own size. Where it is guided, the batch is doubled: the first half is
    to be predicted with the prompt, the second without.
    """
    state, times, guided_steps = sampling.noise, sampling.times, sampling.guided_steps
    first: DepthPrediction | None = None
    for number, (now, after) in enumerate(zip(times, times[1:])):
        guided = number < guided_steps
        prediction = predict(_at(now, state, guided, mean_first and number == 0), guided)
        first = first or prediction
        sampling.report(prediction)
        data = predicted_state(prediction)
        if guided:
            # One batch: a GPU is not full of one image's queries.
            data, without = data.chunk(2)
            data = _bounded(without + sampling.guidance * (data - without))
        state = state + (after - now) / (1 - now) * (data - state)
    last = predict(_at(times[-1], state, False, mean_first and first is None), False)
    sampling.report(last)
    if not mean_first or first is None:
        return last
    return replace(last, confidence_logit=first.confidence_logit[: len(state)])


def _at(time: float, state: torch.Tensor, doubled: bool, is_mean: bool) -> NoisyDepth:
    """`state` at a time, twice where it is `doubled`. is_mean: the batch, or its first half, is not to see it."""
    count = len(state)
    state = torch.cat([state, state]) if doubled else state
    # The half without a prompt sees the noise: the mean of all scenes without a prompt is not trained.
    has_noise = torch.arange(len(state), device=state.device) >= count if is_mean else None
    return NoisyDepth(state, torch.full((len(state),), time, device=state.device), has_noise)
