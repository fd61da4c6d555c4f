"""The training loop beside a real base: a step is shared by all processes, and sheets are drawn by all of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import DistributedType

from ..loop import LoopConfig, Trainer
from ..run_record import append_log
from ..run_state import load_average, save_state
from ..sheets import write_png
from .settings import RunSettings
from .sheet import draw_sheet
from .stages import BaseStage

DEEPSPEED_PREFIX = "deepspeed-"


def loop_config(run: RunSettings) -> LoopConfig:
    return LoopConfig(
        steps=run.steps,
        learning_rate=run.learning_rate,
        warmup_steps=run.warmup_steps,
        weight_decay=run.weight_decay,
        gradient_clip=run.gradient_clip,
        ema_decay=run.ema_decay,
        seed=run.seed,
        log_every=run.log_every,
        save_every=run.save_every,
        sheet_every=run.sheet_every,
        workers=run.workers,
        mixed_precision=run.mixed_precision,
    )


class WithSheet(nn.Module):
    """Sheets go through forward as well, since FSDP gathers parameters for a forward only."""

    def __init__(self, stage: BaseStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, batch: dict[str, torch.Tensor], generator: torch.Generator | None) -> Any:
        return self.stage(batch, generator) if self.training else draw_sheet(self.stage, batch)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return self.stage.trainable_parameters()

    def saved(self) -> dict[str, torch.Tensor]:
        return self.stage.saved()

    def load(self, state_dir: Path) -> int:
        return self.stage.load(state_dir)


class BaseTrainer(Trainer):
    shares_steps = True

    def _prepare(self, stage: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """DeepSpeed and FSDP take model and optimiser together, as accelerate's config says."""
        check_distribution(self.accelerator)
        return self.accelerator.prepare(stage, optimizer)

    def _load(self, stage: WithSheet, state: Path) -> int:
        return stage.load(state)

    def _saved(self) -> dict[str, torch.Tensor]:
        return self._bare_stage.saved()

    def _restore(self, state: Path) -> None:
        if self._is_deepspeed:
            self.accelerator.load_state(str(_deepspeed_dir(self.run_dir, self.step)))
            self.average.values = {k: v.to(self.accelerator.device) for k, v in load_average(state).items()}
        else:
            super()._restore(state)

    def _save(self) -> None:
        """DeepSpeed alone knows its optimiser's state, and writes it in a format of its own beside the run's."""
        if not self._is_deepspeed:
            super()._save()
            return
        self.accelerator.save_state(str(_deepspeed_dir(self.run_dir, self.step)))
        if self.accelerator.is_main_process:
            save_state(
                self.run_dir,
                self.step,
                self._bare_stage.saved(),
                {"in_deepspeed_folder": torch.ones(1)},
                self.names,
                self.average.values,
            )
            for old in self.run_dir.glob(f"{DEEPSPEED_PREFIX}*"):
                if old != _deepspeed_dir(self.run_dir, self.step):
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    @property
    def _is_deepspeed(self) -> bool:
        return self.accelerator.distributed_type == DistributedType.DEEPSPEED

    def _sheet(self) -> None:
        self.stage.eval()
        batch = {name: value.to(self.accelerator.device) for name, value in self.validation.items()}
        with self.average.applied(self._parameters()), torch.no_grad():
            sheet = self.stage(batch, None)
        self.stage.train()
        if self.accelerator.is_main_process:
            write_png(sheet.columns, self.run_dir / "sheets" / f"{self.step:07d}.png")
            append_log(self.run_dir, {"step": self.step, "validation": sheet.metrics})


def _deepspeed_dir(run_dir: Path, step: int) -> Path:
    return run_dir / f"{DEEPSPEED_PREFIX}{step:07d}"


def check_distribution(accelerator: Accelerator) -> None:
    """ValueError, with the remedy, for ways of sharing whose states cannot be saved as this training saves them."""
    if accelerator.distributed_type == DistributedType.FSDP and accelerator.state.fsdp_plugin.fsdp_version != 2:
        raise ValueError("this training saves FSDP2's parameters; set fsdp_version: 2 in accelerate's config")
    if accelerator.distributed_type == DistributedType.DEEPSPEED and accelerator.deepspeed_config["zero_optimization"][
        "stage"
    ] not in (0, 1, 2):
        raise ValueError("DeepSpeed's ZeRO-3 leaves no whole parameters to average; use zero2.yaml, or fsdp.yaml")
