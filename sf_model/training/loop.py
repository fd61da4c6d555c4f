"""The training loop: accelerate for precision and devices, exact resume, JSON-lines log, sheets."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
from accelerate import Accelerator
from tqdm import tqdm

from .ema import ParameterAverage
from .run_record import append_log
from .run_state import latest_state, load_average, load_optimizer, load_system, save_state
from .sheets import save_sheet
from .stages import Stage
from .world_data import Batch, WorldBatches, loader

NOISE_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class LoopConfig:
    """`steps` optimiser steps of the dataset's batch size; intervals in steps."""

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    ema_decay: float
    seed: int
    log_every: int
    save_every: int
    sheet_every: int
    workers: int
    mixed_precision: str


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then a cosine to 2% of the peak."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))
    return config.learning_rate * warmup * (0.02 + 0.98 * cosine)


class Trainer:
    """One stage, from its last saved state (or from nothing) to `config.steps`."""

    def __init__(
        self, stage: Stage, dataset: WorldBatches, validation: Batch, config: LoopConfig, run_dir: Path
    ) -> None:
        self.config, self.dataset, self.validation, self.run_dir = config, dataset, validation, run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        parameters = stage.trainable_parameters()
        self.names = list(parameters)
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )
        self.step = 0
        state = latest_state(run_dir)
        if state is not None:
            self.step = load_system(state, stage.system)
            load_optimizer(state, optimizer, self.names)
        self.stage, self.optimizer = self.accelerator.prepare(stage, optimizer)
        self.average = ParameterAverage(self._parameters(), config.ema_decay)
        if state is not None:
            device = self.accelerator.device
            self.average.values = {name: value.to(device) for name, value in load_average(state).items()}

    @property
    def _bare_stage(self) -> Stage:
        return self.accelerator.unwrap_model(self.stage)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return self._bare_stage.trainable_parameters()

    def train(self) -> None:
        """Run to the end; what it has is saved on the way, so that a killed run resumes exactly."""
        config, main = self.config, self.accelerator.is_main_process
        world_size, rank = self.accelerator.num_processes, self.accelerator.process_index
        indices = range(self.step * world_size + rank, config.steps * world_size, world_size)
        batches = loader(self.dataset, indices, config.workers)
        progress = tqdm(total=config.steps, initial=self.step, disable=not main, mininterval=5)
        started, since = time.monotonic(), self.step
        for batch in batches:
            losses = self._train_step({name: value.to(self.accelerator.device) for name, value in batch.items()})
            progress.update()
            if main and self.step % config.log_every == 0:
                elapsed = time.monotonic() - started
                rate = (self.step - since) * world_size * self.dataset.config.batch_size / elapsed
                self._log(losses, rate)
                progress.set_postfix(loss=f"{losses['loss'].item():.4f}")
            last = self.step == config.steps
            if main and (last or self.step % config.save_every == 0):
                self._save()
            if main and (last or self.step % config.sheet_every == 0):
                self._sheet()
        progress.close()

    def _train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        index = self.step * self.accelerator.num_processes + self.accelerator.process_index
        generator = torch.Generator().manual_seed(self.config.seed * NOISE_SEED_STRIDE + index)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        losses = self.stage(batch, generator)
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.stage.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.average.update(self._parameters(), self.step)
        return losses

    def _log(self, losses: dict[str, torch.Tensor], samples_per_second: float) -> None:
        append_log(
            self.run_dir,
            {
                "step": self.step,
                "learning_rate": learning_rate(self.config, self.step),
                "samples_per_second": round(samples_per_second, 1),
                "time": round(time.time()),
                **{name: round(value.item(), 5) for name, value in losses.items()},
            },
        )

    def _save(self) -> None:
        save_state(self.run_dir, self.step, self._bare_stage.system, self.optimizer, self.names, self.average.values)

    def _sheet(self) -> None:
        stage = self._bare_stage
        with self.average.applied(self._parameters()):
            validation = {name: value.to(self.accelerator.device) for name, value in self.validation.items()}
            metrics = save_sheet(stage, validation, self.run_dir / "sheets" / f"{self.step:07d}.png")
        append_log(self.run_dir, {"step": self.step, "validation": metrics})
