"""What a base model offers to the trainings: prompts, latents, source features and a velocity. One subclass a base.

A base is frozen as it comes; stage 2 decides which of `transformer`'s parameters learn. Everything follows what
ComfyUI's nodes do with the same weights, so that a checkpoint meets in the host what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import init_empty_weights
from transformers import Dinov2Config, Dinov2Model

from ...backbones.revision import MLLM_WEIGHT, SAMPLES, fingerprint
from ...config import SpatialFusionConfig
from ...models.spatial_transformer import uniform_layer_map
from .keys import FileName, to_file, to_module, unchanged, vision_encoder
from .prompts import PromptTokens
from .weights import count, read_weights, stored_in_8_bits

# The matrix of a diffusion model that stands for it, in the bases' files.
PATCH_EMBEDDERS = ("x_embedder.weight", "img_in.weight")
VISION_SIZE_PX = 518
VISION_PATCH_PX = 14
VISION_MEAN, VISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KeysValuesRead = list[tuple[torch.Tensor, torch.Tensor] | None]


@dataclass(frozen=True)
class Prompt:
    """One pass of the MLLM."""

    # (B, T, D), what the diffusion model reads.
    hidden: torch.Tensor
    # (B, T) bool, True for tokens.
    hidden_mask: torch.Tensor
    # What the spatial transformer reads: (K, V) of every layer, each (B, kv_heads, S, head_dim), or None in layers that
    # nothing reads.
    keys_values: KeysValuesRead
    # (B, S) bool, True for tokens.
    mask: torch.Tensor
    # (B,) RoPE position that a token after the prompt would have.
    next_position: torch.Tensor

    def with_hidden_of(self, other: Prompt, rows: torch.Tensor) -> Prompt:
        """The same, with the hidden states of `other` in the rows (B,) bool: what a dropped caption looks like."""
        length = max(self.hidden.shape[1], other.hidden.shape[1])
        (own, own_mask), (new, new_mask) = (_padded(prompt, length) for prompt in (self, other))
        return replace(
            self,
            hidden=torch.where(rows[:, None, None], new, own),
            hidden_mask=torch.where(rows[:, None], new_mask, own_mask),
        )


def _padded(prompt: Prompt, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    missing = length - prompt.hidden.shape[1]
    return F.pad(prompt.hidden, (0, 0, 0, missing)), F.pad(prompt.hidden_mask, (0, missing))


@dataclass(frozen=True)
class BaseFiles:
    """Paths of a base's weights (files or folders, as `read_weights` takes them) and of its tokenizer's folder; `dtype`
    of everything that does not learn."""

    text_encoder: Path
    diffusion_model: Path
    vae: Path
    tokenizer: Path
    vision: Path | None
    dtype: torch.dtype


class Base(nn.Module):
    """`text_encoder`, `transformer`, `vae` and, for edit pairs, `vision` (DINOv2) with ComfyUI's numbers."""

    name: str
    # The noise schedule's, as the host samples by default.
    sampling_shift: float
    lora_targets: str

    def __init__(self, files: BaseFiles, tokens: PromptTokens) -> None:
        super().__init__()
        self.tokens = tokens
        self.dtype = files.dtype
        self.text_encoder: nn.Module
        self.transformer: nn.Module
        self.vae: nn.Module
        self.vision = None if files.vision is None else load_vision(files.vision, files.dtype)
        # Of what stands for the two models in a fingerprint: whether the file had it in 8 bits.
        self.eight_bit = {
            "mllm": stored_in_8_bits(files.text_encoder, (f"model.{MLLM_WEIGHT}",)),
            "transformer": stored_in_8_bits(files.diffusion_model, PATCH_EMBEDDERS),
        }

    @property
    def mllm_sees_source(self) -> bool:
        """Whether the MLLM sees the source image of an edit."""
        return self.tokens.edit_template is not None

    def check(self, config: SpatialFusionConfig) -> None:
        """ValueError where the checkpoint's configuration does not fit these weights."""
        found = self.mllm_sizes()
        wanted = (config.mllm.num_layers, config.mllm.num_kv_heads, config.mllm.head_dim)
        if found != wanted:
            raise ValueError(
                f"the text encoder has (layers, KV heads, head_dim) {found}, configuration {config.name!r} reads "
                f"{wanted}; name the text encoder of {config.backbone}, or another spatial.config"
            )
        wanted_width = config.spatial_transformer.source_feature_dim
        width = None if self.vision is None else self.vision.config.hidden_size
        if wanted_width != width:
            raise ValueError(
                f"the vision encoder gives {width} channels, configuration {config.name!r} reads {wanted_width}; name "
                "another weights.vision"
            )
        if config.depth_adapter.injection != "latent":
            raise ValueError(
                f"configuration {config.name!r} adds depth to tokens; real bases are trained with 'latent'"
            )

    def mllm_sizes(self) -> tuple[int, int, int]:
        """Layers, key/value heads and head_dim of the text encoder."""
        raise NotImplementedError

    def decoder_state(self) -> dict[str, torch.Tensor]:
        """The text decoder's weights under Qwen2's names, for a spatial transformer that starts as its layers."""
        raise NotImplementedError

    def transformer_file(self) -> dict[str, torch.Tensor]:
        """The transformer's tensors as ComfyUI's file of it has them."""
        return to_file(self.transformer, unchanged)

    def cache_identity(self, prompts: bool, layers_read: int) -> dict[str, Any]:
        """What cached latents, and `prompts`, follow from: samples of the weights, wherever their files lie."""
        identity: dict[str, Any] = {"base": self.name, "vae": _digest(self.vae)}
        if prompts:
            templates = [self.tokens.template, self.tokens.edit_template]
            identity |= {"text_encoder": _digest(self.text_encoder), "layers": layers_read, "templates": templates}
        return identity

    def encode(self, input_ids: torch.Tensor, mask: torch.Tensor, source: torch.Tensor | None) -> Prompt:
        """input_ids (B, S), mask (B, S) bool, padded on the right; source (B, 3, H, W) in [0, 1]."""
        raise NotImplementedError

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] -> the latent (B, C, H / 8, W / 8) that the diffusion model works on."""
        raise NotImplementedError

    def decode_latent(self, latent: torch.Tensor) -> torch.Tensor:
        """The inverse of `encode_image`, bounded to [0, 1]."""
        raise NotImplementedError

    def velocity(
        self, latent: torch.Tensor, time: torch.Tensor, prompt: Prompt, reference: torch.Tensor | None
    ) -> torch.Tensor:
        """data - noise (B, C, h, w) float32 at times (B,), 1 being data. reference: latent of the source image."""
        raise NotImplementedError

    def source_features(self, source: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """DINOv2's patch tokens (B, N, D) of (B, 3, H, W) in [0, 1], squeezed to a square as in the host; the grid."""
        assert self.vision is not None
        pixels = F.interpolate(source, size=(VISION_SIZE_PX,) * 2, mode="bicubic", antialias=True)
        pixels = (pixels * 255).clamp(0, 255).round() / 255
        mean, std = (torch.tensor(value, device=source.device).view(3, 1, 1) for value in (VISION_MEAN, VISION_STD))
        features = self.vision(((pixels - mean) / std).to(self.dtype)).last_hidden_state[:, 1:]
        return features, (VISION_SIZE_PX // VISION_PATCH_PX,) * 2

    def keep_read(self, keys_values: Sequence[tuple[torch.Tensor, torch.Tensor]], layers: int) -> KeysValuesRead:
        """None in place of what a spatial transformer of so many layers does not read."""
        read = set(uniform_layer_map(layers, len(keys_values)))
        return [pair if index in read else None for index, pair in enumerate(keys_values)]


def _digest(module: nn.Module) -> str:
    """Of a sample of every weight that is large enough to have one."""
    samples = [fingerprint(value) for value in module.parameters() if value.numel() >= SAMPLES]
    return sha256("".join(samples).encode("ascii")).hexdigest()


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules built inside have no memory for their parameters; buffers are real."""
    with init_empty_weights(include_buffers=False):
        yield


def assign(
    module: nn.Module,
    tensors: dict[str, torch.Tensor],
    file_name: FileName,
    dtype: torch.dtype,
    what: str,
    ignored: tuple[str, ...] = (),
) -> nn.Module:
    """Put a file's tensors into a module that was built empty, and freeze it."""
    state = to_module(tensors, module, file_name, what, ignored)
    module.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return module.eval().requires_grad_(False)


def load_vision(path: Path, dtype: torch.dtype) -> Dinov2Model:
    """DINOv2 of any size from ComfyUI's clip_vision file or a transformers folder."""
    tensors = read_weights(path)
    hidden = tensors["layernorm.weight"].shape[0]
    swiglu = "encoder.layer.0.mlp.weights_in.weight" in tensors
    config = Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=count(tensors, "encoder.layer."),
        # 64 channels a head in all published sizes; smaller ones are for tests.
        num_attention_heads=max(1, hidden // 64),
        image_size=VISION_SIZE_PX,
        patch_size=VISION_PATCH_PX,
        use_swiglu_ffn=swiglu,
    )
    with empty_weights():
        vision = Dinov2Model(config)
    return assign(vision, tensors, vision_encoder, dtype, str(path))
