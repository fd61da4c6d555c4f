"""The training loop: one stage, from its last saved state (or from the start) to its last step.

accelerate splits a step between processes and devices. A step gives the same result with any number of them. A killed
run continues from its last saved state with the same result. Steps without a finite gradient are skipped and counted.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, FullyShardedDataParallelPlugin, parse_flag_from_env
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from tqdm import tqdm

from ..files.picture_sheet import write_png
from .average import ParameterAverage
from .batch import Batch
from .data.numbered import Batches
from .losses import Losses
from .optimiser import build_optimiser, learning_rate, set_rates, trainable_parameters
from .run_record import RunError, append_log
from .run_state import RunState, latest_state, save_state, saved_progress
from .settings import LoopSettings
from .sheets import SHEET_ROWS, Sheet, joined

# After so many, the run ends with an error.
MAX_SKIPPED_IN_A_ROW = 50


def fsdp_plugin() -> FullyShardedDataParallelPlugin | None:
    """None if accelerate's config does not ask for FSDP. ValueError for FSDP1 and DeepSpeed."""
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        raise ValueError("use configs/accelerate/fsdp.yaml: DeepSpeed's states are not those of this training")
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return None
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError("set fsdp_version: 2 in accelerate's config: this training saves FSDP2's parameters")
    # The plugin's own policy would round inputs (also metres of depth), trained weights and the sum of the gradients
    # to bf16. Stages choose bf16 themselves, as they do without FSDP.
    return FullyShardedDataParallelPlugin(mixed_precision_policy=MixedPrecisionPolicy(cast_forward_inputs=False))


def build_accelerator() -> Accelerator:
    """An Accelerator, set up by the environment of `accelerate launch`. ValueError for FSDP1 and DeepSpeed."""
    return Accelerator(
        mixed_precision="no",
        fsdp_plugin=fsdp_plugin(),
        # A step is either an edit or text-to-image, so that some parameters have no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


class Trainer:
    """`stage`: a module that returns losses in training mode and a sheet in evaluation mode (`stages.Stage`)."""

    def __init__(
        self, stage: nn.Module, batches: Batches, loop: LoopSettings, run_dir: Path, accelerator: Accelerator
    ) -> None:
        self.batches, self.loop, self.run_dir, self.accelerator = batches, loop, run_dir, accelerator
        run_dir.mkdir(parents=True, exist_ok=True)
        self.stage, self.optimiser = accelerator.prepare(stage, build_optimiser(stage, loop))
        self.average = ParameterAverage(trainable_parameters(self.stage), loop.ema_decay)
        bare = getattr(self.optimiser, "optimizer", self.optimiser)
        self.state = RunState(self.stage, bare, self.average)
        self.step = self.skipped = self._skipped_in_a_row = 0
        saved = latest_state(run_dir)
        if saved is not None:
            progress = saved_progress(saved)
            self.step, self.skipped = progress["step"], progress["skipped"]
            self.state.load(saved)

    def train(self) -> None:
        """Train to the last step. Log, save and write sheets on the way."""
        loop, is_main = self.loop, self.accelerator.is_main_process
        progress = tqdm(total=loop.steps, initial=self.step, disable=not is_main, mininterval=5)
        started, since = time.monotonic(), self.step
        self.stage.train()
        for batches in self.batches.steps(self.step, loop.steps, loop.workers):
            losses = self._train_step([self._on_device(batch) for batch in batches])
            progress.update()
            is_last = self.step == loop.steps
            if is_last or self.step % loop.log_every == 0:
                losses = {name: self.accelerator.reduce(value, "mean") for name, value in losses.items()}
                rate = (self.step - since) * self.batches.share.batch_size / (time.monotonic() - started)
                self._log(losses, rate)
            if is_last or self.step % loop.save_every == 0:
                self._save()
            if is_last or self.step % loop.sheet_every == 0:
                self._sheet()
        progress.close()

    def _on_device(self, batch: Batch) -> Batch:
        return self.batches.on_device(batch, self.accelerator.device)

    def _train_step(self, batches: list[Batch]) -> Losses:
        """The losses' means over this process's samples, and the norm of the gradient."""
        set_rates(self.optimiser, self.loop, self.step)
        total: Losses = {}
        for place, batch in enumerate(batches, start=1):
            # Processes exchange gradients once a step, with the last micro-batch.
            is_last = place == len(batches)
            with nullcontext() if is_last else self.accelerator.no_sync(self.stage):
                losses = self.stage(batch)
                self.accelerator.backward(losses["loss"] / len(batches))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / len(batches)
        norm = self.accelerator.clip_grad_norm_(self.stage.parameters(), self.loop.gradient_clip)
        total["gradient_norm"] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self._update(math.isfinite(total["gradient_norm"].item()))
        return total

    def _update(self, is_finite: bool) -> None:
        """Take the optimiser's step, or skip it: one infinite gradient would spoil weights and averages."""
        self.step += 1
        if is_finite:
            self._skipped_in_a_row = 0
            self.optimiser.step()
            self.average.update(trainable_parameters(self.stage), self.step)
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                raise RunError(
                    f"lower learning_rate, or set mixed_precision to no: {MAX_SKIPPED_IN_A_ROW} steps in a row had no "
                    f"finite gradient, up to step {self.step}"
                )
        self.optimiser.zero_grad()

    def _log(self, losses: Losses, samples_per_second: float) -> None:
        if not self.accelerator.is_main_process:
            return
        entry: dict[str, Any] = {
            "step": self.step,
            "learning_rate": learning_rate(self.loop, self.step - 1),
            "samples_per_second": round(samples_per_second, 1),
            "time": round(time.time()),
            "skipped_steps": self.skipped,
        }
        numbers = {name: value.item() for name, value in losses.items()}
        # JSON has no NaN.
        finite = {name: round(number, 5) if math.isfinite(number) else None for name, number in numbers.items()}
        append_log(self.run_dir, {**entry, **finite})

    def _save(self) -> None:
        files = self.state.whole()
        if self.accelerator.is_main_process:
            save_state(self.run_dir, files, {"step": self.step, "skipped": self.skipped})
        self.accelerator.wait_for_everyone()

    def _sheet(self) -> None:
        self.stage.eval()
        sheets: list[Sheet] = []
        with self.average.applied(trainable_parameters(self.stage)), torch.no_grad():
            for batch in self.batches.validation():
                sheets.append(self.stage(self._on_device(batch), sum(sheet.count for sheet in sheets) < SHEET_ROWS))
        self.stage.train()
        sheet = joined(sheets)
        if self.accelerator.is_main_process:
            if sheet.columns:
                write_png(sheet.columns, self.run_dir / "sheets" / f"{self.step:07d}.png")
            append_log(self.run_dir, {"step": self.step, "validation": sheet.metrics})
