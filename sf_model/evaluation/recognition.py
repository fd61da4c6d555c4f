"""python -m sf_model.evaluation recognition: can the objects that a caption names be recognised in its image?

The scene reader, which was trained on renders only, names the objects that it sees. An object of the caption counts as
recognised if the reader names its category together with its colour. Every seen object counts once. Objects that were
not asked for are counted too: two cars are no better answer to "a car" than none.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from .. import world
from ..depth.metric_depth import MetricDepth
from ..scene_reader.decode import decode, read
from ..scene_reader.network import SceneReader
from ..scene_reader.reading import FoundObject
from ..scene_reader.weights import load_reader
from ..world.scene import SceneObject
from .arguments import add_drawing_arguments, drawing_record, sampler_of
from .bootstrap import Estimate, mean_with_interval
from .report import write_report
from .sampling import BUILTIN, SystemSampler, no_depth, scene_depth, weights_directory
from .workers import map_batches

BATCH = 32
FLOOR = "floor (renders of other captions)"
KINDS = ("plain", "free")
MEASURES: dict[str, Callable[[FoundObject | SceneObject], object]] = {
    "object": lambda thing: (thing.category, thing.color),
    "category": lambda thing: thing.category,
    "colour": lambda thing: thing.color,
}
UNASKED = "not asked for"
COLUMNS = (*MEASURES, UNASKED)

Images = Callable[[Sequence[world.CaptionedScene], range], torch.Tensor]


def recognised(found: Iterable[FoundObject], named: Sequence[SceneObject]) -> dict[str, float]:
    """Shares of the named objects that are found: by category and colour together ("object"), and by each alone.

    UNASKED: the number of found objects of other categories, or too many of one, over the number of named objects. It
    may exceed 1.
    """
    shares = {}
    found = tuple(found)
    for measure, key in MEASURES.items():
        left = [key(thing) for thing in found]
        hits = 0
        for thing in named:
            if key(thing) in left:
                left.remove(key(thing))
                hits += 1
        shares[measure] = hits / len(named)
    return {**shares, UNASKED: len(found) / len(named) - shares["category"]}


def _rows(sampler: SystemSampler, seed: int) -> dict[str, Images]:
    size = sampler.image_size

    def draw(scenes: Sequence[world.CaptionedScene], numbers: range, depth: MetricDepth) -> torch.Tensor:
        return sampler.draw([item.caption for item in scenes], depth, sampler.noise(numbers, seed))

    def render(scenes: Sequence[world.CaptionedScene]) -> world.Rendering:
        return world.render([item.scene for item in scenes], size, size)

    def true_depth(scenes: Sequence[world.CaptionedScene], numbers: range) -> torch.Tensor:
        return draw(scenes, numbers, scene_depth([item.scene for item in scenes], size))

    def sampled(scenes: Sequence[world.CaptionedScene], numbers: range) -> torch.Tensor:
        return draw(scenes, numbers, sampler.sample_depth([item.caption for item in scenes], numbers, seed))

    def mean(scenes: Sequence[world.CaptionedScene], numbers: range) -> torch.Tensor:
        return draw(scenes, numbers, sampler.predict_depth([item.caption for item in scenes]))

    rows: dict[str, Images] = {"ceiling (renders)": lambda scenes, _: render(scenes).rgb, "true depth": true_depth}
    if sampler.samples_depth:
        rows["sampled depth"] = sampled
    return rows | {
        "mean depth": mean,
        "no depth": lambda scenes, numbers: draw(scenes, numbers, no_depth(len(scenes), size)),
        FLOOR: lambda scenes, _: render(scenes).rgb,
    }


Asked = tuple[int, world.CaptionedScene, world.CaptionedScene]
"""A caption's number, the caption that is drawn, and the caption whose objects are searched."""


def _shares(draw: Images, captions: Sequence[Asked], reader: SceneReader, label: str) -> list[dict[str, float]]:
    def judged(batch: Sequence[Asked]) -> list[dict[str, float]]:
        numbers, drawn, asked = zip(*batch)
        readings = decode(read(reader, draw(drawn, range(numbers[0], numbers[-1] + 1))))
        return [recognised(reading.objects, item.scene.objects) for item, reading in zip(asked, readings)]

    return map_batches(judged, captions, BATCH, label, "caption")


def measure_recognition(
    sampler: SystemSampler, reader: SceneReader, images: int, max_objects: int, seed: int
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """{caption kind: {row: {measure: percent with interval}}}, held-out captions of at most `max_objects` objects."""
    table: dict[str, dict[str, dict[str, Estimate]]] = {}
    for kind in KINDS:
        scenes = _scenes(kind, images, max_objects, seed)
        shifted = scenes[1:] + scenes[:1]
        table[kind] = {}
        for name, draw in _rows(sampler, seed).items():
            # The floor's images are correct, but are searched for the objects of the next caption.
            asked = shifted if name == FLOOR else scenes
            shares = _shares(draw, list(zip(range(images), scenes, asked)), reader, f"{kind}, {name}")
            table[kind][name] = {
                measure: mean_with_interval([[100 * share[measure] for share in shares]]) for measure in COLUMNS
            }
    return table


def _scenes(kind: str, images: int, max_objects: int, seed: int) -> list[world.CaptionedScene]:
    rng = random.Random(f"recognition-{kind}-{seed}")
    scenes: list[world.CaptionedScene] = []
    while len(scenes) < images:
        item = world.sample(rng, kind, "held_out")
        if len(item.scene.objects) <= max_objects:
            scenes.append(item)
    return scenes


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("recognition", help="objects of the caption that a scene reader finds in the image")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or an exported folder')
    command.add_argument("--images", type=int, default=128, help="captions of each kind")
    command.add_argument("--max-objects", type=int, default=2)
    add_drawing_arguments(command, Path("output/recognition"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    directory = weights_directory(arguments.weights)
    if arguments.images < 2 or arguments.max_objects < 1:
        raise SystemExit("--images must be at least 2, and --max-objects at least 1")
    try:
        reader, sampler = load_reader(arguments.reader), sampler_of(arguments, directory)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    table = measure_recognition(sampler, reader, arguments.images, arguments.max_objects, arguments.seed)
    captions = {"captions_per_kind": arguments.images, "kinds": KINDS, "max_objects": arguments.max_objects}
    made_with = drawing_record(arguments, sampler, **captions)
    lines = ["| captions | images from | " + " | ".join(COLUMNS) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for kind, rows in table.items():
        for name, row in rows.items():
            lines.append(f"| {' | '.join([kind, name, *map(str, row.values())])} |")
    write_report(arguments.output, "recognition", made_with, table, "\n".join(lines))
