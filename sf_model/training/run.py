"""Trains one stage of a config file, or all of them, and exports the result."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..backbones.mini import TOKENIZER_DIR
from . import run_record
from .bases.loading import load_base, spatial_config, tokenizer_folder
from .bases.tokenizer import same_vocabulary, train_tokenizer
from .data.documents import DocumentBatches
from .data.numbered import Batches, Share
from .data.prepare import cache_settings
from .data.prepared import StoreBatches, split_rows
from .data.store import Store
from .data.world import WorldBatches, WorldStream
from .export import export_beside_base, export_mini
from .loop import Trainer, build_accelerator
from .process_state import process_state
from .revision import current_commit
from .run_record import RunError
from .run_state import latest_state, load_average, saved_progress
from .settings import TrainingSettings
from .stages import STAGES, DepthStage, SourceStage, Stage
from .system import System


def make_tokenizer(settings: TrainingSettings) -> None:
    """Make the tokenizer of a base that is trained from scratch: copy that of the runs in `starts`, or train one.

    RunError if a run in `starts` has another vocabulary.
    """
    folder, system = tokenizer_folder(settings), settings.system
    if system is None:
        return
    found = {Path(start).parent / TOKENIZER_DIR for start in settings.starts.values()}
    theirs = sorted(path for path in found if path.is_dir())
    if not folder.is_dir():
        # A kill must not leave a folder that looks complete.
        partial = folder.with_name(f"{folder.name}.partial")
        if theirs:
            shutil.copytree(theirs[0], partial, dirs_exist_ok=True)
        else:
            seed = settings.stage(settings.stages[0]).loop.seed
            train_tokenizer(partial, system, seed)
        partial.rename(folder)
    for other in theirs:
        if not same_vocabulary(folder, other):
            raise RunError(f"change runs or starts in the config: the vocabulary in {other} differs from {folder}")


def run_dir(settings: TrainingSettings, name: str) -> Path:
    """The folder of a stage's run."""
    return Path(settings.starts.get(name, Path(settings.runs) / name))


def earlier_stages(settings: TrainingSettings, name: str) -> list[str]:
    """The stages that `name` starts from: those of the config that come before it and train what it uses."""
    before = settings.stages[: settings.stages.index(name)]
    unused = STAGES[name].independent_of
    world = settings.stage(name).world
    if name == DepthStage.name and world is not None and not world.has_edits:
        unused = (*unused, SourceStage.name)
    return [earlier for earlier in before if earlier not in unused]


def build_stage(settings: TrainingSettings, name: str) -> Stage:
    """A stage with the averaged weights of the stages before it. RunError if one of these is not finished."""
    stage_settings = settings.stage(name)
    base = load_base(settings)
    system = System(base, spatial_config(settings), stage_settings.loop.seed)
    if settings.spatial is not None and settings.spatial.from_mllm:
        system.predictor.spatial_transformer.initialize_from_mllm(base.decoder_state())
    stage = STAGES[name](system, stage_settings)
    for earlier in earlier_stages(settings, name):
        stage.start_from(load_average(finished_state(settings, earlier)))
    return stage


def finished_state(settings: TrainingSettings, name: str) -> Path:
    """The last state of a stage's run. RunError if it has none, or has not done all its steps."""
    directory = run_dir(settings, name)
    state = latest_state(directory)
    if state is None:
        raise RunError(f"run {name} first: {directory} holds no trained state")
    done, asked = saved_progress(state)["step"], settings.stage(name).loop.steps
    # A run in `starts` was begun by another config, with its own number of steps.
    if name not in settings.starts and done < asked:
        raise RunError(
            f"run {name} to its end, or set {name}.loop.steps to {done} to start from there: {directory} has {done} of "
            f"its {asked} steps"
        )
    return state


