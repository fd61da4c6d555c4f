"""python -m sf_model.training.cost: memory, time and cost of a training on real bases, computed and never measured.

Parameters are counted on meta tensors of the real sizes. A pass costs 2 FLOPs a parameter and token, plus attention;
training a part 3 passes (4 with gradient checkpointing), and a frozen part that gradients go through 2 (3). The assumed
share of the peak and the prices are below and in the table's head: change them to your machine's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn as nn
from accelerate import init_empty_weights
from diffusers import QwenImageTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from ..config import OMNIGEN2, QWEN_IMAGE, SpatialFusionConfig
from ..depth_adapter import DepthAdapter
from ..depth_predictor import DepthPredictor
from .omnigen2 import OmniGen2Config, OmniGen2Transformer

GIB = 2**30
# H100 SXM: dense bf16 peak, what trainings of this kind reach of it, and a usual price.
PEAK_FLOPS = 989e12
UTILISATION = 0.35
DOLLARS_A_GPU_HOUR = 2.5
GPU_MEMORY_GIB = 80
PROMPT_TOKENS = 200
# bf16 activations kept a token and layer, in units of the width: whole, and with checkpointing only the block's input.
ACTIVATION_WIDTHS, CHECKPOINT_WIDTHS = 34, 1
# float32 weight, gradient, two moments of Adam and the running average.
TRAINED_BYTES = 20
FROZEN_BYTES = 2


@dataclass(frozen=True)
class BaseCost:
    """Sizes of one base; the MLLM's counts are those of its published weights (decoder without the vision tower)."""

    name: str
    config: SpatialFusionConfig
    mllm_parameters: int
    transformer_parameters: int
    transformer_layers: int
    transformer_width: int
    lora_parameters_per_rank: int


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _lora_per_rank(transformer: nn.Module, words: tuple[str, ...]) -> int:
    return sum(
        module.in_features + module.out_features
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and any(word in name for word in words)
    )


def bases() -> list[BaseCost]:
    """OmniGen2 and Qwen-Image, counted on meta tensors."""
    with init_empty_weights():
        omnigen2, qwen = OmniGen2Transformer(OmniGen2Config()), QwenImageTransformer2DModel()
    return [
        BaseCost(
            "omnigen2",
            OMNIGEN2,
            3_085_938_688,
            _count(omnigen2),
            32,
            2520,
            _lora_per_rank(omnigen2, ("attn.", "feed_forward")),
        ),
        BaseCost(
            "qwen_image",
            QWEN_IMAGE,
            7_615_616_512,
            _count(qwen),
            60,
            3072,
            _lora_per_rank(qwen, ("attn.", "_mlp.net")),
        ),
    ]


@lru_cache
def spatial_flops(config: SpatialFusionConfig, side_px: int) -> int:
    """Of one pass of spatial transformer, head and adapter, counted operation by operation on meta tensors."""
    mllm = config.mllm
    with torch.device("meta"):
        predictor, adapter = DepthPredictor(config), DepthAdapter(config.depth_adapter)
        pair = torch.empty(1, mllm.num_kv_heads, PROMPT_TOKENS, mllm.head_dim)
        depth_input = torch.empty(1, 3, side_px, side_px)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            predictor([(pair, pair)] * mllm.num_layers, side_px, side_px)
            adapter(depth_input)
    return counter.get_total_flops()


