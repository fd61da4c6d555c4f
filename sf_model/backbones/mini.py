"""SpatialFusion-Mini's base: files, prompt template and pixel range, shared by training and by the host's loader.

The base is a Qwen2.5 decoder (`mini_mllm.safetensors`, transformers' names) and an OmniGen2 transformer in pixel space
(`mini_dit.safetensors`, the official names), each with its sizes as JSON in the metadata; `tokenizer/` is a Qwen2
tokenizer directory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from ..config import MINI_MLLM
from .base import Backbone

MINI_DIR = Path(__file__).resolve().parent.parent / "mini"
MLLM_FILE = "mini_mllm.safetensors"
DIT_FILE = "mini_dit.safetensors"
SPATIALFUSION_FILE = "mini_spatialfusion.safetensors"
TOKENIZER_DIR = "tokenizer"

PROMPT_TEMPLATE = "<|im_start|>{}<|im_end|>"
PAD_TOKEN, START_TOKEN, END_TOKEN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
PAD_TOKEN_ID = 0
# Pixels a side of the images that files from before this number draw.
IMAGE_SIZE_PX = 128
# The noise schedule's shift at sampling: timesteps are spent as sigma' = shift * sigma / (1 + (shift - 1) * sigma).
SAMPLING_SHIFT = 2.0
# Below this noise level the velocity is computed as at it: the quotient would amplify the network's last errors.
MIN_NOISE_LEVEL = 0.05

MINI = Backbone(
    name="mini",
    title="SpatialFusion-Mini",
    mllm=MINI_MLLM,
    text_encoder="Load SpatialFusion Mini",
    prompt_template=PROMPT_TEMPLATE,
    transformer="MiniTransformer",
    patch_embedder="x_embedder",
    references_before=False,
    patch_size=8,
    latent_channels=3,
    source_view=None,
    source_patch_px=8,
)


@dataclass(frozen=True)
class BaseWeights:
    """One model of the base, as its file has it."""

    # Sizes.
    config: dict[str, Any]
    # The run that made it.
    revision: str
    state_dict: dict[str, torch.Tensor]
    # Pixels a side of the images that the base draws. None: the file does not say.
    image_size: int | None = None


def velocity_from_data(latent: torch.Tensor, data: torch.Tensor, noise_level: torch.Tensor) -> torch.Tensor:
    """data - noise (B, C, H, W), from the noisy latent, the predicted data and the noise level sigma = 1 - t (B,).

    The Mini's transformer predicts the data: in pixel space a patch of noise has more dimensions than its hidden state
    could carry beside the image (arXiv 2511.13720). Everything outside it sees velocities, as of any flow model.
    """
    sigma = noise_level.clamp_min(MIN_NOISE_LEVEL).view(-1, 1, 1, 1)
    return (data - latent) / sigma


def load_base_weights(path: Path) -> BaseWeights:
    """Read one of the base's files. ValueError if it is not one, with the file's name and the remedy."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        size = metadata.get("image_size")
        return BaseWeights(
            json.loads(metadata["config"]), metadata["base_revision"], state_dict, None if size is None else int(size)
        )
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: not a file of SpatialFusion-Mini ({error}); install the pack again") from error
