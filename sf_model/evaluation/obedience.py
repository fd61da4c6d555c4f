"""python -m sf_model.evaluation obedience: does the generated image have the depth that it was given?

The scene reader reads the depth from the image. It is compared with the given depth (the scaffold) at pixels where both
have a surface, by AbsRel and by SI-RMSE (in log depth; it ignores one factor for the whole image).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from .. import world
from ..depth import metrics as depth_metrics
from ..depth.metric_depth import MetricDepth
from ..scene_reader.decode import decode_depth, read
from ..scene_reader.network import SceneReader
from ..scene_reader.weights import load_reader
from .arguments import add_drawing_arguments, drawing_record, sampler_of
from .bootstrap import Estimate, mean_with_interval
from .report import write_report
from .sampling import BUILTIN, SystemSampler, no_depth, rendered_depth, weights_directory
from .workers import map_batches

BATCH = 32
KIND = "free"

Images = Callable[[list[world.CaptionedScene], range], tuple[torch.Tensor, MetricDepth]]


def si_rmse(depth_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """(B,) root of the variance of log(depth / true) (Eigen et al. 2014), where both (B, H, W) are finite.

    nan if they are finite at no pixel.
    """
    both = torch.isfinite(depth_m) & torch.isfinite(true_m)
    ones = torch.ones_like(true_m)
    error = torch.where(both, depth_m, ones).log() - torch.where(both, true_m, ones).log()
    count = both.sum(dim=(1, 2))
    mean = error.sum(dim=(1, 2)) / count
    return (error.square().sum(dim=(1, 2)) / count - mean.square()).clamp_min(0).sqrt()


def obedience(read_m: torch.Tensor, scaffold_m: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B,) each: si_rmse, abs_rel, and the share of pixels that are surface, or sky, in both.

    read_m, scaffold_m: (B, H, W) metres, inf for sky.
    """
    both = torch.isfinite(read_m) & torch.isfinite(scaffold_m)
    given = torch.where(both, scaffold_m, torch.full_like(scaffold_m, torch.inf))
    seen = torch.where(both, read_m, torch.ones_like(read_m))
    agreed = (torch.isfinite(read_m) == torch.isfinite(scaffold_m)).float().mean(dim=(1, 2))
    return {"si_rmse": si_rmse(read_m, scaffold_m), "abs_rel": depth_metrics.abs_rel(seen, given), "sky": agreed}


def _measure(
    captions: list[world.CaptionedScene], images: Images, reader: SceneReader, label: str
) -> list[dict[str, float]]:
    size = reader.config.image_size

    def measured(batch: Sequence[tuple[int, world.CaptionedScene]]) -> list[dict[str, float]]:
        numbers, items = zip(*batch)
        drawn, scaffold = images(list(items), range(numbers[0], numbers[-1] + 1))
        depth = decode_depth(read(reader, drawn)).depth
        given = F.interpolate(scaffold.depth[:, None], size=(size, size), mode="nearest")[:, 0]
        # An image without any surface gets an error of 1, as if each depth were wrong by its own size.
        values = {name: torch.nan_to_num(value, nan=1.0) for name, value in obedience(depth, given).items()}
        return [{name: value[place].item() for name, value in values.items()} for place in range(len(batch))]

    return map_batches(measured, list(enumerate(captions)), BATCH, label, "caption")


def _rendering(captions: list[world.CaptionedScene], size: int) -> tuple[torch.Tensor, MetricDepth]:
    scenes = [item.scene for item in captions]
    rendering = world.render(scenes, size, size)
    return rendering.rgb, rendered_depth(rendering, scenes)


def _rows(sampler: SystemSampler, every: Sequence[world.CaptionedScene], seed: int) -> dict[str, Images]:
    """every: all captions; the rows draw batches of them. "another caption" is the next one."""
    size = sampler.image_size

    def draw(captions: list[world.CaptionedScene], numbers: range, depth: MetricDepth) -> torch.Tensor:
        return sampler.draw([item.caption for item in captions], depth, sampler.noise(numbers, seed))

    def predicted(captions: list[world.CaptionedScene], numbers: range) -> tuple[torch.Tensor, MetricDepth]:
        depth = sampler.scaffold([item.caption for item in captions], numbers, seed)
        return draw(captions, numbers, depth), depth

    def oracle(captions: list[world.CaptionedScene], numbers: range) -> tuple[torch.Tensor, MetricDepth]:
        depth = _rendering(captions, size)[1]
        return draw(captions, numbers, depth), depth

    def foreign(captions: list[world.CaptionedScene], numbers: range) -> tuple[torch.Tensor, MetricDepth]:
        depth = _rendering([every[(number + 1) % len(every)] for number in numbers], size)[1]
        return draw(captions, numbers, depth), depth

    def without(captions: list[world.CaptionedScene], numbers: range) -> tuple[torch.Tensor, MetricDepth]:
        return draw(captions, numbers, no_depth(len(captions), size)), _rendering(captions, size)[1]

    return {
        "predicted depth": predicted,
        "true depth of the caption": oracle,
        "true depth of another caption": foreign,
        "no depth, against the true one": without,
        "ceiling (renders)": lambda captions, numbers: _rendering(captions, size),
    }


def measure_obedience(
    sampler: SystemSampler, reader: SceneReader, images: int, seed: int
) -> dict[str, dict[str, Estimate]]:
    """{row: {measure: mean with interval}} on held-out captions that fix the scene. ValueError for fewer than two."""
    if images < 2:
        raise ValueError(f"obedience needs two captions at least, for a depth of another one; --images is {images}")
    rng = random.Random(f"obedience-{seed}")
    captions = [world.sample(rng, KIND, "held_out") for _ in range(images)]
    table = {}
    for name, draw in _rows(sampler, captions, seed).items():
        results = _measure(captions, draw, reader, name)
        table[name] = {measure: mean_with_interval([[result[measure] for result in results]]) for measure in results[0]}
    return table


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("obedience", help="depth read back from generated images against the scaffold")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or an exported folder')
    command.add_argument("--images", type=int, default=128)
    add_drawing_arguments(command, Path("output/obedience"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    directory = weights_directory(arguments.weights)
    try:
        reader, sampler = load_reader(arguments.reader), sampler_of(arguments, directory)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if not sampler.reads_depth:
        raise SystemExit(f"{arguments.weights}: the adapter was not trained, so that no image follows a depth")
    try:
        table = measure_obedience(sampler, reader, arguments.images, arguments.seed)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    run_record = drawing_record(arguments, sampler, captions=arguments.images, kinds=(KIND,))
    lines = ["| scaffold | SI-RMSE | AbsRel | sky agreed |", "|---|---|---|---|"]
    for name, row in table.items():
        lines.append(f"| {' | '.join([name, *(value.text(3) for value in row.values())])} |")
    write_report(arguments.output, "obedience", run_record, table, "\n".join(lines))
