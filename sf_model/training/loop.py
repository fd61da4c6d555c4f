"""The training loop: accelerate for precision and devices, exact resume, JSON-lines log, sheets."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, FullyShardedDataParallelPlugin
from tqdm import tqdm

from .data.world import Batch
from .ema import ParameterAverage
from .loop_config import LoopConfig
from .run_record import append_log
from .run_state import latest_state, load_average, load_optimizer, load_system, save_state
from .sharding import flatten_shared_optimizer, is_sharded, load_shared_optimizer, shared_like, whole
from .sheets import save_sheet
from .stages import Stage

NOISE_SEED_STRIDE = 1_000_003


class Batches(Protocol):
    """What the loop asks of its data; `steps` gives this process's micro-batches of every step."""

    samples_per_step: int

    def steps(self, first: int, last: int, rank: int, world: int, workers: int) -> Iterator[list[Batch]]: ...


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then a cosine to 2% of the peak."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))
    return config.learning_rate * warmup * (0.02 + 0.98 * cosine)


def build_accelerator(mixed_precision: str, fsdp_plugin: FullyShardedDataParallelPlugin | None = None) -> Accelerator:
    """Edits and text-to-image take turns, so that not every parameter has a gradient in every step."""
    return Accelerator(
        mixed_precision=mixed_precision,
        fsdp_plugin=fsdp_plugin,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


class Trainer:
    """One stage, from its last saved state (or from nothing) to `config.steps`.

    A subclass may share a step between processes (`shares_steps`): its stage then gives the same result with any number
    of them. The Mini's processes have batches of their own instead.
    """

    shares_steps = False

    def __init__(
        self,
        stage: Stage,
        dataset: Batches,
        validation: Batch,
        config: LoopConfig,
        run_dir: Path,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.config, self.dataset, self.validation, self.run_dir = config, dataset, validation, run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        self.accelerator = accelerator or build_accelerator(config.mixed_precision)
        parameters = stage.trainable_parameters()
        self.names = list(parameters)
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )
        self.step = 0
        state = latest_state(run_dir)
        if state is not None:
            self.step = self._load(stage, state)
        self.stage, self.optimizer = self._prepare(stage, optimizer)
        self.average = ParameterAverage(self._parameters(), config.ema_decay)
        if state is not None:
            self._restore(state)

    def _prepare(self, stage: Stage, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        return self.accelerator.prepare(stage, optimizer)

    def _load(self, stage: Stage, state: Path) -> int:
        """Weights of a saved state; returns its step."""
        return load_system(state, stage.system)

    def _saved(self) -> Any:
        """What a state on disk holds: a module or its tensors."""
        return self._bare_stage.system

    def _restore(self, state: Path) -> None:
        """Moments and averages of a saved state; the weights are in the stage already."""
        parameters = self._parameters()
        if is_sharded(parameters):
            stored = safetensors.torch.load_file(state / "optimizer.safetensors")
            load_shared_optimizer(stored, self._bare_optimizer, parameters)
        else:
            load_optimizer(state, self._bare_optimizer, self.names)
        self.average.values = {
            name: shared_like(value, parameters[name]) for name, value in load_average(state).items()
        }

    @property
    def _bare_stage(self) -> Stage:
        return self.accelerator.unwrap_model(self.stage)

    @property
    def _bare_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return self._bare_stage.trainable_parameters()

    def train(self) -> None:
        """Run to the end; what it has is saved on the way, so that a killed run resumes exactly."""
        config, main = self.config, self.accelerator.is_main_process
        world_size, rank = self.accelerator.num_processes, self.accelerator.process_index
        steps = self.dataset.steps(self.step, config.steps, rank, world_size, config.workers)
        progress = tqdm(total=config.steps, initial=self.step, disable=not main, mininterval=5)
        started, since = time.monotonic(), self.step
        for batches in steps:
            device = self.accelerator.device
            losses = self._train_step([{name: value.to(device) for name, value in b.items()} for b in batches])
            progress.update()
            if self.step % config.log_every == 0:
                elapsed = time.monotonic() - started
                samples = self.dataset.samples_per_step * (1 if self.shares_steps else world_size)
                losses = self._agreed(losses)
                if main:
                    self._log(losses, (self.step - since) * samples / elapsed)
                    progress.set_postfix(loss=f"{losses['loss'].item():.4f}")
            last = self.step == config.steps
            if last or self.step % config.save_every == 0:
                self._save()
            if last or self.step % config.sheet_every == 0:
                self._sheet()
        progress.close()

    def _agreed(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A shared step's losses are the mean over its processes; others log the main one's."""
        if not self.shares_steps or self.accelerator.num_processes == 1:
            return losses
        return {name: self.accelerator.reduce(value, "mean") for name, value in losses.items()}

    def _train_step(self, batches: list[Batch]) -> dict[str, torch.Tensor]:
        index = self.step * self.accelerator.num_processes + self.accelerator.process_index
        generator = torch.Generator().manual_seed(self.config.seed * NOISE_SEED_STRIDE + index)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        total: dict[str, torch.Tensor] = {}
        for place, batch in enumerate(batches, start=1):
            with self._gradients_of(last=place == len(batches)):
                losses = self.stage(batch, generator)
                self.accelerator.backward(losses["loss"] / len(batches))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / len(batches)
        self.accelerator.clip_grad_norm_(self.stage.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.average.update(self._parameters(), self.step)
        return total

    def _gradients_of(self, last: bool) -> Any:
        """Processes exchange gradients once a step, with the last micro-batch."""
        return nullcontext() if last else self.accelerator.no_sync(self.stage)

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
        parameters, saved = self._parameters(), self._saved()
        if is_sharded(parameters):
            main = self.accelerator.is_main_process
            optimizer: Any = whole(flatten_shared_optimizer(self._bare_optimizer, parameters), main)
            saved, average = whole(saved, main), whole(self.average.values, main)
        else:
            optimizer, average = self._bare_optimizer, self.average.values
        if self.accelerator.is_main_process:
            save_state(self.run_dir, self.step, saved, optimizer, self.names, average)
        self.accelerator.wait_for_everyone()

    def _sheet(self) -> None:
        if not self.accelerator.is_main_process:
            return
        stage = self._bare_stage
        with self.average.applied(self._parameters()):
            validation = {name: value.to(self.accelerator.device) for name, value in self.validation.items()}
            metrics = save_sheet(stage, validation, self.run_dir / "sheets" / f"{self.step:07d}.png")
        append_log(self.run_dir, {"step": self.step, "validation": metrics})
