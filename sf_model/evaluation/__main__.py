"""python -m sf_model.evaluation: measure a trained system on prompts and captions that no training has seen.

minispace: GenSpace's nine sub-domains with controls. edit: the same for edits. layouts: the same on layouts alone,
before any picture. plan: the layouts that a language model writes. depth: is the predicted depth right.
obedience: does the image follow the depth. confidence: is the depth better where its confidence is higher. ambiguity:
one sampled scene against the mean of all. recognition: does the image show the caption's objects. sheet: draw samples.
reader: measure the scene reader, which judges the images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import world
from ..training.processor import avoid_refused_instructions
from . import ambiguity, confidence, depth, layouts, obedience, reader, recognition
from .editing import command as editing_command
from .minispace import command as minispace_command
from .planning import command as planning_command
from .sampling import BUILTIN, SystemSampler, weights_directory
from .sheet import write_sheet


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sf_model.evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="true image | true depth | mean depth | sampled depth | generated image")
    sheet.add_argument("--kind", choices=world.KINDS, default="free", help="kind of the captions")
    sheet.add_argument("--output", type=Path, default=Path("output/sheet.png"))
    sheet.add_argument("--weights", default=BUILTIN, help='"builtin" or a folder that `training export` wrote')
    sheet.add_argument("--seed", type=int, default=0)
    for module in (
        minispace_command,
        editing_command,
        layouts,
        planning_command,
        depth,
        obedience,
        confidence,
        ambiguity,
        recognition,
        reader,
    ):
        module.add_command(commands)
    return parser


def main() -> None:
    arguments = _parser().parse_args()
    avoid_refused_instructions()
    if "run_command" in arguments:
        arguments.run_command(arguments)
        return
    sampler = SystemSampler(weights_directory(arguments.weights))
    captions = write_sheet(sampler, arguments.kind, arguments.seed, arguments.output)
    print("\n".join(f"{row}. {caption}" for row, caption in enumerate(captions, start=1)))


if __name__ == "__main__":
    main()