def open_batches(settings: TrainingSettings, name: str, stage: Stage, share: Share) -> tuple[Batches, dict[str, Any]]:
    """A stage's training data, and its description for the run's record. ValueError if prepared images do not fit."""
    stage_settings, tokens, seed = settings.stage(name), stage.system.base.tokens, settings.stage(name).loop.seed
    if stage_settings.world is not None:
        stream = WorldStream(name, seed, "train")
        if name == "language":
            objects = stage.system.config.layout.objects
            documents = stage_settings.documents
            batches = DocumentBatches(stage_settings.world, documents, tokens, objects, share, stream)
            return batches, {**asdict(stage_settings.world), **asdict(documents)}
        # One cell is one patch of a source, and one query.
        cell_px = stage.system.config.spatial_transformer.stride if name == "source" else None
        return WorldBatches(stage_settings.world, tokens, share, stream, cell_px), asdict(stage_settings.world)
    data = settings.data
    store = Store(Path(data.prepared))
    counts = store.counts()
    training, validation = split_rows(store, data.validation_samples)
    made_with = cache_settings(data, stage.system.base, stage.system.config.spatial_transformer.num_layers)
    store.check(made_with)
    batches = StoreBatches(training, validation, tokens, share, seed, data.depth_downscale)
    record = {
        "samples": len(training),
        "validation_samples": data.validation_samples,
        "sources": counts["sources"],
        **made_with,
    }
    return batches, record


def train_stage(settings: TrainingSettings, name: str) -> None:
    """Train one stage to its end, from its last state if it has one.

    RunError if its run was begun with other settings, or a stage before it is not finished.
    """
    loop, accelerator = settings.stage(name).loop, build_accelerator()
    if accelerator.is_main_process:
        make_tokenizer(settings)
    accelerator.wait_for_everyone()
    directory = Path(settings.runs) / name
    state = latest_state(directory)
    stage = build_stage(settings, name)
    share = Share(loop.batch_size, loop.micro_batch, accelerator.process_index, accelerator.num_processes)
    batches, data_record = open_batches(settings, name, stage, share)
    if accelerator.is_main_process:
        run_record.begin_session(
            directory,
            0 if state is None else saved_progress(state)["step"],
            data=data_record,
            loop=loop,
            stage=_stage_record(settings, name),
            base=_base_record(settings, name),
            # Runs in the same folder are noted by name, so that they can be moved together.
            start={earlier: settings.starts.get(earlier, earlier) for earlier in earlier_stages(settings, name)},
        )
    accelerator.wait_for_everyone()
    stage.release_unused(has_prompts=settings.data is not None and settings.data.cache == "latents+prompts")
    if loop.gradient_checkpointing and stage.system.base.transformer is not None:
        stage.system.base.transformer.enable_gradient_checkpointing()
    if loop.compile:
        stage.compile_layers()
    Trainer(stage, batches, loop, directory, accelerator).train()


def _stage_record(settings: TrainingSettings, name: str) -> dict[str, Any]:
    stage = asdict(settings.stage(name))
    return {group: stage[group] for group in ("diffusion", "depth", "fusion", "documents")}


def _base_record(settings: TrainingSettings, name: str) -> dict[str, Any]:
    """The weights that the stage starts from, or the sizes of what it is built from."""
    if settings.weights is not None:
        return {"name": settings.base, **asdict(settings.weights)}
    sizes = json.loads(json.dumps(asdict(settings.system)))
    sizes["layout"] = sizes["spatialfusion"].pop("layout")
    wanted = STAGES[name].built_from or tuple(sizes)
    return {"name": settings.base, **{part: sizes[part] for part in wanted}}


def export_run(settings: TrainingSettings, name: str, output: Path, file_name: str) -> list[Path]:
    """Write what stage `name` and those before it have trained. RunError if a stage is not finished."""
    stage = build_stage(settings, name)
    stage.start_from(load_average(finished_state(settings, name)))
    summaries = {
        trained: run_record.summary(run_dir(settings, trained)) for trained in [*earlier_stages(settings, name), name]
    }
    training = {"stages": summaries, "exported_by": current_commit()}
    if settings.system is not None:
        last = summaries[name]
        revision = f"{settings.system.spatialfusion.name}-{last['commits'][-1]}-seed{last['seed']}-{last['steps']}"
        return export_mini(stage.system, tokenizer_folder(settings), output, revision, training)
    # The names of the base's files, so that a user can look for them.
    revision = f"{Path(settings.weights.text_encoder).name} + {Path(settings.weights.diffusion_model).name}"
    return export_beside_base(stage.system, output, file_name, revision, training, settings.stage(name).fusion)


def train_all(settings: TrainingSettings, output: Path, file_name: str) -> list[Path]:
    """Train every unfinished stage of the config in order, then export. Only the main process exports."""
    for name in settings.stages:
        state = latest_state(run_dir(settings, name))
        if state is not None and saved_progress(state)["step"] >= settings.stage(name).loop.steps:
            continue
        if name not in settings.starts:
            train_stage(settings, name)
    if not process_state().is_main_process:
        return []
    return export_run(settings, settings.stages[-1], output, file_name)
