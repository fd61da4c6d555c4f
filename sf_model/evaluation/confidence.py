"""python -m sf_model.evaluation confidence: is the predicted depth better where its confidence is higher?"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from .. import world
from ..depth.metric_depth import MAX_DEPTH_M, MIN_DEPTH_M
from ..training.losses import CONFIDENT_ERROR
from .arguments import add_network_arguments, depth_sampler, network_record
from .report import write_report
from .sampling import BUILTIN, Predictor, SystemSampler
from .workers import map_batches

DECILES = 10
BATCH = 24


@dataclass(frozen=True)
class Decile:
    """Means over one tenth of the pixels, ranked by confidence."""

    confidence: float
    # |log depth error|.
    log_error: float
    # The confidence that the errors deserve: min(1, CONFIDENT_ERROR / |error|), the optimum of the loss.
    deserved: float


def deciles(confidence: torch.Tensor, log_error: torch.Tensor) -> list[Decile]:
    """Ten equal parts of the pixels by rank of confidence, the lowest first. Both (N,), N at least 10."""
    order = confidence.argsort()
    deserved = (CONFIDENT_ERROR / log_error.clamp_min(CONFIDENT_ERROR)).clamp(max=1)
    return [
        Decile(confidence[part].mean().item(), log_error[part].mean().item(), deserved[part].mean().item())
        for part in order.tensor_split(DECILES)
    ]


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's coefficient between a sequence and its order: -1 if every value is below the previous one."""
    ranks = torch.tensor(values, dtype=torch.float64).argsort().argsort().double()
    places = torch.arange(len(values), dtype=torch.float64)
    return torch.corrcoef(torch.stack([places, ranks]))[0, 1].item()


def measure_confidence(sampler: SystemSampler, images: int, seed: int) -> dict[str, list[Decile]]:
    """{"mean" | "sampled": deciles} over the true surfaces of held-out captions, of all kinds in turn."""
    rng = random.Random(f"confidence-{seed}")
    kinds = itertools.islice(itertools.cycle(world.KINDS), images)
    captions = list(enumerate(world.sample(rng, kind, "held_out") for kind in kinds))
    table = {}
    for name, predict in sampler.predictors(seed).items():
        pixels = map_batches(partial(_pixels, predict, sampler.image_size), captions, BATCH, name, "caption")
        confidences, errors = zip(*pixels)
        table[name] = deciles(torch.cat(confidences), torch.cat(errors))
    return table


def _pixels(
    predict: Predictor, size: int, batch: Sequence[tuple[int, world.CaptionedScene]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Confidence and |log depth error|, both (N,), of each image's pixels with a true surface."""
    numbers, items = zip(*batch)
    prediction = predict([item.caption for item in items], numbers)
    true_m = world.render([item.scene for item in items], size, size).depth_m
    confidence = torch.sigmoid(prediction.confidence_logit)
    error = (prediction.log_depth - true_m.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()).abs()
    surface = torch.isfinite(true_m)
    return [(confidence[place][surface[place]], error[place][surface[place]]) for place in range(len(batch))]


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("confidence", help="error of the predicted depth by decile of its confidence")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or an exported folder')
    command.add_argument("--images", type=int, default=240, help="held-out captions, of all kinds in turn")
    add_network_arguments(command, Path("output/confidence"))
    command.set_defaults(run_command=run)


def markdown(table: dict[str, list[Decile]]) -> str:
    head = "| depth | decile of confidence | confidence | mean log error | deserved confidence |"
    lines = [head, "|" + "---|" * 5]
    for name, rows in table.items():
        lines += [
            f"| {name} | {number} | {row.confidence:.3f} | {row.log_error:.3f} | {row.deserved:.3f} |"
            for number, row in enumerate(rows, start=1)
        ]
    lines += [""] + [
        f"{name}: rank correlation of decile and error {rank_correlation([row.log_error for row in rows]):.2f} "
        "(-1: the more certain, the better)"
        for name, rows in table.items()
    ]
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> None:
    sampler = depth_sampler(arguments)
    table = measure_confidence(sampler, arguments.images, arguments.seed)
    run_record = network_record(arguments, sampler, captions=arguments.images, kinds=world.KINDS)
    write_report(arguments.output, "confidence", run_record, table, markdown(table))
