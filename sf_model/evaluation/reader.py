"""python -m sf_model.evaluation reader: measure the scene reader on renders that it has not seen."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..scene_reader.accuracy import accuracy_table, measure
from ..scene_reader.weights import READER_FILE, load_reader


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("reader", help="measure the scene reader that judges the images")
    command.add_argument("--reader", type=Path, default=READER_FILE)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--images", type=int, default=1000, help="held-out renders to measure on")
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    try:
        reader = load_reader(arguments.reader)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(accuracy_table(measure(reader, arguments.images, arguments.seed)))
