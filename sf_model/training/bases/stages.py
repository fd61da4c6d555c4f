"""Stages 1 and 2 beside a real base: what learns, and the loss of a micro-batch.

Every sample has noise, time and dropouts of its own seed, and a loss is the mean over samples; so a step's result does
not depend on how its samples are spread over micro-batches and processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn as nn
import torch.nn.functional as F

from ...config import SpatialFusionConfig
from ...depth.metric_depth import MetricDepth
from ...models.depth_adapter import DepthAdapter
from ...models.depth_flow import DEPTH_SEED, DepthSampling, NoisyDepth, depth_state, draw_noise, flow_weight
from ...models.depth_prediction import DepthPrediction
from ...models.depth_predictor import DepthPredictor
from ...models.expert_inputs import ExpertInputs, SourceFeatures
from ...models.spatial_transformer import uniform_layer_map
from ..data.world import Batch
from ..flow import interpolate
from ..losses import depth_losses
from ..run_state import saved_step
from .base import Base, Prompt
from .lora import add_lora
from .settings import RunSettings

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Draws:
    """Of every sample: noise like the latent, time (B,), and whether caption and depth are dropped (B,) bool."""

    noise: torch.Tensor
    time: torch.Tensor
    no_caption: torch.Tensor
    no_depth: torch.Tensor


def draw(seeds: torch.Tensor, latent: torch.Tensor, run: RunSettings) -> Draws:
    """What the image's diffusion draws for a batch."""
    noise, normal, numbers = _draw(seeds.tolist(), latent.shape[1:])
    no_caption, no_depth = (numbers < torch.tensor([run.caption_dropout, run.depth_dropout])).T
    time = torch.sigmoid(run.time_std * normal + run.time_mean)
    device = latent.device
    return Draws(noise.to(latent), time.to(device), no_caption.to(device), no_depth.to(device))


@dataclass(frozen=True)
class DepthDraws:
    """Of every sample: noise (B, ...) and time (B,) of its depth; whether the predictor is told of it, and whether it
    is shown no prompt with it, both (B,) bool."""

    noise: torch.Tensor
    time: torch.Tensor
    known: torch.Tensor
    no_prompt: torch.Tensor


def draw_depth(seeds: torch.Tensor, shape: tuple[int, ...], run: RunSettings) -> DepthDraws:
    """What the depth's flow draws for a batch, independent of `draw`; noise of `shape` (B, ...)."""
    noise, normal, numbers = _draw([seed ^ DEPTH_SEED for seed in seeds.tolist()], shape[1:])
    known, no_prompt = (numbers < torch.tensor([run.depth_flow, run.caption_dropout])).T
    time = torch.sigmoid(run.depth_time_std * normal + run.depth_time_mean)
    return DepthDraws(noise, time, known, known & no_prompt)


