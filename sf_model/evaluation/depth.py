"""Depth accuracy of a system's prediction on held-out captions, beside two baselines that see no caption.

constant: the one depth that minimises AbsRel over training renders. mean map: the pixelwise mean log depth of training
renders, which knows that the ground is below and near. Both are fitted on the training split only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import depth_metrics, world
from ..depth_flow import DepthSampling, draw_noise
from ..depth_predictor import DepthPrediction
from ..metric_depth import MAX_DEPTH_M, MIN_DEPTH_M
from ..training.system import SpatialFusionSystem
from ..training.world_data import SPATIAL_MIXTURE, WorldBatches, WorldDataConfig

BATCH = 32
BASELINE_BATCHES = 16


@dataclass(frozen=True)
class DepthScore:
    """Means over images; `sky_accuracy` is the share of pixels whose surface-or-sky is right (nan for baselines).

    A surface that is taken for sky has an AbsRel, of the depth that it would have there, and is wrong for delta1."""

    abs_rel: float
    delta1: float
    sky_accuracy: float


@dataclass(frozen=True)
class Baselines:
    """`constant_m`: one depth in metres. `mean_map_m`: (H, W) metres."""

    constant_m: float
    mean_map_m: torch.Tensor


def fit_baselines(batches: Iterable[torch.Tensor]) -> Baselines:
    """From training depth maps (B, H, W) in metres, inf for sky."""
    maps = torch.cat(list(batches))
    return Baselines(_best_constant(maps[torch.isfinite(maps)]), _mean_map(maps))


def _best_constant(depths: torch.Tensor) -> float:
    """The c that minimises sum |c - d| / d: the median of d weighted by 1 / d."""
    ordered = depths.double().sort().values
    weight = (1 / ordered).cumsum(0)
    return ordered[torch.searchsorted(weight, weight[-1:] / 2)].item()


def _mean_map(maps: torch.Tensor) -> torch.Tensor:
    valid = torch.isfinite(maps)
    logs = torch.where(valid, maps, torch.ones_like(maps)).log()
    overall = logs[valid].mean()
    count = valid.sum(dim=0)
    mean = logs.sum(dim=0) / count.clamp_min(1)
    return torch.where(count > 0, mean, overall).exp()


def data_config(kind_weights: dict[str, float], split: str, image_size: int, seed: int, batch: int) -> WorldDataConfig:
    return WorldDataConfig(
        image_sizes=(image_size,),
        batch_size=batch,
        stream="evaluation",
        seed=seed,
        split=split,
        mixture=tuple(kind_weights.items()),
        language_batch=0,
        supersample=1,
        length_buckets=1,
        max_objects=4,
    )


@torch.no_grad()
def evaluate_depth(
    system: SpatialFusionSystem, tokenizer_dir: Path, images_per_kind: int, seed: int
) -> dict[str, dict[str, DepthScore]]:
    """{caption kind: {"prediction" | "sampled" | "constant" | "mean map": score}}, held-out split, and "all" kinds.

    prediction: the mean that the prompt allows; sampled: one scene of each, where there is a depth flow.
    """
    size = system.sizes.image_size
    training = WorldBatches(data_config(dict(SPATIAL_MIXTURE), "train", size, seed, BATCH), tokenizer_dir)
    baselines = fit_baselines(training[index]["depth_m"] for index in range(BASELINE_BATCHES))
    table: dict[str, dict[str, DepthScore]] = {}
    for kind in world.KINDS:
        batches = WorldBatches(data_config({kind: 1.0}, "held_out", size, seed, images_per_kind), tokenizer_dir)
        table[kind] = _score_batch(system, batches[0], baselines)
    names = next(iter(table.values())).keys()
    table["all"] = {name: _mean_score([row[name] for row in table.values()]) for name in names}
    return table


def _score_batch(
    system: SpatialFusionSystem, batch: dict[str, torch.Tensor], baselines: Baselines
) -> dict[str, DepthScore]:
    true = batch["depth_m"]
    prompt = system.encode(batch["input_ids"], batch["prompt_mask"])
    prediction = system.predict_depth(prompt, *true.shape[-2:])
    predictions = {"prediction": prediction}
    if system.predictor.depth_flow is not None:
        noise = draw_noise(system.predictor.noise_shape(len(true), *true.shape[-2:]), seed=0)
        predictions["sampled"] = system.sample_depth(prompt, *true.shape[-2:], DepthSampling(noise))
    return {
        **{name: score_prediction(value, true) for name, value in predictions.items()},
        "constant": _score_baseline(torch.full_like(true, baselines.constant_m), true),
        "mean map": _score_baseline(baselines.mean_map_m.expand_as(true), true),
    }


def score_prediction(prediction: DepthPrediction, true: torch.Tensor) -> DepthScore:
    """Of maps (B, H, W) against the true metres, inf for sky."""
    depth = prediction.log_depth.exp().clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    shown = prediction.to_metric_depth()
    sky_right = (shown.valid == torch.isfinite(true)).float().mean().item()
    return _score(depth, true, shown.depth, sky_right)


def _score(depth: torch.Tensor, true: torch.Tensor, shown: torch.Tensor, sky_accuracy: float) -> DepthScore:
    """shown: the depth with inf for what is predicted to be sky."""
    return DepthScore(
        depth_metrics.abs_rel(depth, true).mean().item(), depth_metrics.delta1(shown, true).mean().item(), sky_accuracy
    )


def _score_baseline(depth: torch.Tensor, true: torch.Tensor) -> DepthScore:
    return _score(depth, true, depth, float("nan"))


def _mean_score(scores: list[DepthScore]) -> DepthScore:
    count = len(scores)
    return DepthScore(
        sum(score.abs_rel for score in scores) / count,
        sum(score.delta1 for score in scores) / count,
        sum(score.sky_accuracy for score in scores) / count,
    )
