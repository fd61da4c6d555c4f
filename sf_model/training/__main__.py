"""python -m sf_model.training COMMAND --config FILE: train what a config file describes.

all: every stage in order, and the export. language, image, source, stage1, stage2: one of them. label and cache prepare
images on disk. export writes the files that ComfyUI loads. reader trains the scene reader that judges images. Every
training continues where it stopped when its command is given again. docs/training.md explains every command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .processor import avoid_refused_instructions
from .settings import STAGE_NAMES, TrainingSettings, load_settings, on_cuda, smoke

# Folder of the export in the folder of the runs.
EXPORTED = "exported"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sf_model.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("all", *STAGE_NAMES, "label", "cache", "export"):
        command = commands.add_parser(name)
        command.add_argument("--config", type=Path, required=True, help="one of configs/*.yaml, or your copy of one")
        command.add_argument("--runs", type=Path, help="folder of the runs; overrides the config's")
        command.add_argument("--smoke", action="store_true", help="tiny sizes and two steps a stage, to try it out")
        command.add_argument("--cuda", action="store_true", help="the Mini on one large GPU: larger steps, compiled")
        if name in ("all", "export"):
            command.add_argument(
                "--output", type=Path, help="a folder, for example ComfyUI's models/; default: `exported` in the runs"
            )
            command.add_argument("--name", default="spatialfusion", help="file name of a released base's export")
        if name == "export":
            command.add_argument("--stage", choices=STAGE_NAMES, help="default: the config's last stage")
    reader = commands.add_parser("reader")
    reader.add_argument("--config", type=Path, required=True, help="configs/scene_reader.yaml")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """arguments: None takes the command line's. A ValueError ends the program with its message."""
    chosen = build_parser().parse_args(arguments)
    avoid_refused_instructions()
    torch.set_float32_matmul_precision("high")
    try:
        if chosen.command == "reader":
            from .reader import load_reader_settings, train_reader

            train_reader(load_reader_settings(chosen.config))
        else:
            run(chosen, chosen_settings(chosen))
    except ValueError as error:
        raise SystemExit(str(error)) from error


def chosen_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """The config's settings, changed by the options."""
    settings = load_settings(arguments.config)
    # A trial leaves nothing where the real run begins.
    runs = arguments.runs or (f"{settings.runs}_smoke" if arguments.smoke else settings.runs)
    settings = replace(settings, runs=str(runs))
    if arguments.cuda:
        settings = on_cuda(settings)
    return smoke(settings) if arguments.smoke else settings


def run(arguments: argparse.Namespace, settings: TrainingSettings) -> None:
    # Imported here: diffusers and transformers load slowly, and a mistyped option should fail at once.
    if arguments.command == "label":
        from .data.label import label_samples

        label_samples(settings)
    elif arguments.command == "cache":
        from .data.prepare import prepare_store

        prepare_store(settings)
    elif arguments.command == "all":
        from .run import train_all

        output = arguments.output or Path(settings.runs) / EXPORTED
        print(*train_all(settings, output, arguments.name), sep="\n")
    elif arguments.command == "export":
        from .run import export_run

        output = arguments.output or Path(settings.runs) / EXPORTED
        stage = arguments.stage or settings.stages[-1]
        print(*export_run(settings, stage, output, arguments.name), sep="\n")
    else:
        from .run import train_stage

        train_stage(settings, arguments.command)


if __name__ == "__main__":
    main()
