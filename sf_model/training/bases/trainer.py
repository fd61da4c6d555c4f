"""The training loop beside a real base: a step is shared by all processes, and sheets are drawn by all of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from torch.distributed.fsdp import MixedPrecisionPolicy

from ..data.world import Batch
from ..loop import Trainer, build_accelerator
from ..run_record import append_log
from ..run_state import load_average, save_state
from ..sheets import write_png
from .sheet import SHEET_ROWS, Sheet, draw_sheet, joined
from .stages import BaseStage

DEEPSPEED_PREFIX = "deepspeed-"


# Of all bases and stages: what FSDP gathers at a time.
BLOCKS = (
    "Lumina2TransformerBlock",
    "QwenImageTransformerBlock",
    "Qwen2DecoderLayer",
    "Qwen2_5_VLDecoderLayer",
    "Qwen2_5_VLVisionBlock",
    "Dinov2Layer",
    "SpatialTransformerLayer",
)


def build_shared_accelerator(mixed_precision: str) -> Accelerator:
    """As the environment says that `accelerate launch` makes from its config. ValueError for FSDP1."""
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return build_accelerator(mixed_precision)
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError("this training saves FSDP2's parameters; set fsdp_version: 2 in accelerate's config")
    # Not the plugin's own policy: it rounds whatever goes in, metres of depth too, and the trained weights with the
    # gradients' sum to bf16. `WithSheet` computes in bf16 as it does without FSDP.
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    return build_accelerator(mixed_precision, FullyShardedDataParallelPlugin(mixed_precision_policy=policy))


class WithSheet(nn.Module):
    """A stage in its precision. Sheets go through forward as well, since FSDP gathers parameters for a forward only."""

    def __init__(self, stage: BaseStage, mixed_precision: str) -> None:
        super().__init__()
        self.stage, self.mixed_precision = stage, mixed_precision

    @property
    def _no_split_modules(self) -> list[str]:
        """Here accelerate asks what to share as one: the blocks that this stage has (stage 1: no diffusion model)."""
        found = {type(module).__name__ for module in self.modules()}
        return [name for name in BLOCKS if name in found]

    def forward(self, batch: Batch, generator: torch.Generator | None, pictures: bool = True) -> Any:
        # No cache of weights in bf16: with shared parameters it would hold all that were ever gathered.
        device, enabled = batch["depth_m"].device.type, self.mixed_precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=enabled, cache_enabled=False):
            return self.stage(batch, generator) if self.training else draw_sheet(self.stage, batch, pictures)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return self.stage.trainable_parameters()

    def saved(self) -> dict[str, torch.Tensor]:
        return self.stage.saved()

    def load(self, state_dir: Path) -> int:
        return self.stage.load(state_dir)


class BaseTrainer(Trainer):
    """`validation` is a list of batches here, small enough to be sampled from beside what trains."""

    shares_steps = True
    validation: list[Batch]

    def _prepare(self, stage: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """DeepSpeed and FSDP take model and optimiser together, as accelerate's config says."""
        check_distribution(self.accelerator)
        if self._is_deepspeed:
            # accelerate looks for it at a DataLoader, and this training has none.
            config = self.accelerator.deepspeed_plugin.deepspeed_config
            config["train_micro_batch_size_per_gpu"] = self.dataset.micro_batch
            config["train_batch_size"] = self.dataset.batch_size
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
        sheets: list[Sheet] = []
        with self.average.applied(self._parameters()), torch.no_grad():
            for batch in self.validation:
                batch = {name: value.to(self.accelerator.device) for name, value in batch.items()}
                sheets.append(self.stage(batch, None, sum(part.count for part in sheets) < SHEET_ROWS))
        self.stage.train()
        sheet = joined(sheets)
        if self.accelerator.is_main_process:
            write_png(sheet.columns, self.run_dir / "sheets" / f"{self.step:07d}.png")
            append_log(self.run_dir, {"step": self.step, "validation": sheet.metrics})


def _deepspeed_dir(run_dir: Path, step: int) -> Path:
    return run_dir / f"{DEEPSPEED_PREFIX}{step:07d}"


def check_distribution(accelerator: Accelerator) -> None:
    """ValueError, with the remedy, for ways of sharing whose states cannot be saved as this training saves them."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED and accelerator.deepspeed_plugin.deepspeed_config[
        "zero_optimization"
    ]["stage"] not in (0, 1, 2):
        raise ValueError("DeepSpeed's ZeRO-3 leaves no whole parameters to average; use zero2.yaml, or fsdp.yaml")
