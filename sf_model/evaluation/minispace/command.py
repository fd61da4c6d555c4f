"""python -m sf_model.evaluation minispace: the table of a system and its controls on MiniSpace."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ...scene_reader.accuracy import READER_IMAGES, measure
from ...scene_reader.network import SceneReader
from ...scene_reader.weights import load_reader
from ..arguments import add_drawing_arguments, add_system_arguments, provenance, sampler_of, weights_record
from ..report import write_scores
from ..sampling import SystemSampler, weights_directory, weights_sha256
from .kept_rows import KeptRows
from .prompts import PROMPTS_PER_TEMPLATE, QUICK_PROMPTS_PER_TEMPLATE, Prompt, minispace_prompts
from .rows import (
    BUILTIN_ROWS,
    CEILING,
    CHANCE,
    FLOOR,
    FUSION,
    SCAFFOLD_ROWS,
    Drawer,
    PromptResult,
    blank_images,
    run_row,
    scaffold_of,
    scattered_renders,
    shuffled_partners,
    system_drawer,
    true_renders,
)
from .table import (
    as_json,
    by_prompt,
    markdown,
    over_trainings,
    over_trainings_markdown,
    seed_mean,
    seed_means,
    seeds_markdown,
)


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("minispace", help="GenSpace's nine sub-domains, with controls, ceiling and floor")
    add_system_arguments(command)
    command.add_argument("--rows", nargs="+", choices=BUILTIN_ROWS, default=list(BUILTIN_ROWS))
    command.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS_PER_TEMPLATE} prompts a template")
    command.add_argument("--prompts", type=int, help=f"prompts a template (default {PROMPTS_PER_TEMPLATE})")
    add_drawing_arguments(command, Path("output/minispace"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    count = arguments.prompts or (QUICK_PROMPTS_PER_TEMPLATE if arguments.quick else PROMPTS_PER_TEMPLATE)
    try:
        reader = load_reader(arguments.reader)
        run_record = _run_record(arguments, count)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    prompts = minispace_prompts(arguments.seed, count)
    runs: dict[str, list[list[PromptResult]]] = {}
    # Each row has its own weights; they are checked separately.
    common = {name: value for name, value in run_record.items() if name != "weights"}
    kept = KeptRows(arguments.output / "rows", common)
    for row in _rows(arguments, prompts, run_record["image_size"], run_record["weights"]):
        results = kept.result(row.name, row.weights_sha256, partial(_measure, row, prompts, reader))
        runs.setdefault(row.name, []).append(results)
    ordered = [FLOOR, CHANCE, *dict(arguments.compare), *SCAFFOLD_ROWS, CEILING]
    results = {name: seed_mean(runs[name]) for name in ordered if name in runs}
    means = seed_means(prompts, {name: runs[name] for name in results})
    trainings = over_trainings(prompts, {name: runs[name] for name in results})
    accuracy = measure(reader, READER_IMAGES, arguments.seed)
    scores = {**as_json(prompts, results), "training_seeds": means, "over_trainings": trainings}
    tables = [markdown(prompts, results), seeds_markdown(means), over_trainings_markdown(trainings)]
    tables = [table for table in tables if table]
    prompt_scores = by_prompt(prompts, results)
    write_scores(arguments.output, "minispace", "MiniSpace", run_record, accuracy, scores, prompt_scores, tables)


@dataclass(frozen=True)
class _Row:
    """One row of one system, or of none."""

    name: str
    # For the progress bar.
    label: str
    # Loads the system.
    drawer: Callable[[], Drawer]
    weights_sha256: str | None = None


def _measure(row: _Row, prompts: list[Prompt], reader: SceneReader) -> list[PromptResult]:
    return run_row(row.label, prompts, row.drawer(), reader)


def _rows(
    arguments: argparse.Namespace, prompts: list[Prompt], size: int, weights: list[dict[str, Any]]
) -> Iterator[_Row]:
    """Every row of every system, with images of `size` pixels a side. weights: from `weights_record`."""
    asked = set(arguments.rows)
    renders: dict[str, Drawer] = {
        FLOOR: lambda batch: blank_images(batch, size),
        CHANCE: lambda batch: scattered_renders(batch, size),
        CEILING: lambda batch: true_renders(batch, size),
    }
    for name in (name for name in renders if name in asked):
        yield _Row(name, name, partial(renders.get, name))
    partners = shuffled_partners(prompts)
    sha256 = {weights_directory(entry["directory"]): entry["sha256"] for entry in weights}

    @lru_cache(maxsize=1)  # not all of them in memory
    def system_of(directory: Path) -> SystemSampler:
        system = sampler_of(arguments, directory, size)
        if weights_sha256(directory) != sha256[directory]:
            raise SystemExit(f"{directory} has other weights than when this run began")
        return system

    def drawer(directory: Path, scaffold: str | None) -> Drawer:
        system = system_of(directory)
        return system_drawer(system, scaffold or scaffold_of(system), partners, arguments.seed)

    scaffolds = [name for name in SCAFFOLD_ROWS if name in asked]
    wanted = [(name, name, directory) for directory in map(weights_directory, arguments.weights) for name in scaffolds]
    wanted += [(name, None, directory) for name, directory in arguments.compare]
    for name, scaffold, directory in wanted:
        yield _Row(name, f"{name} ({directory.name})", partial(drawer, directory, scaffold), sha256[directory])


def _run_record(arguments: argparse.Namespace, count: int) -> dict[str, Any]:
    weights = weights_record(arguments, FUSION, BUILTIN_ROWS)
    size = arguments.image_size or weights[0]["image_size"]
    return {**provenance(arguments, size), "prompts_per_template": count, "weights": weights}
