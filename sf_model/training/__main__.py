"""python -m sf_model.training tokenizer|mllm|joint|base|source|stage1|stage2|export: train SpatialFusion-Mini.

The data is the synthetic world, rendered on the way.

With --config, label|cache|stage1|stage2|export train beside a real base instead (docs/training.md).

Every run lives in a directory of its own under --runs, saves its state on the way, and continues from it when the same
command is given again. Each stage starts from the averaged weights of the one before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from .. import depth_metrics
from ..backbones.mini import MINI_DIR, TOKENIZER_DIR
from ..source_encoder import PixelEncoder
from . import run_record
from .export import averaged_system, export_system, load_exported, part_state_dict
from .loop import LoopConfig, Trainer
from .mini_sizes import SIZES, SOURCE_DIM, SOURCE_PATCH_PX
from .processor import avoid_refused_instructions
from .revision import current_commit
from .run_state import latest_state, saved_step
from .stages import STAGES, StageConfig, seen_depth
from .system import SpatialFusionSystem
from .tokenizer import encode_prompts, load_tokenizer, same_vocabulary, train_tokenizer
from .world_data import (
    LANGUAGE_MIXTURE,
    PLAIN_MIXTURE,
    SPATIAL_MIXTURE,
    Batch,
    LanguageBatches,
    WorldBatches,
    WorldDataConfig,
    caption_mixture,
)

PREVIOUS = {"stage1": "base", "stage2": "stage1"}
# What a stage builds on: the stage before need not be there where --part names all of it.
FOUNDATIONS = {"stage1": {"decoder"}, "stage2": {"decoder", "transformer", "predictor"}}
PEAK_LEARNING_RATE = {"mllm": 1e-3, "joint": 8e-4, "base": 8e-4, "source": 2e-3, "stage1": 1.5e-3, "stage2": 6e-4}
MIXTURES: Mapping[str, Mapping[str, float]] = {
    "mllm": LANGUAGE_MIXTURE,
    "joint": SPATIAL_MIXTURE,
    "base": PLAIN_MIXTURE,
    "source": SPATIAL_MIXTURE,
    "stage1": SPATIAL_MIXTURE,
    "stage2": SPATIAL_MIXTURE,
}
PARTS = ("decoder", "transformer", "predictor", "adapter")
# Of a predictor, in the names of their parameters.
OPTIONAL_PARTS = ("depth_flow.", "source_encoder.")
VALIDATION_STREAM = "validation"
VALIDATION_BATCH = 64
# One depth for all pixels of all renders has as much.
MIN_SOURCE_DELTA1 = 0.25
MAX_OBJECTS = 4
# Images for each document without one, where the language model learns beside the others.
LANGUAGE_SHARE = {"base": 2, "joint": 4}
LENGTH_BUCKETS = 4
# Patches and queries of every size are 8 pixels wide.
MIN_IMAGE_SIZE = 8


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sf_model.training", description=__doc__)
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
        type=_image_sizes,
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


def _image_sizes(text: str) -> tuple[int, ...]:
    """Sides in pixels, e.g. "128,128,64"; patches are not cut."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or any(size < MIN_IMAGE_SIZE or size % MIN_IMAGE_SIZE for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of multiples of {MIN_IMAGE_SIZE}, such as 128,128,64")
    return sizes


def _tokenizer_dir(arguments: argparse.Namespace) -> Path:
    return arguments.runs / arguments.size / TOKENIZER_DIR


def _run_dir(arguments: argparse.Namespace, stage: str) -> Path:
    return arguments.runs / arguments.size / stage


def _captions(arguments: argparse.Namespace) -> Mapping[str, float]:
    """Shares of the captions' kinds: the stage's own, or those asked for."""
    asked = (arguments.plain, arguments.view, arguments.free)
    if asked == (None, None, None):
        return MIXTURES[arguments.command]
    return caption_mixture(*(share or 0.0 for share in asked))


def _data_config(arguments: argparse.Namespace) -> WorldDataConfig:
    stage = arguments.command
    return WorldDataConfig(
        image_sizes=arguments.image_sizes or (SIZES[arguments.size].image_size,),
        batch_size=arguments.batch_size,
        stream=stage,
        seed=arguments.seed,
        split="train",
        mixture=tuple(_captions(arguments).items()),
        max_objects=arguments.max_objects,
        language_batch=arguments.batch_size // LANGUAGE_SHARE.get(stage, arguments.batch_size + 1),
        supersample=arguments.supersample,
        length_buckets=LENGTH_BUCKETS,
        edits=getattr(arguments, "edits", 0.0),
        scenes=getattr(arguments, "scenes", 0),
        cell_px=SOURCE_PATCH_PX if stage == "source" else None,
    )


def _loop_config(arguments: argparse.Namespace) -> LoopConfig:
    return LoopConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        warmup_steps=arguments.warmup_steps,
        weight_decay=0.01,
        gradient_clip=1.0,
        ema_decay=arguments.ema_decay,
        seed=arguments.seed,
        log_every=arguments.log_every,
        save_every=arguments.save_every,
        sheet_every=arguments.sheet_every,
        workers=arguments.workers,
        mixed_precision=arguments.mixed_precision,
    )


