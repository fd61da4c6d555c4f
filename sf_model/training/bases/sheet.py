"""Validation sheets beside a real base: pictures of held-out samples, and the figures that go to the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ...depth import metrics as depth_metrics
from ...depth.colours import depth_picture
from ...depth.metric_depth import MetricDepth
from ...models.depth_prediction import DepthPrediction
from ..data.world import Batch, true_depth
from ..flow import interpolate
from ..sheets import SHEET_GUIDANCE, SHEET_STEPS
from .base import Prompt
from .sampling import sample_latent
from .stages import BaseStage, FusionStage, draw

# A picture of a megapixel is sampled in SHEET_STEPS x 2 passes: all held-out samples are measured, so many are drawn.
SHEET_ROWS = 4
SHEET_BATCH = 2
SHEET_DEPTH_SEED = 0


@dataclass(frozen=True)
class Sheet:
    """columns: pictures (B, 3, H, W) in [-1, 1], of one size, or none. metrics: means over `count` samples."""

    columns: list[torch.Tensor]
    metrics: dict[str, float]
    count: int


def joined(sheets: list[Sheet]) -> Sheet:
    """One sheet of SHEET_ROWS rows, and the means over all samples."""
    columns = [torch.cat(parts)[:SHEET_ROWS] for parts in zip(*(sheet.columns for sheet in sheets if sheet.columns))]
    count = sum(sheet.count for sheet in sheets)
    names = sheets[0].metrics
    return Sheet(columns, {n: sum(s.metrics[n] * s.count for s in sheets) / count for n in names}, count)


def in_sheet_batches(places: list[Any]) -> list[list[Any]]:
    """Cut into SHEET_BATCH each; the last may have one more, since a sample alone has no other's depth to try."""
    batches = [places[start : start + SHEET_BATCH] for start in range(0, len(places), SHEET_BATCH)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = batches[-1] + last
    return batches


@torch.no_grad()
def draw_sheet(stage: BaseStage, batch: Batch, pictures: bool = True) -> Sheet:
    """True image | (source) | true depth | mean depth | (with a depth flow) sampled depth | (stage 2) generated image
    from the last depth; without `pictures` the metrics.

    The flow loss is measured with the mean as the scaffold, with another sample's and without: the adapter is used
    where they differ. batch: as in training, and sheet_time (B,), the time at which a sample's flow loss is measured.
    """
    prompt = stage.prompt(batch)
    raw = stage.predict(batch, prompt)
    prediction = scaffold = raw.to_metric_depth()
    latent = stage.latent(batch)
    drawn = _known_columns(stage, batch, latent, prediction) if pictures else []
    metrics = _depth_metrics(raw, batch)
    if stage.run.depth_flow > 0:
        sampled = stage.sample(batch, prompt, SHEET_DEPTH_SEED)
        scaffold = sampled.to_metric_depth()
        metrics |= {f"{name}_sampled": value for name, value in _depth_metrics(sampled, batch).items()}
        if pictures:
            drawn.append(depth_picture(scaffold))
    if isinstance(stage, FusionStage):
        features = stage.features(prediction, *latent.shape[-2:])
        noise = draw(batch["noise_seed"], latent, stage.run).noise
        reference = stage.reference(batch)
        metrics |= _flow_metrics(stage, latent, noise, batch["sheet_time"], prompt, features, reference)
        if pictures:
            features = stage.features(scaffold, *latent.shape[-2:])
            drawn.append(stage.base.decode_latent(_sample(stage, batch, noise, prompt, features, reference)))
    return Sheet([picture.float().cpu() * 2 - 1 for picture in drawn], metrics, len(latent))


def _depth_metrics(prediction: DepthPrediction, batch: Batch) -> dict[str, float]:
    depth_m, true_m = prediction.log_depth.exp(), batch["depth_m"]
    return {
        "abs_rel": depth_metrics.abs_rel(depth_m, true_m).mean().item(),
        "delta1": depth_metrics.delta1(depth_m, true_m).mean().item(),
    }


def _known_columns(stage: BaseStage, batch: Batch, latent: torch.Tensor, prediction: MetricDepth) -> list[torch.Tensor]:
    """All but the generated image, in [0, 1]."""
    image = batch["rgb"].float() / 255 if "rgb" in batch else stage.base.decode_latent(latent)
    source = [batch["source"].float() / 255] if "source" in batch else []
    return [image, *source, depth_picture(true_depth(batch)), depth_picture(prediction)]


def _flow_metrics(
    stage: FusionStage,
    latent: torch.Tensor,
    noise: torch.Tensor,
    time: torch.Tensor,
    prompt: Prompt,
    features: torch.Tensor,
    reference: torch.Tensor | None,
) -> dict[str, float]:
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
    return sample_latent(stage.base, prompt, empty, features, noise, SHEET_STEPS, SHEET_GUIDANCE, reference, reference)