@dataclass(frozen=True)
class Plan:
    """One training: a stage at an image size, `lora_rank` None for the whole diffusion model."""

    base: BaseCost
    stage: str
    side_px: int
    lora_rank: int | None
    steps: int
    batch_size: int

    @property
    def image_tokens(self) -> int:
        return (self.side_px // 16) ** 2

    def trained_parameters(self) -> int:
        config = self.base.config
        with torch.device("meta"):
            spatial = _count(DepthPredictor(config)) + _count(DepthAdapter(config.depth_adapter))
        if self.stage == "stage1":
            return spatial
        if self.lora_rank is None:
            return spatial + self.base.transformer_parameters
        return spatial + self.lora_rank * self.base.lora_parameters_per_rank

    def frozen_parameters(self) -> int:
        """In the GPU's memory beside what learns; stage 1 has no diffusion model, and an autoencoder hardly counts."""
        transformer = self.stage == "stage2" and self.lora_rank is not None
        return self.base.mllm_parameters + (self.base.transformer_parameters if transformer else 0)

    def flops_per_sample(self) -> float:
        """Of forward and backward, gradient checkpointing included in stage 2."""
        mllm = 2.0 * self.base.mllm_parameters * PROMPT_TOKENS
        spatial = 3.0 * spatial_flops(self.base.config, self.side_px)
        if self.stage == "stage1":
            return mllm + spatial
        tokens = self.image_tokens + PROMPT_TOKENS
        attention = 4.0 * self.base.transformer_layers * tokens**2 * self.base.transformer_width
        one_pass = 2.0 * self.base.transformer_parameters * tokens + attention
        return mllm + spatial + one_pass * (4 if self.lora_rank is None else 3)

    def memory_gib(self, gpus: int, sharded: bool) -> float:
        """Of one GPU with one sample at a time; `sharded`: FSDP shares weights, gradients and moments."""
        states = TRAINED_BYTES * self.trained_parameters() + FROZEN_BYTES * self.frozen_parameters()
        tokens = self.image_tokens + PROMPT_TOKENS
        widths = CHECKPOINT_WIDTHS * self.base.transformer_layers + ACTIVATION_WIDTHS
        activations = 0 if self.stage == "stage1" else 2 * widths * tokens * self.base.transformer_width
        # The depth head at full resolution, and what the CUDA context and its kernels take.
        constant = 3 * GIB + 24 * 4 * self.side_px**2
        return ((states / gpus if sharded else states) + activations + constant) / GIB

    def hours(self, gpus: int) -> float:
        return self.steps * self.batch_size * self.flops_per_sample() / (gpus * PEAK_FLOPS * UTILISATION) / 3600

    def dollars(self, gpus: int) -> float:
        return self.hours(gpus) * gpus * DOLLARS_A_GPU_HOUR


def plans() -> list[Plan]:
    """What the configs that come with the pack do."""
    return [
        plan
        for base in bases()
        for plan in (
            Plan(base, "stage1", 1024, None, 30_000, 64),
            Plan(base, "stage2", 1024, 64, 20_000, 64),
            Plan(base, "stage2", 1024, None, 20_000, 64),
        )
    ]


def table() -> str:
    """Markdown."""
    lines = [
        f"Computed, not measured: H100 at {UTILISATION:.0%} of {PEAK_FLOPS / 1e12:.0f} TFLOP/s, "
        f"${DOLLARS_A_GPU_HOUR:.2f} a GPU hour, 1024x1024, one sample a GPU at a time, no offloading.",
        "",
        "| base, training | trained | frozen | samples | GPUs | GiB a GPU | same with FSDP | hours | cost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for plan in plans():
        kind = "" if plan.stage == "stage1" else ", LoRA 64" if plan.lora_rank else ", whole model"
        for gpus in (1, 8, 64):
            memory, shared = plan.memory_gib(gpus, False), plan.memory_gib(gpus, True)
            cells = [
                f"{plan.base.name} {plan.stage}{kind}",
                f"{plan.trained_parameters() / 1e9:.2f} B",
                f"{plan.frozen_parameters() / 1e9:.1f} B",
                f"{plan.steps * plan.batch_size / 1e6:.2f} M",
                str(gpus),
                f"{memory:.0f}" + ("" if memory <= GPU_MEMORY_GIB else " (too much)"),
                "" if gpus == 1 else f"{shared:.0f}" + ("" if shared <= GPU_MEMORY_GIB else " (too much)"),
                f"{plan.hours(gpus):,.1f}",
                f"${plan.dollars(gpus):,.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(table())
