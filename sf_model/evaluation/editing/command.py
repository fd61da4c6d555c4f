"""python -m sf_model.evaluation edit: the edit benchmark's table.

ceiling: the true renders of the edited scenes. floor: the source image, unchanged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ... import world
from ..arguments import add_drawing_arguments, named_directory, provenance, sampler_of
from ..bootstrap import Estimate, mean_with_interval
from ..sampling import SystemSampler, noise_for, weights_sha256
from ..scene_reader.decode import decode, read
from ..scene_reader.network import SceneReader
from ..scene_reader.training import load_reader
from ..workers import map_batches
from .prompts import EDIT_KINDS, PROMPTS_PER_KIND, QUICK_PROMPTS_PER_KIND, EditPrompt, edit_prompts
from .scoring import EditScore, edit_score, pixels_stayed

MEASURES = ("overall", "change", "objects_stayed", "pixels_stayed")
BATCH = 40

EditDrawer = Callable[[Sequence[EditPrompt], torch.Tensor], torch.Tensor]
"""(prompts, sources (B, 3, S, S) in [0, 1]) -> edited images of the same size."""


def edit_drawer(sampler: SystemSampler, seed: int) -> EditDrawer:
    """Edits by a trained system. ValueError for one that takes no source image."""
    if not sampler.takes_source:
        raise ValueError("these weights take no source image; train them on edit pairs first")

    def draw(prompts: Sequence[EditPrompt], sources: torch.Tensor) -> torch.Tensor:
        instructions = [prompt.pair.instruction for prompt in prompts]
        numbers = [prompt.number for prompt in prompts]
        depth = sampler.scaffold(instructions, numbers, seed, sources)
        return sampler.draw(instructions, depth, noise_for(numbers, seed, sources.shape[-1]), sources)

    return draw


def true_edits(prompts: Sequence[EditPrompt], sources: torch.Tensor) -> torch.Tensor:
    size = sources.shape[-1]
    return world.render([prompt.pair.target for prompt in prompts], size, size).rgb


def run_row(
    name: str, prompts: Sequence[EditPrompt], draw: EditDrawer, reader: SceneReader, size: int
) -> list[EditScore]:
    """Draw, read and score every edit at `size` pixels a side, with a progress bar."""

    def scored(batch: Sequence[EditPrompt]) -> list[EditScore]:
        sources = world.render([prompt.pair.source for prompt in batch], size, size).rgb
        edited = draw(batch, sources)
        stayed = pixels_stayed(sources, true_edits(batch, sources), edited).tolist()
        readings = zip(decode(read(reader, sources)), decode(read(reader, edited)))
        return [
            edit_score(prompt.pair, before, after, share)
            for prompt, (before, after), share in zip(batch, readings, stayed)
        ]

    return map_batches(scored, prompts, BATCH, name, "edit")


def summarise(prompts: Sequence[EditPrompt], scores: Sequence[EditScore]) -> dict[str, Estimate]:
    """In percent: every measure over all kinds, and `overall` of each kind."""

    def strata(measure: str, kinds: Sequence[str]) -> list[list[float]]:
        return [[100 * getattr(s, measure) for p, s in zip(prompts, scores) if p.pair.kind == kind] for kind in kinds]

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
    command.add_argument(
        "--weights",
        type=named_directory,
        action="append",
        default=[],
        metavar="NAME=DIRECTORY",
        help="a system that takes a source image; beside the ceiling and the floor",
    )
    command.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS_PER_KIND} edits a kind")
    command.add_argument("--prompts", type=int, help=f"edits a kind (default {PROMPTS_PER_KIND})")
    add_drawing_arguments(command, Path("output/edit"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    count = arguments.prompts or (QUICK_PROMPTS_PER_KIND if arguments.quick else PROMPTS_PER_KIND)
    prompts = edit_prompts(arguments.seed, count)
    try:
        reader = load_reader(arguments.reader)
        samplers = {name: sampler_of(arguments, directory) for name, directory in arguments.weights}
        drawers = _drawers(samplers, arguments.seed)
        weights = {name: weights_sha256(directory) for name, directory in arguments.weights}
    except ValueError as error:
        raise SystemExit(str(error)) from error
    # One size for all rows: the share of pixels that stay depends on it.
    size = max((sampler.image_size for sampler in samplers.values()), default=reader.config.image_size)
    scores = {name: run_row(name, prompts, draw, reader, size) for name, draw in drawers.items()}
    run_record = {**provenance(arguments), "prompts_per_kind": count, "weights_sha256": weights}
    _write(arguments.output, run_record, prompts, scores)


def _drawers(samplers: dict[str, SystemSampler], seed: int) -> dict[str, EditDrawer]:
    """Rows, from the floor to the ceiling."""
    systems = {name: edit_drawer(sampler, seed) for name, sampler in samplers.items()}
    return {"floor": lambda batch, sources: sources, **systems, "ceiling": true_edits}


def _write(
    output: Path, run_record: dict[str, Any], prompts: Sequence[EditPrompt], scores: dict[str, list[EditScore]]
) -> None:
    rows = {name: summarise(prompts, row) for name, row in scores.items()}
    record: dict[str, Any] = {
        "run": run_record,
        "rows": {name: {column: asdict(value) for column, value in row.items()} for name, row in rows.items()},
        "prompts": [
            {
                "number": prompt.number,
                "kind": prompt.pair.kind,
                "instruction": prompt.pair.instruction,
                "results": {name: {**asdict(row[i]), "overall": row[i].overall} for name, row in scores.items()},
            }
            for i, prompt in enumerate(prompts)
        ],
    }
    output.mkdir(parents=True, exist_ok=True)
    run_lines = "\n".join(f"- {name}: {value}" for name, value in record["run"].items())
    (output / "edit.md").write_text(f"# Edits\n\n{run_lines}\n\n{markdown(rows)}\n", encoding="utf-8")
    (output / "edit.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    print(markdown(rows))
