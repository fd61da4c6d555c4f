"""Training of the scene reader: the Mini's own loop, with the reader's loss, data and validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn as nn

from ...config import dataclass_from_dict
from ...training import run_record
from ...training.data.world import Batch
from ...training.loop import LoopConfig, Trainer
from ...training.run_state import latest_state, load_average, load_system, saved_step
from .accuracy import ACCURACY_STREAM, batch_accuracy
from .augment import degrade
from .data import ReaderBatches, ReaderDataConfig
from .losses import reader_losses
from .network import ReaderConfig, SceneReader

TRAINING_STREAM = "train"
VALIDATION_IMAGES = 128
FORMAT_KEY, FORMAT_VERSION = "scene_reader_format", "1"
READER_FILE = Path(__file__).resolve().parent / "scene_reader.safetensors"


class ReaderStage(nn.Module):
    """forward(batch of ReaderBatches) is the loss on degraded images."""

    name = "reader"

    def __init__(self, reader: SceneReader) -> None:
        super().__init__()
        self.system = reader

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.system.named_parameters())

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        with torch.autocast(batch["rgb"].device.type, enabled=False):
            images = degrade(batch["rgb"], generator)
        return reader_losses(self.system(images), batch, generator)


class ReaderTrainer(Trainer):
    """Logs the reader's accuracy where the Mini's training draws a sheet."""

    def _sheet(self) -> None:
        if not self.accelerator.is_main_process:
            return
        stage = self._bare_stage
        config = self.dataset.config
        batches = ReaderBatches(ReaderDataConfig(config.image_size, VALIDATION_IMAGES, ACCURACY_STREAM, config.seed))
        validation = {name: value.to(self.accelerator.device) for name, value in self.validation.items()}
        with self.average.applied(self._parameters()):
            result = batch_accuracy(stage.system, batches.scenes(0), validation)
        metrics = {name: round(value, 4) for name, value in asdict(result).items()}
        run_record.append_log(self.run_dir, {"step": self.step, "validation": metrics})


def train_reader(config: ReaderConfig, batch_size: int, loop: LoopConfig, run_dir: Path) -> SceneReader:
    """Train to loop.steps, from the run's last state if it has one; returns the averaged reader.

    Raises run_record.RunError where the run was begun with other settings.
    """
    data = ReaderDataConfig(config.image_size, batch_size, TRAINING_STREAM, loop.seed)
    state = latest_state(run_dir)
    run_record.begin_session(
        run_dir, 0 if state is None else saved_step(state), data=data, loop=loop, reader=asdict(config)
    )
    validation = ReaderBatches(ReaderDataConfig(config.image_size, VALIDATION_IMAGES, ACCURACY_STREAM, loop.seed))[0]
    stage = ReaderStage(SceneReader(config, loop.seed))
    ReaderTrainer(stage, ReaderBatches(data), validation, loop, run_dir).train()
    return averaged_reader(config, run_dir)


def averaged_reader(config: ReaderConfig, run_dir: Path) -> SceneReader:
    """The averaged weights of a run's last state."""
    state = latest_state(run_dir)
    if state is None:
        raise ValueError(f"{run_dir} holds no trained state")
    reader = SceneReader(config)
    load_system(state, reader)
    reader.load_state_dict(load_average(state))
    return reader.eval().requires_grad_(False)


def save_reader(reader: SceneReader, path: Path, training: Mapping[str, Any]) -> None:
    """Half precision: rounding is far below what the reader can read. `training` is kept as a summary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        FORMAT_KEY: FORMAT_VERSION,
        "config": json.dumps(asdict(reader.config)),
        "training": json.dumps(dict(training)),
    }
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous() for name, value in reader.state_dict().items()
    }
    safetensors.torch.save_file(tensors, path, metadata)


def load_reader(path: Path = READER_FILE) -> SceneReader:
    """The reader in float32, in evaluation mode. ValueError for a missing or foreign file, with the remedy."""
    remedy = "train one with `python -m sf_model.evaluation reader --steps N`"
    if not path.is_file():
        raise ValueError(f"{path}: no such scene reader; {remedy}")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get(FORMAT_KEY) != FORMAT_VERSION:
        raise ValueError(f"{path}: not a scene reader of this version; {remedy}")
    reader = SceneReader(dataclass_from_dict(ReaderConfig, json.loads(metadata["config"]), "config"))
    reader.load_state_dict(safetensors.torch.load_file(path))
    return reader.eval().requires_grad_(False)
