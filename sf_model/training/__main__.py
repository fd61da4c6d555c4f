"""python -m sf_model.training tokenizer|base|stage1|stage2|export: train SpatialFusion-Mini on the metric world.

Every run lives in a directory of its own under --runs, saves its state on the way, and continues from it when the same
command is given again. Each stage starts from the averaged weights of the one before.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ..backbones.mini import MINI_DIR, TOKENIZER_DIR
from .export import averaged_system, export_system, load_exported
from .loop import LoopConfig, Trainer, write_run_config
from .mini_sizes import SIZES
from .revision import current_commit
from .run_state import latest_state
from .stages import STAGES, StageConfig
from .system import SpatialFusionSystem
from .tokenizer import encode_prompts, load_tokenizer, train_tokenizer
from .world_data import PLAIN_MIXTURE, SPATIAL_MIXTURE, WorldBatches, WorldDataConfig

PREVIOUS = {"stage1": "base", "stage2": "stage1"}
PEAK_LEARNING_RATE = {"base": 1e-3, "stage1": 1e-3, "stage2": 5e-4}
MIXTURES: Mapping[str, Mapping[str, float]] = {
    "base": PLAIN_MIXTURE,
    "stage1": SPATIAL_MIXTURE,
    "stage2": SPATIAL_MIXTURE,
}
VALIDATION_SEED = 1
VALIDATION_BATCH = 64


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sf_model.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("tokenizer", *STAGES, "export"):
        command = commands.add_parser(name)
        command.add_argument("--size", choices=sorted(SIZES), default="mini")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs live")
        command.add_argument("--seed", type=int, default=0)
        if name in STAGES:
            _add_stage_arguments(command, name)
        if name == "export":
            command.add_argument("--output", type=Path, default=MINI_DIR)
    return parser


def _add_stage_arguments(command: argparse.ArgumentParser, stage: str) -> None:
    command.add_argument("--steps", type=int, required=True, help="optimiser steps in all")
    command.add_argument("--init", type=Path, help="start from this exported system, not from the stage before")
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument("--learning-rate", type=float, default=PEAK_LEARNING_RATE[stage])
    command.add_argument("--warmup-steps", type=int, default=200)
    command.add_argument("--workers", type=int, default=1, help="processes that render; 0 renders in the main one")
    command.add_argument("--mixed-precision", choices=("no", "bf16"), default="bf16")
    command.add_argument("--log-every", type=int, default=20)
    command.add_argument("--save-every", type=int, default=200)
    command.add_argument("--sheet-every", type=int, default=500)
    command.add_argument("--supersample", type=int, default=2, help="rays a pixel along one axis, for the colours")


def _tokenizer_dir(arguments: argparse.Namespace) -> Path:
    return arguments.runs / arguments.size / TOKENIZER_DIR


def _run_dir(arguments: argparse.Namespace, stage: str) -> Path:
    return arguments.runs / arguments.size / stage


def _train(arguments: argparse.Namespace) -> None:
    sizes, run_dir = SIZES[arguments.size], _run_dir(arguments, arguments.command)
    system = SpatialFusionSystem(sizes, arguments.seed)
    if latest_state(run_dir) is None:
        _start_from(arguments, system)
    data = WorldDataConfig(
        image_size=sizes.image_size,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        split="train",
        mixture=tuple(MIXTURES[arguments.command].items()),
        language_batch=arguments.batch_size // 2 if arguments.command == "base" else 0,
        supersample=arguments.supersample,
        length_buckets=4,
    )
    loop = LoopConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        warmup_steps=arguments.warmup_steps,
        weight_decay=0.01,
        gradient_clip=1.0,
        ema_decay=0.998,
        seed=arguments.seed,
        log_every=arguments.log_every,
        save_every=arguments.save_every,
        sheet_every=arguments.sheet_every,
        workers=arguments.workers,
        mixed_precision=arguments.mixed_precision,
    )
    tokenizer_dir = _tokenizer_dir(arguments)
    validation_data = replace(
        data, split="held_out", batch_size=VALIDATION_BATCH, seed=VALIDATION_SEED, language_batch=0, length_buckets=1
    )
    stage_config = StageConfig()
    empty_ids, _ = encode_prompts(load_tokenizer(tokenizer_dir), [""])
    stage = STAGES[arguments.command](system, stage_config, empty_ids)
    write_run_config(run_dir, data=data, loop=loop, stage=stage_config, sizes=sizes, commit=current_commit())
    validation = WorldBatches(validation_data, tokenizer_dir)[0]
    Trainer(stage, WorldBatches(data, tokenizer_dir), validation, loop, run_dir).train()


def _start_from(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    """Weights of a new run: the exported system that --init names, else the stage before, else random ones."""
    if arguments.init is not None:
        system.load_state_dict(load_exported(arguments.init).state_dict())
    elif arguments.command in PREVIOUS:
        averaged_system(_required_state(arguments, PREVIOUS[arguments.command]), system)


def _required_state(arguments: argparse.Namespace, stage: str) -> Path:
    state = latest_state(_run_dir(arguments, stage))
    if state is None:
        raise SystemExit(
            f"{_run_dir(arguments, stage)} holds no trained state; "
            f"run `python -m sf_model.training {stage} --size {arguments.size}` first"
        )
    return state


def _export(arguments: argparse.Namespace) -> None:
    system = SpatialFusionSystem(SIZES[arguments.size], arguments.seed)
    step = averaged_system(_required_state(arguments, "stage2"), system)
    revision = f"{arguments.size}-{current_commit()}-seed{arguments.seed}"
    training = {"commit": current_commit(), "seed": arguments.seed, "stage2_steps": step}
    export_system(system, _tokenizer_dir(arguments), arguments.output, revision, training)


def main() -> None:
    arguments = _parser().parse_args()
    torch.set_float32_matmul_precision("high")
    if arguments.command == "tokenizer":
        vocab_size = SIZES[arguments.size].decoder.vocab_size
        train_tokenizer(_tokenizer_dir(arguments), vocab_size, arguments.seed)
    elif arguments.command == "export":
        _export(arguments)
    else:
        _train(arguments)


if __name__ == "__main__":
    main()
