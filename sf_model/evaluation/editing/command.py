"""python -m sf_model.evaluation edit: the edit benchmark's table.

Rows without a system: ceiling is the true renders of the edited scenes, floor a blank image, unchanged the source
image. The other rows edit the source by the instruction, with one of these depths: the system's own, as the nodes give
it by default; the mean of all scenes that fit; the true depth of the edited scene (oracle); the depth for another edit
of the same kind (shuffled); none (blank). Several --weights, or one name in several --compare, are training seeds; the
row is their mean.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ... import world
from ...depth.metric_depth import MetricDepth
from ...scene_reader.accuracy import READER_IMAGES, ReaderAccuracy, measure
from ...scene_reader.decode import decode, read
from ...scene_reader.network import SceneReader
from ...scene_reader.weights import load_reader
from ..arguments import add_drawing_arguments, add_system_arguments, provenance, sampler_of, weights_record
from ..bootstrap import Estimate, mean_with_interval
from ..minispace.rows import BLANK, BLANK_GREY, CEILING, FLOOR, FUSION, MEAN, ORACLE, SHUFFLED, scaffold_of
from ..report import write_scores
from ..sampling import SystemSampler, no_depth, scene_depth, weights_directory
from ..workers import map_batches
from .depth import edit_depth
from .depth import markdown as edit_depth_markdown
from .prompts import EDIT_KINDS, PROMPTS_PER_KIND, QUICK_PROMPTS_PER_KIND, EditPrompt, edit_prompts
from .scoring import EditScore, edit_score, pixels_changed, pixels_stayed

MEASURES = ("overall", "change", "objects_stayed", "pixels_stayed", "unasked")
UNCHANGED = "unchanged"
SCAFFOLD_ROWS = (BLANK, SHUFFLED, MEAN, FUSION, ORACLE)
ROWS = (FLOOR, UNCHANGED, *SCAFFOLD_ROWS, CEILING)
BATCH = 40

EditDrawer = Callable[[Sequence[EditPrompt], torch.Tensor], torch.Tensor]
"""(prompts, sources (B, 3, S, S) in [0, 1]) -> edited images of the same size."""


def shuffled_partners(prompts: Sequence[EditPrompt]) -> dict[int, EditPrompt]:
    """{prompt's number: the next prompt of its kind}. The last has the first; a single prompt has itself."""
    partners = {}
    for kind in EDIT_KINDS:
        group = [prompt for prompt in prompts if prompt.pair.kind == kind]
        partners |= {one.number: other for one, other in zip(group, [*group[1:], *group[:1]])}
    return partners


def edit_drawer(sampler: SystemSampler, scaffold: str, partners: dict[int, EditPrompt], seed: int) -> EditDrawer:
    """Edits by a trained system with the depth of one of SCAFFOLD_ROWS. partners: from `shuffled_partners`.

    ValueError for a system that takes no source image.
    """
    if not sampler.takes_source:
        raise ValueError("these weights take no source image; train them on edit pairs first")

    def scaffold_of(prompts: Sequence[EditPrompt], instructions: list[str], sources: torch.Tensor) -> MetricDepth:
        size = sources.shape[-1]
        if scaffold == BLANK:
            return no_depth(len(prompts), size)
        if scaffold == ORACLE:
            return scene_depth([prompt.pair.target for prompt in prompts], size)
        if scaffold == MEAN:
            return sampler.predict_depth(instructions, sources)
        if scaffold == SHUFFLED:
            others = [partners[prompt.number] for prompt in prompts]
            instructions, sources = [other.pair.instruction for other in others], source_images(others, size)
        return sampler.scaffold(instructions, [prompt.number for prompt in prompts], seed, sources)

    def draw(prompts: Sequence[EditPrompt], sources: torch.Tensor) -> torch.Tensor:
        instructions = [prompt.pair.instruction for prompt in prompts]
        noise = sampler.noise([prompt.number for prompt in prompts], seed, sources.shape[-1])
        return sampler.draw(instructions, scaffold_of(prompts, instructions, sources), noise, sources)

    return draw


def blank_images(prompts: Sequence[EditPrompt], sources: torch.Tensor) -> torch.Tensor:
    return torch.full_like(sources, BLANK_GREY)


def unchanged(prompts: Sequence[EditPrompt], sources: torch.Tensor) -> torch.Tensor:
    return sources


def source_images(prompts: Sequence[EditPrompt], size: int) -> torch.Tensor:
    return world.render([prompt.pair.source for prompt in prompts], size, size).rgb


def true_edits(prompts: Sequence[EditPrompt], sources: torch.Tensor) -> torch.Tensor:
    size = sources.shape[-1]
    return world.render([prompt.pair.target for prompt in prompts], size, size).rgb


def run_row(
    name: str, prompts: Sequence[EditPrompt], draw: EditDrawer, reader: SceneReader, size: int
) -> list[EditScore]:
    """Draw, read and score every edit at `size` pixels a side, with a progress bar."""

    def scored(batch: Sequence[EditPrompt]) -> list[EditScore]:
        sources = source_images(batch, size)
        edited, targets = draw(batch, sources), true_edits(batch, sources)
        readings = zip(decode(read(reader, sources)), decode(read(reader, edited)))
        shares = [share(sources, targets, edited).tolist() for share in (pixels_stayed, pixels_changed)]
        return [
            edit_score(prompt.pair, before, after, stayed, changed)
            for prompt, (before, after), stayed, changed in zip(batch, readings, *shares)
        ]

    return map_batches(scored, prompts, BATCH, name, "edit")


def summarise(prompts: Sequence[EditPrompt], runs: Sequence[Sequence[EditScore]]) -> dict[str, Estimate]:
    """In percent: every measure over all kinds, and `overall` of each kind. Mean of `runs`, one per training seed."""

    def strata(measure: str, kinds: Sequence[str]) -> list[list[float]]:
        means = [100 * statistics.fmean(getattr(one, measure) for one in scores) for scores in zip(*runs)]
        return [[mean for prompt, mean in zip(prompts, means) if prompt.pair.kind == kind] for kind in kinds]

    row = {measure: mean_with_interval(strata(measure, EDIT_KINDS)) for measure in MEASURES}
    return row | {kind: mean_with_interval(strata("overall", [kind])) for kind in EDIT_KINDS}


def markdown(rows: dict[str, dict[str, Estimate]]) -> str:
    columns = [*MEASURES, *EDIT_KINDS]
    lines = ["| " + " | ".join(["row", *(name.replace("_", " ") for name in columns)]) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    lines += ["| " + " | ".join([name, *(str(row[c]) for c in columns)]) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("edit", help="change pose, move by 1 m, resize, add, remove")
    add_system_arguments(command)
    command.add_argument("--rows", nargs="+", choices=ROWS, help="default: all that the weights can do")
    command.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS_PER_KIND} edits a kind")
    command.add_argument("--prompts", type=int, help=f"edits a kind (default {PROMPTS_PER_KIND})")
    add_drawing_arguments(command, Path("output/edit"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    count = arguments.prompts or (QUICK_PROMPTS_PER_KIND if arguments.quick else PROMPTS_PER_KIND)
    prompts = edit_prompts(arguments.seed, count)
    try:
        reader = load_reader(arguments.reader)
        weights = weights_record(arguments, FUSION, ROWS)
        own = [sampler_of(arguments, weights_directory(name)) for name in arguments.weights]
        drawers = _drawers(arguments, own, shuffled_partners(prompts))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    # One size for all rows: the share of pixels that stay depends on it.
    size = own[0].image_size
    run_record = {**provenance(arguments, size), "prompts_per_kind": count, "weights": weights}
    scores = {name: [run_row(name, prompts, draw, reader, size) for draw in seeds] for name, seeds in drawers.items()}
    accuracy = measure(reader, READER_IMAGES, arguments.seed)
    # Depth is measured for the systems of --weights only, not for those of --compare.
    asked = {MEAN, FUSION} & set(drawers)
    depths = edit_depth(own, prompts, arguments.seed, size) if asked else {}
    _write(arguments.output, run_record, prompts, scores, accuracy, depths)


def _rows_of(own: Sequence[SystemSampler], weights: Sequence[str]) -> tuple[str, ...]:
    without = [name for name, sampler in zip(weights, own) if not sampler.takes_source]
    if not without:
        return ROWS
    print(f"not trained to edit: {', '.join(without)}; only {FLOOR}, {UNCHANGED} and {CEILING} are measured")
    return FLOOR, UNCHANGED, CEILING


def _drawers(
    arguments: argparse.Namespace, own: Sequence[SystemSampler], partners: dict[int, EditPrompt]
) -> dict[str, list[EditDrawer]]:
    """{row: a drawer for each of its training seeds}, in the table's order."""
    rows, seed = arguments.rows or _rows_of(own, arguments.weights), arguments.seed
    without_weights: dict[str, EditDrawer] = {FLOOR: blank_images, UNCHANGED: unchanged}
    drawers = {name: [drawer] for name, drawer in without_weights.items() if name in rows}
    for name, directory in arguments.compare:
        sampler = sampler_of(arguments, directory)
        drawers.setdefault(name, []).append(edit_drawer(sampler, scaffold_of(sampler), partners, seed))
    for name in SCAFFOLD_ROWS:
        if name in rows:
            drawers[name] = [edit_drawer(sampler, name, partners, seed) for sampler in own]
    if CEILING in rows:
        drawers[CEILING] = [true_edits]
    return drawers


def _write(
    output: Path,
    run_record: dict[str, Any],
    prompts: Sequence[EditPrompt],
    scores: dict[str, list[list[EditScore]]],
    accuracy: dict[str, ReaderAccuracy],
    depths: dict[str, dict[str, Estimate | None]],
) -> None:
    rows = {name: summarise(prompts, runs) for name, runs in scores.items()}
    by_prompt = [
        {
            "number": prompt.number,
            "kind": prompt.pair.kind,
            "instruction": prompt.pair.instruction,
            "results": {
                name: [{**asdict(one[index]), "overall": one[index].overall} for one in runs]
                for name, runs in scores.items()
            },
        }
        for index, prompt in enumerate(prompts)
    ]
    tables = [markdown(rows), *([edit_depth_markdown(depths)] if depths else [])]
    write_scores(output, "edit", "Edits", run_record, accuracy, {"rows": rows, "depth": depths}, by_prompt, tables)
