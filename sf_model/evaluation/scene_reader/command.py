"""python -m sf_model.evaluation reader: train the scene reader on renders, and measure it on held-out ones."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ...training import run_record
from ...training.loop import LoopConfig
from ...training.revision import current_commit
from .accuracy import accuracy_table, measure
from .network import READER
from .training import READER_FILE, load_reader, save_reader, train_reader


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("reader", help="train the scene reader; without --steps, measure the one there is")
    command.add_argument("--steps", type=int, help="optimiser steps in all; the same command continues a run")
    command.add_argument("--run", type=Path, default=Path("runs/reader"), help="where the run's state lives")
    command.add_argument("--output", type=Path, default=READER_FILE, help="the trained reader, and the one measured")
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument("--learning-rate", type=float, default=1.5e-3)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--workers", type=int, default=1, help="processes that render; 0 renders in the main one")
    command.add_argument("--mixed-precision", choices=("no", "bf16"), default="bf16")
    command.add_argument("--images", type=int, default=1000, help="held-out renders to measure on")
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    try:
        if arguments.steps is not None:
            _train(arguments)
        reader = load_reader(arguments.output)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(accuracy_table(measure(reader, arguments.images, arguments.seed)))


def _train(arguments: argparse.Namespace) -> None:
    loop = LoopConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        warmup_steps=min(200, arguments.steps // 10),
        weight_decay=0.01,
        gradient_clip=1.0,
        ema_decay=0.998,
        seed=arguments.seed,
        log_every=20,
        save_every=250,
        sheet_every=500,
        workers=arguments.workers,
        mixed_precision=arguments.mixed_precision,
    )
    reader = train_reader(READER, arguments.batch_size, loop, arguments.run)
    sessions = json.loads((arguments.run / run_record.CONFIG_FILE).read_text(encoding="utf-8"))["sessions"]
    training = {
        "commits": [session["commit"] for session in sessions],
        "exported_by": current_commit(),
        "loop": asdict(loop),
        "batch_size": arguments.batch_size,
    }
    save_reader(reader, arguments.output, training)
