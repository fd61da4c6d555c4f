"""SpatialFusion-Mini's base: its files and constants, shared by training and by the host's loader.

The base is a Qwen2.5 decoder (`mini_mllm.safetensors`, with the names of transformers) and an OmniGen2 transformer in
pixel space (`mini_dit.safetensors`, with the official names). Each file has its sizes as JSON in the metadata.
`tokenizer/` is a Qwen2 tokenizer directory.
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
VAE_FILE = "mini_vae.safetensors"
SPATIALFUSION_FILE = "mini_spatialfusion.safetensors"
TOKENIZER_DIR = "tokenizer"

PROMPT_TEMPLATE = "<|im_start|>{}<|im_end|>"
# After the prompt of a system with a layout: the language model holds the camera and one object at each of them.
CAMERA_REGISTER = "<|camera|>"
PAD_TOKEN, START_TOKEN, END_TOKEN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
PAD_TOKEN_ID, END_TOKEN_ID = 0, 2
# Side of the images, for files that do not state it.
IMAGE_SIZE_PX = 128
# Shift of the noise schedule at sampling: sigma' = shift * sigma / (1 + (shift - 1) * sigma).
SAMPLING_SHIFT = 2.0
# Noise levels below this count as this level. Otherwise the quotient would amplify small errors of the network.
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


def object_registers(objects: int) -> list[str]:
    """The tokens after the camera's register."""
    return [f"<|object_{number + 1}|>" for number in range(objects)]


def prompt_template(objects: int) -> str:
    """The template of a system whose layouts have so many objects; 0: it has no layout."""
    registers = [CAMERA_REGISTER, *object_registers(objects)] if objects else []
    return PROMPT_TEMPLATE + "".join(registers)


@dataclass(frozen=True)
class BaseWeights:
    """The contents of one of the base's files."""

    # Sizes.
    config: dict[str, Any]
    # The training run.
    revision: str
    state_dict: dict[str, torch.Tensor]
    # Side of the images that the base draws, in pixels. None: the file does not state it.
    image_size: int | None = None
    # What the decoder was trained to read, with one {} for the prompt.
    prompt_template: str = PROMPT_TEMPLATE


def velocity_from_data(latent: torch.Tensor, data: torch.Tensor, noise_level: torch.Tensor) -> torch.Tensor:
    """The velocity data - noise, (B, C, H, W). noise_level: (B,), sigma = 1 - t.

    Mini's transformer predicts the data. In pixel space a patch of noise has more dimensions than the hidden state can
    carry beside the image (arXiv 2511.13720). All code outside it works with velocities, as for any flow model.
    """
    sigma = noise_level.clamp_min(MIN_NOISE_LEVEL).view(-1, 1, 1, 1)
    return (data - latent) / sigma


def load_base_weights(path: Path, mmap: bool = True) -> BaseWeights:
    """Read one of the base's files. ValueError if it is not one.

    mmap: keeps the weights in the file until they are needed. Off: they are read into memory at once.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not mmap:
            state_dict = {name: value.clone() for name, value in state_dict.items()}
        size = metadata.get("image_size")
        return BaseWeights(
            json.loads(metadata["config"]),
            metadata["base_revision"],
            state_dict,
            None if size is None else int(size),
            metadata.get("prompt_template", PROMPT_TEMPLATE),
        )
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"install the pack again: {path} is not a file of SpatialFusion-Mini ({error})") from error
