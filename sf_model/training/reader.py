"""Trains the scene reader, with the same loop as every stage: `reader --config configs/scene_reader.yaml`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import yaml

from ..config import dataclass_from_dict
from ..scene_reader.accuracy import ACCURACY_STREAM, batch_accuracy
from ..scene_reader.augment import degrade
from ..scene_reader.data import rendered, sample_scenes
from ..scene_reader.losses import reader_losses
from ..scene_reader.network import ReaderConfig, SceneReader
from ..scene_reader.weights import save_reader
from . import run_record
from .batch import Batch
from .data.numbered import NumberedBatches, Share
from .draws import seeded_generator
from .loop import Trainer, build_accelerator
from .losses import Losses
from .revision import current_commit
from .run_state import latest_state, load_average, saved_progress
from .settings import SETTINGS_VERSION, LoopSettings
from .sheets import Sheet

TRAINING_STREAM = "train"
VALIDATION_IMAGES = 128


@dataclass(frozen=True)
class ReaderSettings:
    """One config file."""

    version: int
    # Folder of the run.
    runs: str
    # The trained reader's file.
    output: str
    reader: ReaderConfig
    loop: LoopSettings


def load_reader_settings(path: Path) -> ReaderSettings:
    """Read and check a config file. ValueError, with its name and the field's path, for anything that is wrong."""
    if not path.is_file():
        raise ValueError(f"{path}: no such config file; configs/scene_reader.yaml is one")
    try:
        settings = dataclass_from_dict(ReaderSettings, yaml.safe_load(path.read_text(encoding="utf-8")), "config")
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if settings.version != SETTINGS_VERSION:
        raise ValueError(f"{path}: config.version is {settings.version}, this code reads {SETTINGS_VERSION}")
    if settings.loop.micro_batch != settings.loop.batch_size:
        raise ValueError(
            f"{path}: set loop.micro_batch to loop.batch_size ({settings.loop.batch_size}): the reader's losses are "
            "means over all objects of a step"
        )
    return settings


class ReaderStage(nn.Module):
    """The loss on degraded renders. In evaluation mode, the accuracy on clean ones."""

    def __init__(self, reader: SceneReader, seed: int, bfloat16: bool) -> None:
        super().__init__()
        self.reader, self.seed, self.bfloat16 = reader, seed, bfloat16

    def forward(self, batch: Batch, pictures: bool = True) -> Losses | Sheet:
        if not self.training:
            return self._sheet(batch)
        generator = seeded_generator(batch["noise_seed"])
        images = degrade(batch["rgb"], generator)
        with torch.autocast(batch["rgb"].device.type, torch.bfloat16, enabled=self.bfloat16):
            return reader_losses(self.reader(images), batch, generator)

    def _sheet(self, batch: Batch) -> Sheet:
        scenes = sample_scenes(ACCURACY_STREAM, self.seed, 0, len(batch["rgb"]))
        return Sheet([], asdict(batch_accuracy(self.reader, scenes, batch)), len(scenes))


class ReaderBatches(NumberedBatches):
    """Renders of all kinds of scenes."""

    def __init__(self, image_size: int, share: Share, seed: int) -> None:
        self.image_size, self.share, self.seed = image_size, share, seed

    def __getitem__(self, step: int) -> list[Batch]:
        scenes = sample_scenes(TRAINING_STREAM, self.seed, step, self.share.batch_size)
        return [
            {**rendered(part, self.image_size), "noise_seed": torch.tensor([self.seed, step, number])}
            for number, part in enumerate(self.share.micro_batches(scenes))
        ]

    def validation(self) -> list[Batch]:
        return [rendered(sample_scenes(ACCURACY_STREAM, self.seed, 0, VALIDATION_IMAGES), self.image_size)]


def train_reader(settings: ReaderSettings) -> SceneReader:
    """Train to the last step, from the run's last state if there is one. Write the averaged reader and return it.

    RunError if the run was begun with other settings.
    """
    loop, directory, accelerator = settings.loop, Path(settings.runs), build_accelerator()
    state = latest_state(directory)
    share = Share(loop.batch_size, loop.micro_batch, accelerator.process_index, accelerator.num_processes)
    if accelerator.is_main_process:
        step = 0 if state is None else saved_progress(state)["step"]
        run_record.begin_session(directory, step, loop=loop, reader=settings.reader)
    accelerator.wait_for_everyone()
    reader = SceneReader(settings.reader, loop.seed)
    stage = ReaderStage(reader, loop.seed, loop.mixed_precision == "bf16")
    Trainer(stage, ReaderBatches(settings.reader.image_size, share, loop.seed), loop, directory, accelerator).train()
    averaged = averaged_reader(settings.reader, directory)
    if accelerator.is_main_process:
        save_reader(averaged, Path(settings.output), _summary(settings, directory))
    return averaged


def averaged_reader(config: ReaderConfig, run_dir: Path) -> SceneReader:
    """The reader with the averaged weights of a run's last state. ValueError if it has none."""
    state = latest_state(run_dir)
    if state is None:
        raise ValueError(f"{run_dir} holds no trained state")
    reader = SceneReader(config)
    reader.load_state_dict({name.removeprefix("reader."): value for name, value in load_average(state).items()})
    return reader.eval().requires_grad_(False)


def _summary(settings: ReaderSettings, run_dir: Path) -> dict[str, Any]:
    record = json.loads((run_dir / run_record.CONFIG_FILE).read_text(encoding="utf-8"))
    commits = [session["commit"] for session in record["sessions"]]
    return {"commits": commits, "exported_by": current_commit(), "loop": asdict(settings.loop)}