def _draw(seeds: list[int], shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise (B, *shape), normal (B,) and uniform (B, 2) numbers, each sample's from its own seed.

    On the CPU, so that every device and every split of a batch draws the same.
    """
    noise, normal, numbers = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        noise.append(torch.randn(shape, generator=generator))
        normal.append(torch.randn((), generator=generator))
        numbers.append(torch.rand(2, generator=generator))
    return torch.stack(noise), torch.stack(normal), torch.stack(numbers)


class BaseStage(nn.Module):
    """What both stages share. `base` lies beside the parts that a checkpoint holds: `predictor` and `adapter`."""

    name: str

    def __init__(self, base: Base, config: SpatialFusionConfig, run: RunSettings) -> None:
        super().__init__()
        base.check(config)
        if run.depth_flow > 0 and config.depth_flow is None:
            raise ValueError(
                f"configuration {config.name!r} has no depth_flow: add one "
                f'({{"time_channels": 256, "detail_channels": 32}}), or set {self.name}.depth_flow to 0'
            )
        self.config, self.run = config, run
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            self.predictor = DepthPredictor(config)
            self.adapter = DepthAdapter(config.depth_adapter)
        self.base = base
        self.read_layers = sorted(set(uniform_layer_map(config.spatial_transformer.num_layers, config.mllm.num_layers)))
        self.base.requires_grad_(False)
        if run.depth_flow == 0 and self.predictor.depth_flow is not None:
            self.predictor.depth_flow.requires_grad_(False)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def saved(self) -> dict[str, torch.Tensor]:
        """What a state on disk holds: the trained parameters alone."""
        return {name: value.detach() for name, value in self.trainable_parameters().items()}

    def load(self, state_dir: Path) -> int:
        """Restore the trained parameters of a saved state, strictly; returns its step."""
        self.load_trained(safetensors.torch.load_file(state_dir / "system.safetensors"), str(state_dir))
        return saved_step(state_dir)

    @torch.no_grad()
    def load_trained(self, tensors: dict[str, torch.Tensor], what: str) -> None:
        own = self.trainable_parameters()
        differing = sorted(
            name
            for name in own.keys() | tensors.keys()
            if name not in own or name not in tensors or own[name].shape != tensors[name].shape
        )
        if differing:
            raise ValueError(f"{what} holds other parameters than this run trains: {differing[:3]}")
        for name, value in tensors.items():
            own[name].copy_(value)

    def forward(self, batch: Batch, _generator: torch.Generator | None = None) -> Losses:
        """Means over the micro-batch's samples; "loss" is what is minimised."""
        raise NotImplementedError

    def prompt(self, batch: Batch) -> Prompt:
        """Encoded now, or from the cache."""
        if "keys_values" in batch:
            pairs: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * self.config.mllm.num_layers
            for place, layer in enumerate(self.read_layers):
                pairs[layer] = batch["keys_values"][:, place, 0], batch["keys_values"][:, place, 1]
            return Prompt(batch["hidden"], batch["hidden_mask"], pairs, batch["prompt_mask"], batch["next_position"])
        return self.base.encode(batch["input_ids"], batch["prompt_mask"], self._seen_source(batch))

    def empty_prompt(self, batch: Batch) -> Prompt:
        """The same without a caption; only its hidden states matter."""
        if "keys_values" in batch:
            return Prompt(batch["empty_hidden"], batch["empty_mask"], [], batch["empty_mask"], batch["next_position"])
        return self.base.encode(batch["empty_ids"], batch["empty_mask"], self._seen_source(batch))

    def latent(self, batch: Batch) -> torch.Tensor:
        return batch["latent"] if "latent" in batch else self.base.encode_image(batch["rgb"].float() / 255)

    def reference(self, batch: Batch) -> torch.Tensor | None:
        if "source" not in batch:
            return None
        return batch["source_latent"] if "source_latent" in batch else self.base.encode_image(_unit(batch["source"]))

    def predict_for_loss(self, batch: Batch, prompt: Prompt) -> tuple[DepthPrediction, Losses]:
        """The prediction, of a share of the samples from their noisy depth, and the means of its losses."""
        depth_m, run = batch["depth_m"], self.run
        if run.depth_flow == 0:
            prediction = self.predict(batch, prompt)
            return prediction, mean_depth_losses(prediction, batch)
        device = depth_m.device
        state = depth_state(depth_m, *self.predictor.grid(*depth_m.shape[-2:]))
        drawn = draw_depth(batch["noise_seed"], tuple(state.shape), run)
        time, known = drawn.time.to(device), drawn.known.to(device)
        noisy = NoisyDepth(interpolate(state, drawn.noise.to(device), time), time, known)
        inputs = self._inputs(batch, prompt).without_prompt(drawn.no_prompt.to(device))
        prediction = self.predictor(inputs, noisy)
        weight = torch.where(known, flow_weight(time), torch.ones_like(time))
        return prediction, mean_depth_losses(prediction, batch, weight)

    def predict(self, batch: Batch, prompt: Prompt, noisy: NoisyDepth | None = None) -> DepthPrediction:
        """Depth of the image that is to be, with the source's features where there is one to see."""
        return self.predictor(self._inputs(batch, prompt), noisy)

    def sample(self, batch: Batch, prompt: Prompt, seed: int) -> DepthPrediction:
        """One scene that fits, as the node draws it by default."""
        height, width = batch["depth_m"].shape[-2:]
        shape = self.predictor.noise_shape(len(batch["depth_m"]), height, width)
        sampling = DepthSampling(draw_noise(shape, seed).to(batch["depth_m"].device))
        return self.predictor.sample(self._inputs(batch, prompt), sampling)

    def _inputs(self, batch: Batch, prompt: Prompt) -> ExpertInputs:
        source = None
        if "source" in batch and self.base.vision is not None:
            with torch.no_grad():
                source = SourceFeatures(*self.base.source_features(_unit(batch["source"])))
        return ExpertInputs(
            prompt.keys_values,
            *batch["depth_m"].shape[-2:],
            prompt_mask=prompt.mask,
            next_position=prompt.next_position,
            source=source,
            dtype=torch.float32,
            # As in the host. While it learns autocast has its way: several processes then round as one does.
            out_dtype=None if self.training else torch.float32,
        )

    def _seen_source(self, batch: Batch) -> torch.Tensor | None:
        return _unit(batch["source"]) if "source" in batch and self.base.mllm_sees_source else None


def _unit(rgb: torch.Tensor) -> torch.Tensor:
    return rgb.float() / 255


def mean_depth_losses(prediction: DepthPrediction, batch: Batch, weight: torch.Tensor | None = None) -> Losses:
    """`depth_losses` of every sample alone, then their mean: every image counts the same, however much of it is sky."""
    weight = torch.ones_like(batch["fov_y_deg"]) if weight is None else weight
    parts: list[Losses] = []
    for index in range(len(batch["depth_m"])):
        row = slice(index, index + 1)
        alone = DepthPrediction(
            prediction.log_depth[row],
            prediction.validity_logit[row],
            prediction.confidence_logit[row],
            prediction.fov_y_deg[row],
        )
        parts.append(depth_losses(alone, batch["depth_m"][row], batch["fov_y_deg"][row], weight[row]))
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}


