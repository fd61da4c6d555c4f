"""The options of `python -m sf_model.training` for the Mini, and where its runs lie."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..backbones.mini import MINI_DIR, TOKENIZER_DIR
from .mini_sizes import SIZES
from .stages import STAGES, StageConfig

PEAK_LEARNING_RATE = {"mllm": 1e-3, "joint": 8e-4, "base": 8e-4, "source": 2e-3, "stage1": 1.5e-3, "stage2": 6e-4}
PARTS = ("decoder", "transformer", "predictor", "adapter")
MAX_OBJECTS = 4
# Patches and queries of every size are 8 pixels wide.
MIN_IMAGE_SIZE = 8


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """One command for each stage, one for the tokenizer before and one for the export after them."""
    parser = argparse.ArgumentParser(prog="python -m sf_model.training", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("tokenizer", *STAGES, "export"):
        command = commands.add_parser(name)
        command.add_argument("--size", choices=sorted(SIZES), default="mini")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs live")
        if name != "export":
            command.add_argument("--seed", type=int, default=0)
        if name in STAGES:
            _add_stage_arguments(command, name)
        if name == "export":
            command.add_argument("--stage", choices=("base", "stage1", "stage2"), default="stage2")
            _add_part_argument(command)
            command.add_argument(
                "--output", type=Path, help=f"default, of stage2 alone: {MINI_DIR.name} of the package"
            )
    return parser


def _add_part_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--part",
        type=_part,
        action="append",
        default=[],
        metavar="NAME=DIRECTORY",
        help=f"take one of {', '.join(PARTS)} from this run or exported system instead; may be given several times",
    )


def _add_stage_arguments(command: argparse.ArgumentParser, stage: str) -> None:
    command.add_argument("--steps", type=int, required=True, help="optimiser steps in all")
    command.add_argument("--init", type=Path, help="start from this exported system, not from the stage before")
    _add_part_argument(command)
    if stage in ("joint", "stage2"):
        command.add_argument("--freeze-predictor", action="store_true", help="train the adapter and the DiT alone")
        command.add_argument("--true-depth", type=float, default=0.0, help="share of scaffolds that are the true depth")
    if stage == "stage2":
        command.add_argument(
            "--depth-dropout",
            type=_share,
            default=StageConfig().depth_dropout,
            help="share of samples that are drawn without depth; 1 is the data-only control",
        )
    if stage in ("stage1", "stage2"):
        command.add_argument(
            "--scenes",
            type=int,
            default=0,
            help="train on so many scenes of a fixed mixture, the same for all stages and seeds (0: no end)",
        )
        command.add_argument(
            "--edits",
            type=_share,
            default=0.0,
            help="share of batches that edit a source image, by a predictor whose encoder `source` trained before",
        )
    if stage == "base":
        command.add_argument("--freeze-mllm", action="store_true", help="train the diffusion transformer alone")
    if stage == "stage1":
        command.add_argument(
            "--depth-draws",
            type=int,
            default=1,
            help="noises and times that each image serves with: its prompt is read once",
        )
        command.add_argument(
            "--expert-from-mllm", action="store_true", help="start the spatial transformer from the MLLM's own layers"
        )
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument(
        "--image-sizes",
        type=image_sizes,
        help="pixels a side, for each batch in turn, comma-separated; validation has the first",
    )
    command.add_argument("--learning-rate", type=float, default=PEAK_LEARNING_RATE[stage])
    command.add_argument("--warmup-steps", type=int, default=100)
    command.add_argument("--ema-decay", type=float, default=0.998)
    command.add_argument("--plain", type=float, help="share of web-like captions (default: the stage's own)")
    command.add_argument("--view", type=float, help="share of captions that say where in the picture things are")
    command.add_argument("--free", type=float, help="share of captions that fix the scene; the rest are sub-domains")
    command.add_argument(
        "--max-objects", type=int, default=MAX_OBJECTS, help="draw only scenes of so many objects: a curriculum"
    )
    defaults = StageConfig()
    if stage in ("joint", "stage1", "stage2"):
        command.add_argument(
            "--depth-flow", type=_share, default=0.0, help="share of depths that are predicted from a noisy one"
        )
        command.add_argument(
            "--depth-time-mean",
            type=float,
            default=defaults.depth_time_mean,
            help="mean of the noisy depths' logit-normal times; higher is less noise",
        )
    command.add_argument(
        "--time-mean", type=float, default=defaults.time_mean, help="mean of the logit-normal times; 0 is symmetric"
    )
    command.add_argument("--time-std", type=float, default=defaults.time_std, help="their standard deviation")
    command.add_argument("--workers", type=int, default=1, help="processes that render; 0 renders in the main one")
    command.add_argument("--mixed-precision", choices=("no", "bf16"), default="bf16")
    command.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third more time")
    command.add_argument(
        "--compile", action="store_true", help="torch.compile the layers: minutes of start, then a quarter faster"
    )
    command.add_argument("--log-every", type=int, default=20)
    command.add_argument("--save-every", type=int, default=200)
    command.add_argument("--sheet-every", type=int, default=400)
    command.add_argument("--supersample", type=int, default=1, help="rays a pixel along one axis, for the colours")


def _part(text: str) -> tuple[str, Path]:
    name, separator, directory = text.partition("=")
    if not separator or name not in PARTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIRECTORY with NAME one of {', '.join(PARTS)}")
    return name, Path(directory)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: from 0 to 1")
    return value


def image_sizes(text: str) -> tuple[int, ...]:
    """Sides in pixels, e.g. "128,128,64"; patches are not cut."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or any(size < MIN_IMAGE_SIZE or size % MIN_IMAGE_SIZE for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of multiples of {MIN_IMAGE_SIZE}, such as 128,128,64")
    return sizes


def tokenizer_folder(arguments: argparse.Namespace) -> Path:
    """Of all runs of a size."""
    return arguments.runs / arguments.size / TOKENIZER_DIR


def run_folder(arguments: argparse.Namespace, stage: str) -> Path:
    """Of a stage's run."""
    return arguments.runs / arguments.size / stage
