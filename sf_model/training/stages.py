"""The trainings, each one module whose forward is its loss and whose trainable parameters are its freeze set.

mllm: next-token loss on documents of every kind of caption: it knows spatial language as a pretrained one does.
joint: all four at once, from nothing: a frozen MLLM must know what it is asked, and the Mini's starts with nothing.
base: MLLM + diffusion transformer from nothing, flow matching on web-like captions, and next-token loss on captions of
every kind: the MLLM knows spatial language as a pretrained one does, the image model does not.
source: what the encoder of source images reads of their depth and their objects, before any edit.
stage 1: spatial transformer and head on spatial captions; MLLM and diffusion transformer frozen (masked L2).
stage 2: adapter, diffusion transformer and spatial transformer; L_diffusion + 0.5 L_depth on live predicted depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..backbones.mini import velocity_from_data
from ..depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD, MetricDepth
from ..models.depth_flow import NoisyDepth, depth_state, flow_weight
from ..models.depth_prediction import DepthPrediction
from ..models.pixel_encoder import MonocularDepth, PixelEncoder, ReadDepth
from ..world import CATEGORY_NAMES, COLORS
from .data.world import Batch, true_depth
from .flow import interpolate, sample_times
from .losses import DIFFERENCE_WEIGHT, depth_losses, difference_loss, language_loss
from .system import EncodedPrompt, SpatialFusionSystem, drop_prompts

Losses = dict[str, torch.Tensor]

# Parts for reference and source images: without edits no batch reaches them, so that they keep their weights.
EDITING_PARAMETERS = (
    "transformer.ref_image_",
    "transformer.image_index_embedding",
    "predictor.source_encoder.",
    "predictor.depth_flow.detail.source_in.",
)
# As DINOv2 for a real base: learned alone, from many pictures, and left as it is by what reads it.
SEES_SOURCES = "predictor.source_encoder.monocular_depth"
# Logits of the category and of the colour of what stands in a cell of `SourceStage`; the last of each is of none.
LABEL_CHANNELS = (len(CATEGORY_NAMES) + 1, len(COLORS) + 1)
LABEL_WEIGHT = 0.2


@dataclass(frozen=True)
class StageConfig:
    """`time_mean` and `time_std` of the logit-normal times; dropout rates of caption (for guidance) and depth (to work
    without). `freeze_mllm`: the base stage trains the diffusion transformer alone. `freeze_predictor`: stage 2 trains
    only the adapter and the diffusion transformer, on depth that no longer changes. `true_depth`: the share of the
    samples whose scaffold is the scene's own depth, as users bring it from photos or compositions; the paper has 0.
    `depth_flow`: the share of the samples whose depth is predicted from a noisy one (`models.depth_flow`), at times
    of `depth_time_mean` and `depth_time_std`; the others are predicted from the prompt alone. `edits`: the share of
    batches that edit a source image, whose parts then learn too, all but the encoder that `source` trained.
    `depth_draws`: in stage 1 each image serves with so many noises and times, as in AlphaFold 3's diffusion: its prompt
    is read, and it is rendered, once."""

    time_mean: float = -1.8
    time_std: float = 1.5
    caption_dropout: float = 0.1
    depth_dropout: float = 0.15
    language_weight: float = 0.25
    depth_weight: float = 0.5
    freeze_mllm: bool = False
    freeze_predictor: bool = False
    true_depth: float = 0.0
    depth_flow: float = 0.0
    depth_time_mean: float = -1.8
    depth_time_std: float = 1.5
    edits: float = 0.0
    depth_draws: int = 1


class Stage(nn.Module):
    """Base of the stages: `trainable` names the system's parts that learn, every other one is frozen. `reads_sources`:
    whether its batches reach the parts for source images."""

    name: str
    trainable: tuple[str, ...]

    def __init__(self, system: SpatialFusionSystem, config: StageConfig, empty_prompt_ids: torch.Tensor) -> None:
        super().__init__()
        self.system, self.config = system, config
        self.register_buffer("empty_prompt_ids", empty_prompt_ids, persistent=False)
        learns = tuple(f"{part}." for part in self.trainable)
        for name, value in system.named_parameters():
            waits = not self.reads_sources and name.startswith(EDITING_PARAMETERS)
            sees = name.startswith(f"{SEES_SOURCES}.") and SEES_SOURCES not in self.trainable
            value.requires_grad_(name.startswith(learns) and not waits and not sees)
        if config.freeze_mllm:
            system.decoder.requires_grad_(False)
        if config.freeze_predictor:
            system.predictor.requires_grad_(False)
        elif config.depth_flow == 0 and system.predictor.depth_flow is not None:
            system.predictor.depth_flow.requires_grad_(False)

    @property
    def reads_sources(self) -> bool:
        return self.config.edits > 0

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.system.named_parameters() if value.requires_grad}

    def _flow_batch(
        self, rgb: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_t, times and the target velocity; drawn on the CPU, so that every device sees the same noise."""
        noise = torch.randn(rgb.shape, generator=generator).to(rgb)
        time = sample_times(rgb.shape[0], self.config.time_mean, self.config.time_std, generator).to(rgb)
        latent = interpolate(rgb, noise, time)
        return latent, time, velocity_from_data(latent, rgb, 1 - time)

    def _dropped(self, rate: float, batch: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
        return (torch.rand(batch, generator=generator) < rate).to(device)

    def _predict_depth(
        self, prompt: EncodedPrompt, batch: Batch, generator: torch.Generator
    ) -> tuple[DepthPrediction, Losses]:
        """The live prediction, of a share of the samples from a noisy depth, and its losses."""
        depth_m, fov_y_deg, config = batch["depth_m"], batch["fov_y_deg"], self.config
        height, width = depth_m.shape[-2:]
        if config.depth_flow == 0:
            prediction = self.system.predict_depth(prompt, height, width, source=batch.get("source"))
            return prediction, depth_losses(prediction, depth_m, fov_y_deg)
        state = depth_state(depth_m, *self.system.predictor.grid(height, width))
        noise = torch.randn(state.shape, generator=generator).to(state)
        time = sample_times(len(state), config.depth_time_mean, config.depth_time_std, generator).to(state)
        known = self._dropped(config.depth_flow, len(state), generator, state.device)
        # Guidance needs the prediction without a prompt; only the flow is guided.
        dropped = known & self._dropped(config.caption_dropout, len(state), generator, state.device)
        prompt = EncodedPrompt(prompt.hidden, prompt.mask & ~dropped[:, None], prompt.keys_values)
        noisy = NoisyDepth(interpolate(state, noise, time), time, known)
        prediction = self.system.predict_depth(prompt, height, width, noisy, batch.get("source"))
        weight = torch.where(known, flow_weight(time), torch.ones_like(time))
        return prediction, depth_losses(prediction, depth_m, fov_y_deg, weight)

    def _language_loss(self, batch: Batch) -> torch.Tensor:
        """Of the batch's documents without images."""
        logits = self.system.decoder(input_ids=batch["language_ids"], use_cache=False).logits
        return language_loss(logits, batch["language_ids"], batch["language_mask"])

    def _empty(self) -> torch.Tensor:
        return torch.ones_like(self.empty_prompt_ids, dtype=torch.bool)


class LanguageStage(Stage):
    name = "mllm"
    trainable = ("decoder",)

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        language = self._language_loss(batch)
        return {"loss": language, "language": language}


class BaseStage(Stage):
    name = "base"
    trainable = ("decoder", "transformer")

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        x, time, target = self._flow_batch(batch["rgb"], generator)
        prompt = self.system.encode(batch["input_ids"], batch["prompt_mask"])
        empty = self.system.encode(self.empty_prompt_ids, self._empty())
        dropped = self._dropped(self.config.caption_dropout, x.shape[0], generator, x.device)
        velocity = self.system.velocity(x, time, drop_prompts(prompt, empty, dropped), None)
        flow = F.mse_loss(velocity, target)
        if self.config.freeze_mllm:
            return {"loss": flow, "flow": flow}
        language = self._language_loss(batch)
        return {"loss": flow + self.config.language_weight * language, "flow": flow, "language": language}


class SourceStage(Stage):
    """Pictures of any scene, their depth, and what stands where; the prompts are not read. An instruction names an
    object by category and colour, as DINOv2's features know it: the first channels of each cell are logits of these."""

    name = "source"
    trainable = (SEES_SOURCES,)
    reads_sources = True

    @property
    def _monocular_depth(self) -> MonocularDepth:
        encoder = self.system.predictor.source_encoder
        assert isinstance(encoder, PixelEncoder)
        return encoder.monocular_depth

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        height, width = batch["rgb"].shape[-2:]
        read = self._monocular_depth(batch["rgb"])
        error = read.state.float() - depth_state(batch["depth_m"], *self.system.predictor.grid(height, width))
        valid = torch.isfinite(batch["depth_m"])
        state = error.square().mean()
        differences = difference_loss(torch.where(valid, error[:, 0], torch.zeros_like(error[:, 0])), valid)
        category, color = _label_logits(read)
        labels = F.cross_entropy(category, batch["category"]) + F.cross_entropy(color, batch["color"])
        loss = state + DIFFERENCE_WEIGHT * differences + LABEL_WEIGHT * labels
        return {"loss": loss, "state": state, "differences": differences, "labels": labels}

    def recognised(self, batch: Batch) -> float:
        """Of the cells with an object, or where one is seen, the share whose category and colour are read right."""
        category, color = (logits.argmax(dim=1) for logits in _label_logits(self._monocular_depth(batch["rgb"])))
        right = (category == batch["category"]) & (color == batch["color"])
        nothing = LABEL_CHANNELS[0] - 1
        return right[(batch["category"] < nothing) | (category < nothing)].float().mean().item()

    def read(self, rgb: torch.Tensor, fov_y_deg: torch.Tensor) -> DepthPrediction:
        """`seen_depth` of its encoder."""
        return seen_depth(self._monocular_depth, rgb, fov_y_deg)


def seen_depth(monocular_depth: MonocularDepth, rgb: torch.Tensor, fov_y_deg: torch.Tensor) -> DepthPrediction:
    """What an encoder sees in pictures (B, 3, H, W) in [-1, 1], whose field of view (B,) is known."""
    log_depth, surface = monocular_depth(rgb).state.float().unbind(1)
    return DepthPrediction(log_depth * LOG_DEPTH_STD + LOG_DEPTH_MEAN, surface, torch.zeros_like(log_depth), fov_y_deg)


def _label_logits(read: ReadDepth) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, LABEL_CHANNELS[i], rows, columns) of category and colour."""
    category, color = read.cells[:, : sum(LABEL_CHANNELS)].float().split(LABEL_CHANNELS, dim=1)
    return category, color


class DepthStage(Stage):
    name = "stage1"
    trainable = ("predictor",)

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        with torch.no_grad():
            prompt = self.system.encode(batch["input_ids"], batch["prompt_mask"])
        draws = self.config.depth_draws
        if draws > 1:
            batch = {
                name: batch[name].repeat_interleave(draws, dim=0)
                for name in ("depth_m", "fov_y_deg", "source")
                if name in batch
            }
            prompt = prompt.repeated(draws)
        _, losses = self._predict_depth(prompt, batch, generator)
        return {"loss": losses["depth"], **losses}


class FusionStage(Stage):
    name = "stage2"
    trainable: tuple[str, ...] = ("predictor", "adapter", "transformer")

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        x, time, target = self._flow_batch(batch["rgb"], generator)
        height, width = x.shape[-2:]
        with torch.set_grad_enabled(torch.is_grad_enabled() and "decoder" in self.trainable):
            prompt = self.system.encode(batch["input_ids"], batch["prompt_mask"])
            empty = self.system.encode(self.empty_prompt_ids, self._empty())
        scaffold, losses = self._scaffold(prompt, batch, generator)
        tokens = self.system.depth_tokens(scaffold, height, width)
        no_depth = self._dropped(self.config.depth_dropout, x.shape[0], generator, x.device)
        tokens = tokens * (~no_depth)[:, None, None]
        dropped = self._dropped(self.config.caption_dropout, x.shape[0], generator, x.device)
        shown = drop_prompts(prompt, empty, dropped)
        velocity = self.system.velocity(x, time, shown, tokens, batch.get("source"))
        flow = F.mse_loss(velocity, target)
        return {"loss": flow + self.config.depth_weight * losses.get("depth", 0.0), "flow": flow, **losses}

    def _scaffold(
        self, prompt: EncodedPrompt, batch: Batch, generator: torch.Generator
    ) -> tuple[MetricDepth, dict[str, torch.Tensor]]:
        """What the adapter sees, and the losses of the prediction (none if the predictor does not learn)."""
        config = self.config
        truth = true_depth(batch)
        if config.freeze_predictor and config.true_depth == 1:
            return truth, {}
        with torch.set_grad_enabled(not config.freeze_predictor):
            prediction, losses = self._predict_depth(prompt, batch, generator)
        losses = {} if config.freeze_predictor else losses
        predicted = prediction.to_metric_depth()
        if config.true_depth == 0:
            return predicted, losses
        true = self._dropped(config.true_depth, truth.depth.shape[0], generator, truth.depth.device)
        pixels = true[:, None, None]
        mixed = MetricDepth(
            torch.where(pixels, truth.depth, predicted.depth),
            torch.where(pixels, truth.confidence, predicted.confidence),
            torch.where(true, truth.fov_y_deg, predicted.fov_y_deg),
        )
        return mixed, losses


class JointStage(FusionStage):
    """What a real MLLM brings from its own training: the Mini's learns from images, depth and text at once."""

    name = "joint"
    trainable = ("decoder", "predictor", "adapter", "transformer")

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        losses = super().forward(batch, generator)
        language = self._language_loss(batch)
        return {**losses, "loss": losses["loss"] + self.config.language_weight * language, "language": language}


STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (LanguageStage, JointStage, BaseStage, SourceStage, DepthStage, FusionStage)
}
