"""Options that the benchmarks share, and the record of the code and settings behind their figures."""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..models.depth_flow import DEFAULT_GUIDANCE, DEFAULT_STEPS
from ..scene_reader.weights import READER_FILE
from ..training.revision import current_commit
from ..training.system import IMAGE_GUIDANCE, IMAGE_STEPS
from .sampling import BUILTIN, SystemSampler, own_image_size, weights_directory, weights_name, weights_sha256

# Published figures use prompts that influenced no choice. Seeds 0 and 1 were used while the Mini was made.
PUBLISHED_SEED = 7


def named_directory(text: str) -> tuple[str, Path]:
    """Parse NAME=DIRECTORY. The name is a row of the table."""
    name, separator, directory = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIRECTORY")
    return name, weights_directory(directory)


def add_system_arguments(command: argparse.ArgumentParser) -> None:
    """--weights and --compare: the systems of a table's rows."""
    command.add_argument(
        "--weights", nargs="+", default=[BUILTIN], help='"builtin" or exported folders; several are training seeds'
    )
    command.add_argument(
        "--compare",
        type=named_directory,
        action="append",
        default=[],
        metavar="NAME=DIRECTORY",
        help="another system's row, such as base= or data-only=; the same name again is another training seed",
    )


def weights_record(arguments: argparse.Namespace, own_row: str, rows: Collection[str]) -> list[dict[str, Any]]:
    """The weights of every row. `image_size` is the weights' own, even if the table has another.

    ValueError if --compare names one of the table's own `rows`, or if a folder holds no weights.
    """
    taken = sorted({name for name, _ in arguments.compare} & set(rows))
    if taken:
        raise ValueError(f"--compare {taken[0]}=: the table has a row of this name already; choose another")
    systems = [(own_row, weights_directory(name)) for name in arguments.weights] + arguments.compare
    return [
        {
            "row": row,
            "directory": weights_name(directory),
            "sha256": weights_sha256(directory),
            "image_size": own_image_size(directory),
        }
        for row, directory in systems
    ]


def add_drawing_arguments(command: argparse.ArgumentParser, output: Path) -> None:
    command.add_argument("--reader", type=Path, default=READER_FILE, help="the scene reader that scores")
    command.add_argument("--steps", type=int, default=IMAGE_STEPS, help="of the image")
    command.add_argument("--guidance", type=float, default=IMAGE_GUIDANCE, help="of the image")
    add_network_arguments(command, output)


def add_network_arguments(command: argparse.ArgumentParser, output: Path) -> None:
    command.add_argument("--depth-steps", type=int, default=DEFAULT_STEPS, help="of a sampled depth")
    command.add_argument("--depth-guidance", type=float, default=DEFAULT_GUIDANCE, help="of a sampled depth; 1 is none")
    command.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of the networks")
    command.add_argument("--image-size", type=int, help="pixels a side; default: the weights' own")
    command.add_argument("--seed", type=int, default=PUBLISHED_SEED, help="of the prompts and of the noise")
    command.add_argument("--output", type=Path, default=output)


def network_record(arguments: argparse.Namespace, sampler: SystemSampler, **captions: Any) -> dict[str, Any]:
    """Code and settings of a run with `add_network_arguments` that draws no image. captions: their number and kinds."""
    return {
        **_code(arguments),
        **captions,
        "image_size": sampler.image_size,
        "weights_sha256": weights_sha256(weights_directory(arguments.weights)),
    }


def depth_sampler(arguments: argparse.Namespace) -> SystemSampler:
    """The system of such a run. SystemExit if its folder holds none."""
    try:
        return SystemSampler(weights_directory(arguments.weights), **_network(arguments))
    except ValueError as error:
        raise SystemExit(str(error)) from error


def sampler_of(arguments: argparse.Namespace, directory: Path, image_size: int | None = None) -> SystemSampler:
    """The system in a folder. image_size: the default if the options give none, instead of the weights' own."""
    network = _network(arguments)
    network["image_size"] = network["image_size"] or image_size
    return SystemSampler(directory, arguments.steps, arguments.guidance, **network)


def _network(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_network_arguments` as arguments of `SystemSampler`."""
    return {
        "bfloat16": arguments.precision == "bf16",
        "image_size": arguments.image_size,
        "depth_steps": arguments.depth_steps,
        "depth_guidance": arguments.depth_guidance,
    }


def plain(values: Any) -> dict[str, Any]:
    """A dataclass of numbers for JSON, with None instead of nan."""
    return {name: None if math.isnan(value) else value for name, value in asdict(values).items()}


def provenance(arguments: argparse.Namespace, image_size: int) -> dict[str, Any]:
    """Code, reader and settings of a run that draws images of `image_size` pixels a side."""
    return {
        **_code(arguments),
        "reader_sha256": hashlib.sha256(arguments.reader.read_bytes()).hexdigest()[:16],
        "steps": arguments.steps,
        "guidance": arguments.guidance,
        "image_size": image_size,
    }


def drawing_record(arguments: argparse.Namespace, sampler: SystemSampler, **captions: Any) -> dict[str, Any]:
    """The same for a run of one system. captions: as in `network_record`."""
    return {
        **provenance(arguments, sampler.image_size),
        **captions,
        "weights_sha256": weights_sha256(weights_directory(arguments.weights)),
    }


def _code(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "commit": current_commit(),
        # Processors and versions round differently: means of a few dozen images differ by points.
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "seed": arguments.seed,
        "precision": arguments.precision,
        "depth_steps": arguments.depth_steps,
        "depth_guidance": arguments.depth_guidance,
    }
