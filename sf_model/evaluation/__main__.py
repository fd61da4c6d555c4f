"""python -m sf_model.evaluation: measure a trained system on prompts and captions that no training saw.

minispace: GenSpace's nine sub-domains with controls. edit: the same for edits. depth, obedience, confidence: is the
predicted depth right, does the image follow it, does its confidence mean anything. ambiguity: one scene by a seed
against the mean of all. recognition: are the caption's objects to be seen. sheet: draw samples. reader: train and
measure the scene reader, by which images are judged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .. import world
from ..backbones.mini import TOKENIZER_DIR
from ..training.export import load_exported
from ..training.processor import avoid_refused_instructions
from ..training.revision import current_commit
from . import ambiguity, confidence, obedience, recognition
from .arguments import plain
from .depth import DepthScore, evaluate_depth
from .editing import command as editing_command
from .minispace import command as minispace_command
from .sampling import BUILTIN, weights_directory, weights_sha256
from .scene_reader import command as scene_reader_command
from .sheet import write_sheet


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sf_model.evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    depth = commands.add_parser("depth", help="AbsRel and delta1 beside the constant and mean-map baselines")
    depth.add_argument("--images", type=int, default=100, help="held-out captions of each kind")
    depth.add_argument("--json", type=Path, help="also write the table here")
    sheet = commands.add_parser("sheet", help="true image | true depth | mean depth | sampled depth | generated image")
    sheet.add_argument("--kind", choices=world.KINDS, default="free", help="kind of the captions")
    sheet.add_argument("--output", type=Path, default=Path("output/sheet.png"))
    for command in (depth, sheet):
        command.add_argument("--weights", default=BUILTIN, help='"builtin" or a folder that `training export` wrote')
        command.add_argument("--seed", type=int, default=0)
    for module in (
        minispace_command,
        editing_command,
        obedience,
        confidence,
        ambiguity,
        recognition,
        scene_reader_command,
    ):
        module.add_command(commands)
    return parser


def markdown_table(table: dict[str, dict[str, DepthScore]]) -> str:
    """One row a caption kind: AbsRel (lower is better) and delta1 (higher is better) of each method."""
    methods = list(next(iter(table.values())))
    header = ["captions", *(f"{method} {measure}" for method in methods for measure in ("AbsRel", "delta1"))]
    lines = ["| " + " | ".join([*header, "constant / prediction", "sky right"]) + " |"]
    lines.append("|" + "---|" * (len(header) + 2))
    for kind, row in table.items():
        cells = [f"{value:.3f}" for score in row.values() for value in (score.abs_rel, score.delta1)]
        ratio = row["constant"].abs_rel / row["prediction"].abs_rel
        sky = f"{row['prediction'].sky_accuracy:.3f}"
        lines.append("| " + " | ".join([kind, *cells, f"{ratio:.2f}x", sky]) + " |")
    return "\n".join(lines)


def _depth(arguments: argparse.Namespace, directory: Path) -> None:
    table = evaluate_depth(load_exported(directory), directory / TOKENIZER_DIR, arguments.images, arguments.seed)
    run: dict[str, Any] = {
        "weights": str(arguments.weights),
        "weights_sha256": weights_sha256(directory),
        "commit": current_commit(),
        "images_per_kind": arguments.images,
        "seed": arguments.seed,
    }
    print(json.dumps(run))
    print(markdown_table(table))
    if arguments.json:
        rows = {kind: {name: plain(score) for name, score in row.items()} for kind, row in table.items()}
        arguments.json.write_text(json.dumps({"run": run, "table": rows}, indent=1), encoding="utf-8")


def main() -> None:
    arguments = _parser().parse_args()
    avoid_refused_instructions()
    if "run_command" in arguments:
        arguments.run_command(arguments)
        return
    directory = weights_directory(arguments.weights)
    if arguments.command == "depth":
        _depth(arguments, directory)
        return
    system = load_exported(directory)
    captions = write_sheet(system, directory / TOKENIZER_DIR, arguments.kind, arguments.seed, arguments.output)
    print("\n".join(f"{row}. {caption}" for row, caption in enumerate(captions, start=1)))


if __name__ == "__main__":
    main()
