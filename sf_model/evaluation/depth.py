"""python -m sf_model.evaluation depth: is the predicted depth right, compared with baselines that see less?

  mean          the regression: the mean of all scenes that fit the prompt
  sampled       one sampled scene, as the nodes give it by default; only with a depth flow
  constant      the one depth that minimises AbsRel over training renders of the same kinds of captions
  mean map      their mean log depth at every pixel, which knows that the ground is below and near
  empty ground  the true camera above the ground without objects; only the objects' places are missing

AbsRel and delta1 are over all pixels with a true surface, and over those of objects, which are few. A surface predicted
as sky is wrong in delta1. Its AbsRel uses the depth that was predicted there. The empty ground has no depth in the sky,
and so no AbsRel.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import world
from ..depth import metrics as depth_metrics
from ..depth.metric_depth import MAX_DEPTH_M, MIN_DEPTH_M
from ..models.depth_prediction import DepthPrediction
from .arguments import add_network_arguments, depth_sampler, network_record
from .bootstrap import Estimate, mean_with_interval
from .depth_baselines import Baselines, fit_baselines
from .report import estimates_markdown, write_report
from .sampling import BUILTIN, Predictor, SystemSampler
from .workers import map_batches

BATCH = 20
BASELINE_RENDERS = 512
# The row over all kinds. Every kind has the same weight.
ALL = "all"
EMPTY_GROUND = "empty ground"


@dataclass(frozen=True)
class Shown:
    """Depth maps (B, H, W) in metres."""

    # A depth at every pixel, also where sky is predicted. None for a method without depth in the sky.
    depth_m: torch.Tensor | None
    # inf where sky is predicted.
    shown_m: torch.Tensor


Method = Callable[[Sequence[world.CaptionedScene], Sequence[int]], Shown]
"""(captioned scenes, their numbers) -> maps of the benchmark's size."""


def shown_prediction(prediction: DepthPrediction) -> Shown:
    """The maps of a prediction."""
    depth_m = prediction.log_depth.float().exp().clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    return Shown(depth_m, prediction.to_metric_depth().depth)


def accuracy(shown: Shown, true_m: torch.Tensor, where: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B,) each, over the true surfaces among the pixels `where` (B, H, W) bool; nan for an image without any.

    true_m: (B, H, W) metres, inf for sky.
    """
    judged_m = torch.where(where, true_m, torch.full_like(true_m, torch.inf))
    none = torch.where(torch.isfinite(judged_m).flatten(1).any(dim=1), 0.0, math.nan)
    share = depth_metrics.delta1(shown.shown_m, judged_m) + none
    error = torch.full_like(share, math.nan)
    if shown.depth_m is not None:
        error = depth_metrics.abs_rel(shown.depth_m, judged_m) + none
    return {"AbsRel": error, "delta1": share}


def measures(shown: Shown, true_m: torch.Tensor, is_object: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B,) each: the accuracy of all surfaces, of those of objects, and of the sky. is_object: (B, H, W) bool."""
    everywhere = accuracy(shown, true_m, torch.ones_like(is_object))
    of_objects = {f"{name} of objects": value for name, value in accuracy(shown, true_m, is_object).items()}
    sky = (torch.isfinite(shown.shown_m) == torch.isfinite(true_m)).float().mean(dim=(1, 2))
    return {**everywhere, **of_objects, "sky right": sky}


def _methods(sampler: SystemSampler, baselines: Baselines, seed: int) -> dict[str, Method]:
    size = sampler.image_size

    def predicted(predict: Predictor) -> Method:
        return lambda items, numbers: shown_prediction(predict([item.caption for item in items], numbers))

    def everywhere(depth_m: torch.Tensor, items: Sequence[world.CaptionedScene]) -> Shown:
        maps = depth_m.expand(len(items), size, size)
        return Shown(maps, maps)

    def empty_ground(items: Sequence[world.CaptionedScene], numbers: Sequence[int]) -> Shown:
        depth_m = world.render([replace(item.scene, objects=()) for item in items], size, size).depth_m
        return Shown(None, depth_m)

    return {
        **{name: predicted(predict) for name, predict in sampler.predictors(seed).items()},
        "constant": lambda items, numbers: everywhere(torch.tensor(baselines.constant_m), items),
        "mean map": lambda items, numbers: everywhere(baselines.mean_map_m, items),
        EMPTY_GROUND: empty_ground,
    }


def _measured(
    method: Method, captions: Sequence[world.CaptionedScene], size: int, label: str
) -> list[dict[str, float]]:
    def measured(batch: Sequence[tuple[int, world.CaptionedScene]]) -> list[dict[str, float]]:
        numbers, items = zip(*batch)
        rendering = world.render([item.scene for item in items], size, size)
        values = measures(method(items, numbers), rendering.depth_m, rendering.object_index >= 0)
        return [{name: value[place].item() for name, value in values.items()} for place in range(len(batch))]

    return map_batches(measured, list(enumerate(captions)), BATCH, label, "caption")


def measure_depth(
    sampler: SystemSampler, kinds: Sequence[str], images: int, seed: int
) -> dict[str, dict[str, dict[str, Estimate | None]]]:
    """{caption kind, and ALL: {method: {measure: mean with interval}}} on `images` held-out captions of each kind."""
    size = sampler.image_size
    rng = random.Random(f"depth-baselines-{seed}")
    of_kinds = itertools.islice(itertools.cycle(kinds), BASELINE_RENDERS)
    training = [world.sample(rng, kind, "train").scene for kind in of_kinds]
    methods = _methods(sampler, fit_baselines(world.render(training, size, size).depth_m), seed)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for kind in kinds:
        rng = random.Random(f"depth-{kind}-{seed}")
        captions = [world.sample(rng, kind, "held_out") for _ in range(images)]
        results[kind] = {name: _measured(method, captions, size, f"{kind}, {name}") for name, method in methods.items()}
    table = {kind: {name: estimates([rows[name]]) for name in methods} for kind, rows in results.items()}
    if len(kinds) > 1:
        table[ALL] = {name: estimates([rows[name] for rows in results.values()]) for name in methods}
    return table


def estimates(strata: Sequence[Sequence[dict[str, float]]]) -> dict[str, Estimate | None]:
    """{measure: mean of the strata's means}. nan values are left out; None if a stratum has only these."""
    table: dict[str, Estimate | None] = {}
    for name in strata[0][0]:
        values = [[row[name] for row in rows if not math.isnan(row[name])] for rows in strata]
        table[name] = mean_with_interval(values) if all(values) else None
    return table


def markdown(table: dict[str, dict[str, dict[str, Estimate | None]]]) -> str:
    rows = (((kind, name), row) for kind, methods in table.items() for name, row in methods.items())
    return estimates_markdown(("captions", "depth"), rows)


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("depth", help="AbsRel and delta1 of predicted depth, beside four baselines")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or an exported folder')
    command.add_argument("--images", type=int, default=100, help="held-out captions of each kind")
    command.add_argument(
        "--kinds", nargs="+", choices=world.KINDS, default=list(world.KINDS), help="of captions; free fixes the scene"
    )
    add_network_arguments(command, Path("output/depth"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    sampler = depth_sampler(arguments)
    table = measure_depth(sampler, arguments.kinds, arguments.images, arguments.seed)
    run_record = network_record(arguments, sampler, captions_per_kind=arguments.images, kinds=arguments.kinds)
    write_report(arguments.output, "depth", run_record, table, markdown(table))
