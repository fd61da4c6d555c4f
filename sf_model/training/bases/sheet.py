"""Validation sheets beside a real base: pictures of held-out samples, and the figures that go to the log."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ... import depth_metrics
from ...metric_depth import MetricDepth
from ...picture import depth_picture
from ..flow import euler_sample, interpolate
from ..sheets import SHEET_GUIDANCE, SHEET_STEPS
from ..world_data import Batch
from .base import Prompt
from .stages import BaseStage, FusionStage

SHEET_SEED = 0


@dataclass(frozen=True)
class Sheet:
    """columns: pictures (B, 3, H, W) in [-1, 1], of one size."""

    columns: list[torch.Tensor]
    metrics: dict[str, float]


@torch.no_grad()
def draw_sheet(stage: BaseStage, batch: Batch) -> Sheet:
    """True image | (source) | true depth | predicted depth | (stage 2) generated image.

    The flow loss is measured with the scaffold, with another sample's and without: the adapter is used where they
    differ.
    """
    prompt = stage.prompt(batch)
    raw = stage.predict(batch, prompt)
    prediction = raw.to_metric_depth()
    truth = MetricDepth(batch["depth_m"], torch.ones_like(batch["depth_m"]), batch["fov_y_deg"])
    latent = stage.latent(batch)
    image = batch["rgb"].float() / 255 if "rgb" in batch else stage.base.decode_latent(latent)
    pictures = [image, depth_picture(truth), depth_picture(prediction)]
    if "source" in batch:
        pictures.insert(1, batch["source"].float() / 255)
    depth_m = raw.log_depth.exp()
    metrics = {
        "abs_rel": depth_metrics.abs_rel(depth_m, batch["depth_m"]).mean().item(),
        "delta1": depth_metrics.delta1(depth_m, batch["depth_m"]).mean().item(),
    }
    if isinstance(stage, FusionStage):
        features = stage.features(prediction, *latent.shape[-2:])
        generator = torch.Generator().manual_seed(SHEET_SEED)
        noise = torch.randn(latent.shape, generator=generator).to(latent)
        reference = stage.reference(batch)
        metrics |= _flow_metrics(stage, latent, noise, prompt, features, reference)
        pictures.append(stage.base.decode_latent(_sample(stage, batch, noise, prompt, features, reference)))
    return Sheet([picture.float().cpu() * 2 - 1 for picture in pictures], metrics)


def _flow_metrics(
    stage: FusionStage,
    latent: torch.Tensor,
    noise: torch.Tensor,
    prompt: Prompt,
    features: torch.Tensor,
    reference: torch.Tensor | None,
) -> dict[str, float]:
    time = (torch.arange(len(latent), device=latent.device) + 0.5) / len(latent)
    x = interpolate(latent, noise, time)
    added = {"flow": features, "flow_shuffled_depth": features.roll(1, dims=0), "flow_without_depth": 0 * features}
    return {
        name: F.mse_loss(stage.base.velocity(x + value, time, prompt, reference), latent - noise).item()
        for name, value in added.items()
    }


def _sample(
    stage: FusionStage,
    batch: Batch,
    noise: torch.Tensor,
    prompt: Prompt,
    features: torch.Tensor,
    reference: torch.Tensor | None,
) -> torch.Tensor:
    every = torch.ones(len(noise), dtype=torch.bool, device=noise.device)
    empty = prompt.with_hidden_of(stage.empty_prompt(batch), every)

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        unconditional = stage.base.velocity(x + features, time, empty, reference)
        conditional = stage.base.velocity(x + features, time, prompt, reference)
        return unconditional + SHEET_GUIDANCE * (conditional - unconditional)

    return euler_sample(velocity, noise, SHEET_STEPS, stage.base.sampling_shift)
