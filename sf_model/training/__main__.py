"""python -m sf_model.training tokenizer|mllm|joint|base|source|stage1|stage2|export: train SpatialFusion-Mini.

The data is the synthetic world, rendered on the way.

With --config, label|cache|stage1|stage2|export train beside a real base instead (docs/training.md).

Every run lives in a directory of its own under --runs, saves its state on the way, and continues from it when the same
command is given again. Each stage starts from the averaged weights of the one before.
"""

from __future__ import annotations

import argparse
import sys

import torch

from ..backbones.mini import MINI_DIR
from . import run_record
from .arguments import build_parser, run_folder, tokenizer_folder
from .data.world import LanguageBatches, WorldBatches
from .export import averaged_system, export_system
from .loop import Trainer
from .mini_sizes import SIZES, SOURCE_DIM
from .processor import avoid_refused_instructions
from .revision import current_commit
from .run_state import latest_state, saved_step
from .settings import data_config, loop_config, stage_config, validation_config
from .stages import STAGES
from .starting_weights import check_depth_flow, check_source_encoder, load_parts, required_state, start_from, weights_of
from .system import SpatialFusionSystem
from .tokenizer import encode_prompts, load_tokenizer, train_tokenizer


def _train(arguments: argparse.Namespace) -> None:
    sizes, run_dir = SIZES[arguments.size], run_folder(arguments, arguments.command)
    tokenizer_dir = tokenizer_folder(arguments)
    if not tokenizer_dir.is_dir():
        raise SystemExit(f"{tokenizer_dir} is missing; run `python -m sf_model.training tokenizer` first")
    try:
        data, loop, settings = data_config(arguments), loop_config(arguments), stage_config(arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if data.edits or arguments.command == "source":
        sizes = sizes.with_source(at_queries=True)
    system = SpatialFusionSystem(sizes, arguments.seed)
    batches = LanguageBatches if arguments.command == "mllm" else WorldBatches
    validation = batches(validation_config(data, arguments.command), tokenizer_dir)[0]
    state = latest_state(run_dir)
    if state is None:
        try:
            start_from(arguments, system)
        except ValueError as error:
            raise SystemExit(str(error)) from error
        check_source_encoder(arguments, system, validation)
    check_depth_flow(arguments, system)
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
        stage=settings,
        sizes=sizes,
        start=start,
    )
    empty_ids, _ = encode_prompts(load_tokenizer(tokenizer_dir), [""])
    stage = STAGES[arguments.command](system, settings, empty_ids)
    Trainer(stage, batches(data, tokenizer_dir), validation, loop, run_dir).train()


def _leading_to(stage: str) -> list[str]:
    """The stages up to this one, in their order."""
    names = list(STAGES)
    return names[: names.index(stage) + 1]


def _export(arguments: argparse.Namespace) -> None:
    output = arguments.output or (MINI_DIR if arguments.stage == "stage2" else None)
    if output is None:
        raise SystemExit(f"export --stage {arguments.stage} needs --output: it is no whole system")
    state = required_state(arguments, arguments.stage)
    sizes, parts = SIZES[arguments.size], dict(arguments.part)
    predictor = weights_of("predictor", parts.get("predictor", state.parent))
    project = predictor.get("source_encoder.project.weight")
    if project is not None and project.shape[1] == SOURCE_DIM:
        sizes = sizes.with_source(at_queries="source_encoder.at_queries.weight" in predictor)
    system = SpatialFusionSystem(sizes, seed=0)
    averaged_system(state, system)
    load_parts(arguments, system)
    stages = {
        stage: run_record.summary(run_folder(arguments, stage))
        for stage in _leading_to(arguments.stage)
        if (run_folder(arguments, stage) / run_record.CONFIG_FILE).exists()
    }
    last = stages[arguments.stage]
    revision = f"{arguments.size}-{last['commits'][-1]}-seed{last['seed']}-{last['steps']}"
    training = {"stages": stages, "exported_by": current_commit()}
    training["parts"] = {
        name: run_record.summary(directory) if (directory / run_record.CONFIG_FILE).exists() else str(directory)
        for name, directory in parts.items()
    }
    export_system(system, tokenizer_folder(arguments), output, revision, training)


def main() -> None:
    avoid_refused_instructions()
    if any(argument.partition("=")[0] == "--config" for argument in sys.argv[1:]):
        from .bases import commands  # real bases need more packages than the Mini

        commands.main(sys.argv[1:])
        return
    arguments = build_parser(__doc__).parse_args()
    torch.set_float32_matmul_precision("high")
    if not torch.cuda.is_available():
        # The name is the flag's history: it governs CPUs too, where fused attention's backward costs short sequences
        # 19%.
        torch.backends.cuda.enable_flash_sdp(False)
    if arguments.command == "tokenizer":
        vocab_size = SIZES[arguments.size].decoder.vocab_size
        train_tokenizer(tokenizer_folder(arguments), vocab_size, arguments.seed)
    elif arguments.command == "export":
        _export(arguments)
    else:
        try:
            _train(arguments)
        except run_record.RunError as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