def _train(arguments: argparse.Namespace) -> None:
    sizes, run_dir = SIZES[arguments.size], _run_dir(arguments, arguments.command)
    tokenizer_dir = _tokenizer_dir(arguments)
    if not tokenizer_dir.is_dir():
        raise SystemExit(f"{tokenizer_dir} is missing; run `python -m sf_model.training tokenizer` first")
    mixed = (arguments.plain, arguments.view, arguments.free) != (None, None, None)
    if getattr(arguments, "scenes", 0) and (mixed or arguments.max_objects != MAX_OBJECTS):
        raise SystemExit("--scenes is a fixed set: give none of --plain, --view, --free and --max-objects with it")
    try:
        data, loop = _data_config(arguments), _loop_config(arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    stage_config = StageConfig(
        time_mean=arguments.time_mean,
        time_std=arguments.time_std,
        freeze_mllm=getattr(arguments, "freeze_mllm", False),
        freeze_predictor=getattr(arguments, "freeze_predictor", False),
        true_depth=getattr(arguments, "true_depth", 0.0),
        depth_flow=getattr(arguments, "depth_flow", 0.0),
        depth_time_mean=getattr(arguments, "depth_time_mean", StageConfig().depth_time_mean),
        depth_dropout=getattr(arguments, "depth_dropout", StageConfig().depth_dropout),
        edits=data.edits,
        depth_draws=getattr(arguments, "depth_draws", 1),
    )
    if data.edits or arguments.command == "source":
        sizes = sizes.with_source(at_queries=True)
    system = SpatialFusionSystem(sizes, arguments.seed)
    state = latest_state(run_dir)
    if state is None:
        try:
            _start_from(arguments, system)
        except ValueError as error:
            raise SystemExit(str(error)) from error
    validation_data = replace(
        data,
        stream=VALIDATION_STREAM,
        split="held_out",
        batch_size=VALIDATION_BATCH,
        language_batch=0,
        length_buckets=1,
        mixture=tuple(MIXTURES[arguments.command].items()),
        max_objects=MAX_OBJECTS,
        image_sizes=data.image_sizes[:1],
        edits=0.0,
        scenes=0,
    )
    batches = LanguageBatches if arguments.command == "mllm" else WorldBatches
    validation = batches(validation_data, tokenizer_dir)[0]
    if state is None:
        _check_source_encoder(arguments, system, validation)
    _check_depth_flow(arguments, system)
    if arguments.gradient_checkpointing:
        system.transformer.enable_gradient_checkpointing()
    if arguments.compile:
        system.compile_layers()
    start = {"init": str(arguments.init), "parts": {name: str(directory) for name, directory in arguments.part}}
    run_record.begin_session(
        run_dir,
        0 if state is None else saved_step(state),
        data=data,
        loop=loop,
        stage=stage_config,
        sizes=sizes,
        start=start,
    )
    empty_ids, _ = encode_prompts(load_tokenizer(tokenizer_dir), [""])
    stage = STAGES[arguments.command](system, stage_config, empty_ids)
    Trainer(stage, batches(data, tokenizer_dir), validation, loop, run_dir).train()


def _check_depth_flow(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    """A predictor that goes on learning without its depth flow would keep one that no longer fits it."""
    share, flow = getattr(arguments, "depth_flow", 0.0), system.predictor.depth_flow
    learns = hasattr(arguments, "depth_flow") and not getattr(arguments, "freeze_predictor", False)
    if learns and share == 0 and flow is not None and flow.patch.weight.count_nonzero():
        raise SystemExit(
            "the predictor that this run starts from has a trained depth flow: give --depth-flow, as it was trained, "
            "or --freeze-predictor"
        )


@torch.no_grad()
def _check_source_encoder(arguments: argparse.Namespace, system: SpatialFusionSystem, batch: Batch) -> None:
    """Edits train what reads the source's encoder, and leave the encoder itself as it is: it must see already."""
    encoder = system.predictor.source_encoder
    if not getattr(arguments, "edits", 0.0) or not isinstance(encoder, PixelEncoder):
        return
    seen = seen_depth(encoder.monocular_depth, batch["rgb"], batch["fov_y_deg"])
    right = depth_metrics.delta1(seen.log_depth.exp(), batch["depth_m"]).mean().item()
    if right < MIN_SOURCE_DELTA1:
        raise SystemExit(
            "the predictor that this run starts from has no trained encoder of source images, which --edits needs (of "
            f"renders it reads a depth with a delta1 of {right:.2f}; one that was trained has {MIN_SOURCE_DELTA1} and "
            "far more): run `python -m sf_model.training source` first, and name it with --part predictor="
        )


def _start_from(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    """Weights of a new run: the exported system that --init names, else the stage before, else random ones."""
    if arguments.init is not None:
        exported = load_exported(arguments.init)
        if exported.sizes.with_optional_parts_of(system.sizes) != system.sizes:
            raise SystemExit(f"{arguments.init} holds another size than --size {arguments.size}; name its own")
        if not same_vocabulary(arguments.init / TOKENIZER_DIR, _tokenizer_dir(arguments)):
            raise SystemExit(
                f"{arguments.init} was trained with another vocabulary than {_tokenizer_dir(arguments)}; copy its "
                f"{TOKENIZER_DIR} folder there"
            )
        _load(system, exported.state_dict())
    elif arguments.command in PREVIOUS and not FOUNDATIONS[arguments.command] <= dict(arguments.part).keys():
        state = _required_state(arguments, PREVIOUS[arguments.command])
        for name, _ in system.named_children():
            _load(system.get_submodule(name), part_state_dict(name, state.parent))
    _load_parts(arguments, system)
    if getattr(arguments, "expert_from_mllm", False):
        system.predictor.spatial_transformer.initialize_from_mllm(system.decoder.model.state_dict())


def _load_parts(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    for name, directory in arguments.part:
        try:
            _load(system.get_submodule(name), _weights_of(name, directory))
        except (ValueError, RuntimeError) as error:
            raise SystemExit(f"--part {name}={directory}: {error}") from error


def _weights_of(part: str, directory: Path) -> dict[str, torch.Tensor]:
    try:
        return part_state_dict(part, directory)
    except ValueError as error:
        raise SystemExit(f"--part {part}={directory}: {error}") from error


def _load(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Strictly, but for what a predictor was not trained with: its depth flow and its encoder of source images start
    from nothing."""
    own = module.state_dict()
    optional = {key: value for key, value in own.items() if any(part in key for part in OPTIONAL_PARTS)}
    fitting = {key: value for key, value in state.items() if key not in optional or value.shape == own[key].shape}
    for key, value in state.items():
        reads_patches = key.endswith("source_encoder.project.weight") and value.shape[1] == SOURCE_DIM
        if reads_patches and key not in own.keys() & fitting.keys():
            raise ValueError("its predictor was trained to edit: give --edits, as it was trained")
    module.load_state_dict({**optional, **fitting})


def _required_state(arguments: argparse.Namespace, stage: str) -> Path:
    state = latest_state(_run_dir(arguments, stage))
    if state is None:
        raise SystemExit(
            f"{_run_dir(arguments, stage)} holds no trained state; "
            f"run `python -m sf_model.training {stage} --size {arguments.size}` first"
        )
    return state


def _leading_to(stage: str) -> list[str]:
    """The stages up to this one, in their order."""
    names = list(STAGES)
    return names[: names.index(stage) + 1]


def _export(arguments: argparse.Namespace) -> None:
    output = arguments.output or (MINI_DIR if arguments.stage == "stage2" else None)
    if output is None:
        raise SystemExit(f"export --stage {arguments.stage} needs --output: it is no whole system")
    state = _required_state(arguments, arguments.stage)
    sizes, parts = SIZES[arguments.size], dict(arguments.part)
    predictor = _weights_of("predictor", parts.get("predictor", state.parent))
    project = predictor.get("source_encoder.project.weight")
    if project is not None and project.shape[1] == SOURCE_DIM:
        sizes = sizes.with_source(at_queries="source_encoder.at_queries.weight" in predictor)
    system = SpatialFusionSystem(sizes, seed=0)
    averaged_system(state, system)
    _load_parts(arguments, system)
    stages = {
        stage: run_record.summary(_run_dir(arguments, stage))
        for stage in _leading_to(arguments.stage)
        if (_run_dir(arguments, stage) / run_record.CONFIG_FILE).exists()
    }
    last = stages[arguments.stage]
    revision = f"{arguments.size}-{last['commits'][-1]}-seed{last['seed']}-{last['steps']}"
    training = {"stages": stages, "exported_by": current_commit()}
    training["parts"] = {
        name: run_record.summary(directory) if (directory / run_record.CONFIG_FILE).exists() else str(directory)
        for name, directory in parts.items()
    }
    export_system(system, _tokenizer_dir(arguments), output, revision, training)


def main() -> None:
    avoid_refused_instructions()
    if any(argument.partition("=")[0] == "--config" for argument in sys.argv[1:]):
        from .bases import commands  # real bases need more packages than the Mini

        commands.main(sys.argv[1:])
        return
    arguments = _parser().parse_args()
    torch.set_float32_matmul_precision("high")
    if not torch.cuda.is_available():
        # The name is the flag's history: it governs CPUs too, where fused attention's backward costs short sequences
        # 19%.
        torch.backends.cuda.enable_flash_sdp(False)
    if arguments.command == "tokenizer":
        vocab_size = SIZES[arguments.size].decoder.vocab_size
        train_tokenizer(_tokenizer_dir(arguments), vocab_size, arguments.seed)
    elif arguments.command == "export":
        _export(arguments)
    else:
        try:
            _train(arguments)
        except run_record.RunError as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