class DepthStage(BaseStage):
    """Stage 1: the spatial transformer and its head; the base is frozen and the adapter waits."""

    name = "stage1"

    def __init__(self, base: Base, config: SpatialFusionConfig, run: RunSettings) -> None:
        super().__init__(base, config, run)
        self.adapter.requires_grad_(False)

    def forward(self, batch: Batch, _generator: torch.Generator | None = None) -> Losses:
        with torch.no_grad():
            prompt = self.prompt(batch)
        _, losses = self.predict_for_loss(batch, prompt)
        return {"loss": losses["depth"], **losses}


class FusionStage(BaseStage):
    """Stage 2: the adapter, the spatial transformer, and the diffusion transformer in full or as a LoRA."""

    name = "stage2"

    def __init__(self, base: Base, config: SpatialFusionConfig, run: RunSettings) -> None:
        super().__init__(base, config, run)
        if run.lora_rank is None:
            base.transformer.float().requires_grad_(True)
        else:
            add_lora(base.transformer, base.lora_targets, run.lora_rank, run.lora_alpha, run.seed)

    def features(self, depth: MetricDepth, rows: int, columns: int) -> torch.Tensor:
        """F (B, C, rows, columns) float32, which is added to the noisy latent."""
        return self.adapter.infer(depth, rows, columns, torch.float32).float()

    def forward(self, batch: Batch, _generator: torch.Generator | None = None) -> Losses:
        with torch.no_grad():
            latent, reference, prompt = self.latent(batch), self.reference(batch), self.prompt(batch)
            drawn = draw(batch["noise_seed"], latent, self.run)
            shown = prompt
            if bool(drawn.no_caption.any()):
                shown = prompt.with_hidden_of(self.empty_prompt(batch), drawn.no_caption)
        prediction, losses = self.predict_for_loss(batch, prompt)
        features = self.features(prediction.to_metric_depth(), *latent.shape[-2:])
        features = features * (~drawn.no_depth)[:, None, None, None]
        x = interpolate(latent, drawn.noise, drawn.time) + features
        velocity = self.base.velocity(x, drawn.time, shown, reference)
        flow = F.mse_loss(velocity, latent - drawn.noise)
        return {"loss": flow + self.run.depth_weight * losses["depth"], "flow": flow, **losses}


BASE_STAGES: dict[str, type[BaseStage]] = {stage.name: stage for stage in (DepthStage, FusionStage)}
