"""The commands of a config file: label, cache, stage1, stage2, export."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from .. import run_record
from ..loop_config import LoopConfig
from ..process_state import process_state
from ..revision import current_commit
from ..run_record import RunError
from ..run_state import latest_state, load_average, saved_step

COMMANDS = ("label", "cache", "stage1", "stage2", "export")


def add_config_argument(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument(
        "--config", type=Path, required=required, help="a real base's config file (configs/*.yaml), not the Mini"
    )


def main(arguments: list[str]) -> None:
    """Run `<command> --config <file>`; user errors end it with their message."""
    parser = argparse.ArgumentParser(prog="python -m sf_model.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        command = commands.add_parser(name)
        add_config_argument(command, required=True)
        if name == "export":
            command.add_argument("--output", type=Path, required=True, help="a folder; ComfyUI's models/ fits")
            command.add_argument("--name", default="spatialfusion", help="of the files")
            command.add_argument("--stage", choices=("stage1", "stage2"), default="stage2")
    parsed = parser.parse_args(arguments)
    torch.set_float32_matmul_precision("high")
    try:
        run(parsed)
    except ValueError as error:
        raise SystemExit(str(error)) from error


def run(arguments: argparse.Namespace) -> None:
    # Imported here: they load diffusers and transformers, which takes long before a mistyped option is noticed.
    from .settings import load_settings

    settings = load_settings(arguments.config)
    if arguments.command == "label":
        from ..data.label import label_samples

        label_samples(settings)
    elif arguments.command == "cache":
        _cache(settings)
    elif arguments.command == "export":
        _export(settings, arguments.output, arguments.name, arguments.stage)
    else:
        _train(settings, arguments.command)


def _cache(settings: Any) -> None:
    from accelerate.utils import gather_object

    from ..data.prepare import Preparation, describe
    from ..data.sources import open_source
    from ..data.store import COMPLETE_FILE, Store
    from .loading import load_base, spatial_config

    data, config = settings.data, spatial_config(settings)
    state = process_state()
    base = None if data.cache == "nothing" else load_base(settings).to(state.device)
    store = Store(Path(data.prepared))
    source = open_source(data.kind, data.path, data.depth)
    preparation = Preparation(store, source, data, base, config.spatial_transformer.num_layers)
    if state.is_main_process and (changed := preparation.begin()):
        print(f"{store.folder}: the sources of {changed} shards have changed, they are made again")
    state.wait_for_everyone()
    left_out = sum(gather_object([preparation.run(state.process_index, state.num_processes)]))
    if not state.is_main_process:
        return
    counts = store.finish(left_out)
    print(f"{store.folder}: {describe(counts)}")
    if counts["problems"] and data.problems == "refuse":
        (store.folder / COMPLETE_FILE).unlink()
        raise ValueError(
            f"{sum(counts['problems'].values())} samples cannot be used, see {store.folder}/problems.jsonl; mend them "
            "and delete that folder, or set data.problems to skip"
        )


def run_dir(settings: Any, stage: str) -> Path:
    return Path(settings.runs) / stage


def build_stage(settings: Any, name: str) -> Any:
    """A stage on its base, from its own random weights."""
    from .loading import load_base, spatial_config
    from .stages import BASE_STAGES

    run_settings = getattr(settings, name)
    stage = BASE_STAGES[name](load_base(settings), spatial_config(settings), run_settings)
    if name == "stage1" and settings.spatial.from_mllm:
        stage.predictor.spatial_transformer.initialize_from_mllm(stage.base.decoder_state())
    if run_settings.gradient_checkpointing and name == "stage2":
        stage.base.transformer.enable_gradient_checkpointing()
    return stage


def _train(settings: Any, name: str) -> None:
    from ..data.batches import StoreBatches, split_rows
    from ..data.prepare import cache_settings
    from ..data.store import Store
    from .trainer import BaseTrainer, WithSheet, build_shared_accelerator

    run_settings, data = getattr(settings, name), settings.data
    accelerator = build_shared_accelerator(run_settings.mixed_precision)
    store = Store(Path(data.prepared))
    counts = store.counts()
    training, validation = split_rows(store, data.validation_samples)
    stage = build_stage(settings, name)
    made_with = cache_settings(data, stage.base, stage.config.spatial_transformer.num_layers)
    store.check(made_with)
    directory = run_dir(settings, name)
    state = latest_state(directory)
    if name == "stage2" and state is None:
        _start_from(stage, _finished_stage1(settings))
    batches = StoreBatches(
        training,
        stage.base.tokens,
        run_settings.batch_size,
        run_settings.micro_batch,
        run_settings.seed,
        data.depth_downscale,
        accelerator.process_index,
        accelerator.num_processes,
    )
    if accelerator.is_main_process:
        run_record.begin_session(
            directory,
            0 if state is None else saved_step(state),
            data={
                "batch_size": run_settings.batch_size,
                "samples": len(training),
                "validation_samples": data.validation_samples,
                "sources": counts["sources"],
                **made_with,
            },
            loop=run_settings.loop(),
            stage={key: value for key, value in asdict(run_settings).items() if key not in _loop_fields()},
            base={"name": settings.base, **asdict(settings.weights)},
            start={"from": "stage1" if name == "stage2" else "random"},
        )
    accelerator.wait_for_everyone()
    if name == "stage1":
        del stage.base.transformer
    if data.cache == "latents+prompts":
        del stage.base.text_encoder
    shown = _validation_batches(batches, validation)
    with_sheet = WithSheet(stage, run_settings.mixed_precision)
    BaseTrainer(with_sheet, batches, shown, run_settings.loop(), directory, accelerator).train()


def _finished_stage1(settings: Any) -> Path:
    """Its last state. RunError where it has none, or not all its steps."""
    directory = run_dir(settings, "stage1")
    state = latest_state(directory)
    if state is None:
        raise RunError(f"{directory} holds no trained state; run stage1 first")
    done, asked = saved_step(state), settings.stage1.steps
    if done < asked:
        raise RunError(
            f"{directory} has {done} of its {asked} steps; run stage1 to its end, or set stage1.steps to {done} to "
            "start from there"
        )
    return state


def _loop_fields() -> set[str]:
    """Of RunSettings: what the loop records, where it may also be free to change, and what changes no result."""
    return {field.name for field in fields(LoopConfig)} | {"micro_batch", "gradient_checkpointing"}


def _validation_batches(batches: Any, validation: list[Any]) -> list[Any]:
    """The held-out samples of the commonest bucket and kind, in batches as sheets are made of."""
    from .sheet import in_sheet_batches

    groups: dict[Any, list[Any]] = {}
    for place in validation:
        groups.setdefault((place.row.size, place.row.is_edit), []).append((place.shard, place.index))
    largest = max(groups.values(), key=len)
    numbered = list(enumerate(largest))
    result = []
    for part in in_sheet_batches(numbered):
        batch = batches.collate([place for _, place in part], [number for number, _ in part])
        times = (torch.tensor([number for number, _ in part]) + 0.5) / len(largest)
        result.append({**batch, "sheet_time": times})
    return result


@torch.no_grad()
def _start_from(stage: Any, state: Path) -> None:
    """The averages of stage 1, which are the predictor's."""
    own = dict(stage.named_parameters())
    for name, value in load_average(state).items():
        own[name].copy_(value)


def _export(settings: Any, output: Path, name: str, stage_name: str) -> None:
    from .export import export_stage

    directory = run_dir(settings, stage_name)
    state = latest_state(directory)
    if state is None:
        raise RunError(f"{directory} holds no trained state; run {stage_name} first")
    stage = build_stage(settings, stage_name)
    stages = {
        stage_name: json.loads((run_dir(settings, stage_name) / run_record.CONFIG_FILE).read_text(encoding="utf-8"))
        for stage_name in ("stage1", "stage2")
        if (run_dir(settings, stage_name) / run_record.CONFIG_FILE).exists()
    }
    training = {"stages": stages, "step": saved_step(state), "exported_by": current_commit()}
    # Names of the files that the base was read from: what a user can look for.
    revision = f"{Path(settings.weights.text_encoder).name} + {Path(settings.weights.diffusion_model).name}"
    for path in export_stage(stage, state, output, name, revision, training, getattr(settings, stage_name)):
        print(path)
