"""python -m sf_model.evaluation ambiguity: compare the mean of all scenes that fit a caption with sampled scenes.

Sharpness: boundary F1 against the true depth, and the number of edges for each true one. Diversity: how much the scenes
of several seeds differ, for captions that fix the scene (free) and for captions that leave it open (plain). The best of
several seeds shows whether the true scene is among the sampled ones. In delta1 a surface predicted as sky is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .. import world
from ..depth import metrics as depth_metrics
from ..depth.metric_depth import MAX_DEPTH_M, MetricDepth
from .arguments import add_network_arguments, depth_sampler, network_record
from .bootstrap import Estimate, mean_with_interval
from .report import estimates_markdown, write_report
from .sampling import BUILTIN, SystemSampler
from .workers import map_batches

KINDS = ("free", "plain")
MEAN, SAMPLED = "mean", "sampled"
BATCH = 24
SEEDS = 4
EDGE_THRESHOLD = 0.15


def differing(depth_m: torch.Tensor, other_m: torch.Tensor) -> torch.Tensor:
    """(B,) share of pixels at which maps (B, H, W) differ by more than a quarter. Sky counts as MAX_DEPTH_M."""
    ratio = depth_m.clamp(max=MAX_DEPTH_M) / other_m.clamp(max=MAX_DEPTH_M)
    return (torch.maximum(ratio, 1 / ratio) > depth_metrics.DELTA1_RATIO).float().mean(dim=(1, 2))


def edges_for_each_true_one(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) number of edge pixels over that of the true map."""
    edges = [depth_metrics.boundaries(depth, EDGE_THRESHOLD).any(dim=1) for depth in (depth_m, true_m)]
    found, true = (edge.sum(dim=(1, 2)).float() for edge in edges)
    return found / true.clamp_min(1)


def measures(drawn: Sequence[torch.Tensor], true_m: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B,) each. drawn: maps (B, H, W) for the same captions, one for each seed."""
    shares = torch.stack([depth_metrics.delta1(depth.clamp(max=MAX_DEPTH_M), true_m) for depth in drawn])
    result = {
        "boundary F1": depth_metrics.boundary_f1(drawn[0], true_m),
        "edges": edges_for_each_true_one(drawn[0], true_m),
        "delta1": shares[0],
    }
    if len(drawn) > 1:
        apart = torch.stack([differing(a, b) for a, b in itertools.combinations(drawn, 2)])
        result |= {f"delta1, best of {len(drawn)}": shares.max(dim=0).values, "seeds differ": apart.mean(dim=0)}
    return result


Drawer = Callable[[Sequence[str], Sequence[int]], list[MetricDepth]]
"""(captions, their numbers) -> depth maps, one for each seed."""


def _drawers(sampler: SystemSampler, seed: int) -> dict[str, Drawer]:
    rows: dict[str, Drawer] = {MEAN: lambda texts, _: [sampler.predict_depth(texts)]}
    if sampler.samples_depth:
        seeds = range(seed, seed + SEEDS)
        rows[SAMPLED] = lambda texts, numbers: [sampler.sample_depth(texts, numbers, one) for one in seeds]
    return rows


def _row(draw: Drawer, captions: Sequence[world.CaptionedScene], size: int, label: str) -> dict[str, Estimate]:
    def measured(batch: Sequence[tuple[int, world.CaptionedScene]]) -> list[dict[str, float]]:
        numbers, items = zip(*batch)
        true_m = world.render([item.scene for item in items], size, size).depth_m
        depths = draw([item.caption for item in items], numbers)
        values = measures([depth.depth for depth in depths], true_m)
        return [{name: value[place].item() for name, value in values.items()} for place in range(len(batch))]

    results = map_batches(measured, list(enumerate(captions)), BATCH, label, "caption")
    return {name: mean_with_interval([[result[name] for result in results]]) for name in results[0]}


def measure_ambiguity(sampler: SystemSampler, images: int, seed: int) -> dict[str, dict[str, dict[str, Estimate]]]:
    """{caption kind: {row: {measure: mean with interval}}} on held-out captions."""
    table: dict[str, dict[str, dict[str, Estimate]]] = {}
    for kind in KINDS:
        rng = random.Random(f"ambiguity-{kind}-{seed}")
        captions = [world.sample(rng, kind, "held_out") for _ in range(images)]
        table[kind] = {
            name: _row(draw, captions, sampler.image_size, f"{kind}, {name}")
            for name, draw in _drawers(sampler, seed).items()
        }
    return table


def markdown(table: dict[str, dict[str, dict[str, Estimate]]]) -> str:
    rows = (((kind, name), row) for kind, drawn in table.items() for name, row in drawn.items())
    return estimates_markdown(("captions", "depth"), rows)


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("ambiguity", help="sharpness and diversity of sampled depth, beside the mean")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or an exported folder')
    command.add_argument("--images", type=int, default=96, help="held-out captions of each kind")
    add_network_arguments(command, Path("output/ambiguity"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    sampler = depth_sampler(arguments)
    table = measure_ambiguity(sampler, arguments.images, arguments.seed)
    run_record = network_record(arguments, sampler, captions_per_kind=arguments.images, kinds=KINDS)
    write_report(arguments.output, "ambiguity", run_record, table, markdown(table))
