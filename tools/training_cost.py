"""python -m tools.training_cost [--json FILE]: memory, time and cost of a training on real bases, computed.

Parameters, and what spatial transformer, head and adapter keep for the backward pass, are counted on meta tensors of
the real sizes. A pass costs 2 FLOPs a parameter and token, plus attention. A trained part costs 3 passes (4 with
gradient checkpointing), a frozen part with gradients through it 2 (3). The assumed share of the peak and the prices are
below and in the table's head: change them to those of your machine. tests/training/test_cost.py compares the sums with
the bytes of a tiny training, and the constants with what real blocks keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn as nn
from accelerate import init_empty_weights
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from sf_model.config import OMNIGEN2, QWEN_IMAGE, SpatialFusionConfig
from sf_model.training.bases.omnigen2_transformer import OmniGen2Config, OmniGen2Transformer

from .computed_tables import print_or_write
from .counting import meta_modules, spatial_flops

GIB = 2**30
# H100 SXM: dense bf16 peak, the share of it that such trainings reach, and a usual price.
PEAK_FLOPS = 989e12
UTILISATION = 0.35
DOLLARS_A_GPU_HOUR = 2.5
GPU_MEMORY_GIB = 79
PROMPT_TOKENS = 200
# Share of the stage-2 samples with a dropped caption. For these the MLLM also reads an empty caption.
CAPTION_DROPOUT = 0.1
# bf16 activations kept a token and layer, in units of the width: of a full block, and of a checkpointed one, which
# keeps only its input. Measured: 31 in Qwen-Image's blocks, 44 in OmniGen2's.
ACTIVATION_WIDTHS, CHECKPOINT_WIDTHS = 44, 1
# Bytes a trained parameter: float32 weight, gradient, two moments of Adam and the running average.
TRAINED_BYTES = 20
FROZEN_BYTES = 2
# The bf16 copy of a trained weight, which is kept for the backward pass.
CAST_BYTES = 2
WEIGHT_BYTES = 4


@dataclass(frozen=True)
class BaseCost:
    """Sizes of one base."""

    name: str
    config: SpatialFusionConfig
    # Of the decoder, without the output layer, which is not loaded.
    mllm_parameters: int
    # Those of them in the word embedding, `mllm_width` for each word.
    mllm_embedding: int
    mllm_width: int
    # Of the MLLM's vision tower and the autoencoder.
    other_parameters: int
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
        sizes = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584, "num_heads": 16}
        tower = Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLConfig(vision_config=sizes).vision_config)
        video_autoencoder = AutoencoderKLQwenImage()
    return [
        BaseCost(
            "omnigen2",
            OMNIGEN2,
            3_085_938_688,
            151_936 * 2048,
            2048,
            # Flux's autoencoder.
            83_819_683,
            _count(omnigen2),
            32,
            2520,
            _lora_per_rank(omnigen2, ("attn.", "feed_forward")),
        ),
        BaseCost(
            "qwen_image",
            QWEN_IMAGE,
            7_070_619_136,
            152_064 * 3584,
            3584,
            _count(tower) + _count(video_autoencoder),
            _count(qwen),
            60,
            3072,
            _lora_per_rank(qwen, ("attn.", "_mlp.net")),
        ),
    ]


@contextmanager
def counted_activations(module: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of the tensors kept for the backward pass, each counted once, without the module's parameters."""
    own = {value.untyped_storage()._cdata for value in module.parameters()}
    kept: dict[int, int] = {}

    def record(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(record, lambda value: value):
        yield kept


@lru_cache
def spatial_activations(config: SpatialFusionConfig, side_px: int) -> int:
    """Bytes that spatial transformer, head and adapter keep of one sample in float32 (autocast has some in bf16)."""
    modules = meta_modules(config, side_px, PROMPT_TOKENS)
    with torch.device("meta"):
        with counted_activations(modules.predictor) as of_predictor:
            output = modules.predict()
        with counted_activations(modules.adapter) as of_adapter:
            features = modules.adapt()
    assert output.log_depth.requires_grad and features.requires_grad
    return sum(of_predictor.values()) + sum(of_adapter.values())


@dataclass(frozen=True)
class Plan:
    """One training."""

    base: BaseCost
    # "stage1" or "stage2".
    stage: str
    side_px: int
    # None: stage 2 trains the full diffusion model.
    lora_rank: int | None
    steps: int
    batch_size: int
    # Samples a GPU in one pass.
    micro_batch: int = 1

    @property
    def image_tokens(self) -> int:
        return (self.side_px // 16) ** 2

    @property
    def trains_all(self) -> bool:
        return self.stage == "stage2" and self.lora_rank is None

    def spatial_parameters(self) -> dict[str, int]:
        modules = meta_modules(self.base.config, self.side_px, PROMPT_TOKENS)
        return {"predictor": _count(modules.predictor), "adapter": _count(modules.adapter)}

    def trained_parameters(self) -> int:
        """Number of trained parameters. Stage 1 does not train the adapter."""
        spatial = self.spatial_parameters()
        if self.stage == "stage1":
            return spatial["predictor"]
        if self.lora_rank is None:
            return sum(spatial.values()) + self.base.transformer_parameters
        return sum(spatial.values()) + self.lora_rank * self.base.lora_parameters_per_rank

    def frozen_parameters(self) -> int:
        """Number of frozen parameters in the GPU's memory, in bf16. Stage 1 has no diffusion model there."""
        transformer = self.stage == "stage2" and self.lora_rank is not None
        read = self.base.mllm_parameters + self.base.other_parameters
        return read + (self.base.transformer_parameters if transformer else 0)

    def state_bytes(self) -> int:
        """Weights, gradients, moments and averages. Stage 1 also has the adapter, in float32 and not trained."""
        untrained = self.spatial_parameters()["adapter"] if self.stage == "stage1" else 0
        trained = TRAINED_BYTES * self.trained_parameters()
        return trained + FROZEN_BYTES * self.frozen_parameters() + WEIGHT_BYTES * untrained

    def ram_gib(self) -> float:
        """RAM of a process while it loads the base, before the GPU has it. Stage 1 loads the diffusion model, too."""
        unused = self.base.transformer_parameters if self.stage == "stage1" else 0
        return (WEIGHT_BYTES * self.trained_parameters() + FROZEN_BYTES * (self.frozen_parameters() + unused)) / GIB

    def saved_gib(self) -> float:
        """A saved state on disk, and in the first process's RAM while it is written: weights, moments and averages."""
        return 4 * WEIGHT_BYTES * self.trained_parameters() / GIB

    def flops_per_sample(self) -> float:
        """Operations of forward and backward, with gradient checkpointing in stage 2."""
        mllm = 2.0 * (self.base.mllm_parameters - self.base.mllm_embedding) * PROMPT_TOKENS
        spatial = 3.0 * spatial_flops(self.base.config, self.side_px, PROMPT_TOKENS)
        if self.stage == "stage1":
            return mllm + spatial
        tokens = self.image_tokens + PROMPT_TOKENS
        attention = 4.0 * self.base.transformer_layers * tokens**2 * self.base.transformer_width
        one_pass = 2.0 * self.base.transformer_parameters * tokens + attention
        return mllm * (1 + CAPTION_DROPOUT) + spatial + one_pass * (4 if self.lora_rank is None else 3)

    def activation_bytes(self) -> int:
        """Bytes for the backward pass of a micro-batch, with gradient checkpointing in the diffusion model."""
        casts = CAST_BYTES * sum(self.spatial_parameters().values())
        one = spatial_activations(self.base.config, self.side_px)
        if self.stage == "stage2":
            tokens = self.image_tokens + PROMPT_TOKENS
            widths = CHECKPOINT_WIDTHS * self.base.transformer_layers + ACTIVATION_WIDTHS
            one += 2 * widths * tokens * self.base.transformer_width
            casts += CAST_BYTES * self.base.transformer_parameters // self.base.transformer_layers
        return casts + self.micro_batch * one

    def gathered_bytes(self) -> int:
        """Bytes that FSDP does not split: two blocks of the diffusion model at a time, and what is in no block.

        Nearly all of the latter is the MLLM's word embedding.
        """
        blocks = 0
        if self.stage == "stage2":
            of_one = self.base.transformer_parameters // self.base.transformer_layers
            blocks = 2 * of_one * (2 * WEIGHT_BYTES if self.trains_all else FROZEN_BYTES)
        return blocks + FROZEN_BYTES * (self.base.mllm_embedding + self.base.other_parameters)

    def memory_gib(self, gpus: int, sharded: bool) -> float:
        """Memory of one GPU. sharded: FSDP splits weights, gradients and moments over the GPUs."""
        if sharded:
            states = self.state_bytes() / gpus + self.gathered_bytes()
        else:
            # Gradients are summed through buckets, which take as much memory as the gradients.
            states = self.state_bytes() + (WEIGHT_BYTES * self.trained_parameters() if gpus > 1 else 0)
        # For the CUDA context, its kernels and gaps in the memory.
        constant = 3 * GIB
        return (states + self.activation_bytes() + constant) / GIB

    def hours(self, gpus: int) -> float:
        return self.steps * self.batch_size * self.flops_per_sample() / (gpus * PEAK_FLOPS * UTILISATION) / 3600

    def dollars(self, gpus: int) -> float:
        return self.hours(gpus) * gpus * DOLLARS_A_GPU_HOUR


def plans() -> list[Plan]:
    """The trainings of the pack's configs."""
    return [
        plan
        for base in bases()
        for plan in (
            Plan(base, "stage1", 1024, None, 30_000, 64, micro_batch=8),
            Plan(base, "stage2", 1024, 64, 20_000, 64),
            Plan(base, "stage2", 1024, None, 20_000, 64),
        )
    ]


def figures() -> dict[str, Any]:
    """The table, as docs/training.md shows it."""
    note = (
        f"Computed, not measured: H100 at {UTILISATION:.0%} of {PEAK_FLOPS / 1e12:.0f} TFLOP/s, "
        f"${DOLLARS_A_GPU_HOUR:.2f} a GPU hour, 1024x1024, bf16 files, cached latents, the configs' micro-batches (8 "
        "in stage 1, 1 in stage 2), no offloading. RAM: GiB that each process needs while it loads. State: GiB on "
        "disk, and in the first process's RAM while it is written."
    )
    columns = ["base, training", "trained", "frozen", "samples", "RAM", "state"]
    columns += ["GPUs", "GiB a GPU", "with FSDP", "hours", "cost"]
    rows = []
    for plan in plans():
        kind = "" if plan.stage == "stage1" else ", LoRA 64" if plan.lora_rank else ", whole model"
        for gpus in (1, 8, 64):
            memory, shared = plan.memory_gib(gpus, False), plan.memory_gib(gpus, True)
            cells = [
                f"{plan.base.name} {plan.stage}{kind}",
                f"{plan.trained_parameters() / 1e9:.2f} B",
                f"{plan.frozen_parameters() / 1e9:.1f} B",
                f"{plan.steps * plan.batch_size / 1e6:.2f} M",
                f"{plan.ram_gib():.0f}",
                f"{plan.saved_gib():.0f}",
                str(gpus),
                f"{memory:.0f}" + ("" if memory <= GPU_MEMORY_GIB else " (too much)"),
                "" if gpus == 1 else f"{shared:.0f}" + ("" if shared <= GPU_MEMORY_GIB else " (too much)"),
                f"{plan.hours(gpus):,.1f}",
                f"${plan.dollars(gpus):,.0f}",
            ]
            rows.append(cells)
    return {"note": note, "columns": columns, "rows": rows}


if __name__ == "__main__":
    print_or_write(__doc__, figures)
