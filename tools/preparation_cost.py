"""python -m tools.preparation_cost [--json FILE]: time, cost and disk space of `label` and `cache`, computed.

torch's counter counts operations on meta tensors of the real sizes. Bytes are counted as the store writes them. Both
commands process one image at a time, so the assumed share of the GPU's peak is lower than for training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from torch.utils.flop_counter import FlopCounterMode
from transformers import DepthProConfig, DepthProForDepthEstimation

from sf_model.backbones import get_backbone
from sf_model.config import SpatialFusionConfig

from .computed_tables import print_or_write
from .training_cost import DOLLARS_A_GPU_HOUR, PEAK_FLOPS, PROMPT_TOKENS, BaseCost, bases

UTILISATION = 0.15
IMAGES = 1_000_000
SIDE_PX = 1024
# As in the pack's configs.
DEPTH_DOWNSCALE = 4
LATENT_STRIDE_PX = 8
# The prompt of a dropped caption: only the template.
EMPTY_TOKENS = 30
NUMBER_BYTES = 2
POSITION_BYTES = 8
# Depth Pro resizes every image to this.
DEPTH_PRO_PX = 1536
VIT_LARGE = {
    "model_type": "dinov2",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 16,
    "image_size": 384,
}


@dataclass(frozen=True)
class Preparation:
    """The cost of one command for one base, for an image with side SIDE_PX and no source image."""

    name: str
    flops: float
    stored_bytes: int

    def gpu_hours(self) -> float:
        """For IMAGES images. Several GPUs share them equally."""
        return IMAGES * self.flops / (PEAK_FLOPS * UTILISATION) / 3600


def counted_flops(build: Callable[[], nn.Module], run: Callable[[nn.Module], object]) -> int:
    """Operations of `run` on the module of `build`, on the meta device. A multiplication and addition count 2."""
    with torch.device("meta"), torch.no_grad():
        module = build().eval()
        with FlopCounterMode(display=False) as counter:
            run(module)
    return counter.get_total_flops()


def depth_pro() -> DepthProForDepthEstimation:
    """Depth Pro as published: 952 M parameters, with the encoder for the field of view."""
    encoders = {f"{part}_model_config": dict(VIT_LARGE) for part in ("image", "patch", "fov")}
    return DepthProForDepthEstimation(DepthProConfig(use_fov_model=True, **encoders))


def flux_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def encoding_flops(base: str) -> int:
    """Operations of the base's autoencoder for one image."""
    if base == "omnigen2":
        return counted_flops(flux_autoencoder, lambda vae: vae.encode(torch.zeros(1, 3, SIDE_PX, SIDE_PX)))
    return counted_flops(AutoencoderKLQwenImage, lambda vae: vae.encode(torch.zeros(1, 3, 1, SIDE_PX, SIDE_PX)))


def stored_bytes(
    config: SpatialFusionConfig, side_px: int, hidden_size: int, tokens: int, empty_tokens: int, prompts: bool
) -> int:
    """Bytes of a sample's tensors in the store. prompts: on for `cache: latents+prompts`, off for `latents`."""
    depth = (side_px // DEPTH_DOWNSCALE) ** 2
    latent = get_backbone(config.backbone).latent_channels * (side_px // LATENT_STRIDE_PX) ** 2
    numbers = depth + latent
    others = 0
    if prompts:
        pair = 2 * config.mllm.num_kv_heads * config.mllm.head_dim
        numbers += config.spatial_transformer.num_layers * pair * tokens + hidden_size * (tokens + empty_tokens)
        # Three masks, and the position after the prompt.
        others = 2 * tokens + empty_tokens + POSITION_BYTES
    return NUMBER_BYTES * numbers + others


def preparations() -> list[Preparation]:
    size = torch.zeros(1, 3, DEPTH_PRO_PX, DEPTH_PRO_PX, device="meta")
    # The stored array of float32 metres, before compression.
    result = [Preparation("label, Depth Pro", counted_flops(depth_pro, lambda model: model(size)), 4 * SIDE_PX**2)]
    for base in bases():
        latents = encoding_flops(base.name)
        for cache, prompts in (("latents", False), ("latents+prompts", True)):
            mllm = _prompt_flops(base) if prompts else 0.0
            stored = stored_bytes(base.config, SIDE_PX, base.mllm_width, PROMPT_TOKENS, EMPTY_TOKENS, prompts)
            result.append(Preparation(f"{base.name} cache, {cache}", latents + mllm, stored))
    return result


def _prompt_flops(base: BaseCost) -> float:
    return 2.0 * (base.mllm_parameters - base.mllm_embedding) * (PROMPT_TOKENS + EMPTY_TOKENS)


def figures() -> dict[str, Any]:
    """The table, as docs/training.md shows it."""
    note = (
        f"Computed, not measured: a million images of {SIDE_PX}x{SIDE_PX}, H100 at {UTILISATION:.0%} of "
        f"{PEAK_FLOPS / 1e12:.0f} TFLOP/s (one image at a time), ${DOLLARS_A_GPU_HOUR:.2f} a GPU hour, prompts of "
        f"{PROMPT_TOKENS} tokens."
    )
    rows = []
    for preparation in preparations():
        hours = preparation.gpu_hours()
        cells = [
            preparation.name,
            f"{preparation.flops / 1e12:.1f}",
            *(f"{hours / gpus:,.1f}" for gpus in (1, 8, 64)),
            f"${hours * DOLLARS_A_GPU_HOUR:,.0f}",
            f"{IMAGES * preparation.stored_bytes / 1e12:.1f} TB",
        ]
        rows.append(cells)
    columns = ["before the training", "TFLOP an image", "hours, 1 GPU", "8 GPUs", "64 GPUs", "cost", "disk"]
    return {"note": note, "columns": columns, "rows": rows}


if __name__ == "__main__":
    print_or_write(__doc__, figures)
