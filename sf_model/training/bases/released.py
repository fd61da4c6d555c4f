"""A released base: its weights come from files and are frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from ...models.expert_inputs import SourceFeatures
from .base import Base
from .keys import FileName, to_file, to_module, unchanged, vision_encoder
from .prompts import PromptTokens
from .weights import count, read_weights, stored_in_8_bits

# The matrix that identifies a diffusion model, by its name in each base's file.
PATCH_EMBEDDERS = ("x_embedder.weight", "img_in.weight")
VISION_SIZE_PX = 518
VISION_PATCH_PX = 14
VISION_MEAN, VISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BaseFiles:
    """Paths of a base's weights: files or folders, as `read_weights` takes them."""

    text_encoder: Path
    diffusion_model: Path
    vae: Path
    # Folder of the tokenizer.
    tokenizer: Path
    # DINOv2, for edit pairs.
    vision: Path | None
    # Type of the frozen weights.
    dtype: torch.dtype


class ReleasedBase(Base):
    """Subclasses load `text_encoder`, `transformer` and `vae`. `vision` is DINOv2, or None."""

    def __init__(self, files: BaseFiles, tokens: PromptTokens) -> None:
        super().__init__(tokens)
        self.dtype = files.dtype
        self.vision = None if files.vision is None else load_vision(files.vision, files.dtype)
        # Whether the matrices of the two models' fingerprints were stored in 8 bits.
        self.eight_bit = {
            "mllm": stored_in_8_bits(files.text_encoder, (f"model.{MLLM_WEIGHT}",)),
            "transformer": stored_in_8_bits(files.diffusion_model, PATCH_EMBEDDERS),
        }

    @property
    def gives_features(self) -> bool:
        return self.vision is not None

    def check_source(self, config: SpatialFusionConfig) -> None:
        """ValueError if the configuration needs other features of source images than this base gives."""
        wanted = config.spatial_transformer.source_feature_dim
        width = None if self.vision is None else self.vision.config.hidden_size
        if wanted != width:
            raise ValueError(
                f"name another weights.vision: the vision encoder gives {width} channels, configuration "
                f"{config.name!r} reads {wanted}"
            )

    def source_features(self, source: torch.Tensor) -> SourceFeatures:
        """DINOv2's patch tokens of images (B, 3, H, W) in [0, 1], squeezed to a square as in the host."""
        pixels = F.interpolate(source, size=(VISION_SIZE_PX,) * 2, mode="bicubic", antialias=True)
        pixels = (pixels * 255).clamp(0, 255).round() / 255
        mean, std = (torch.tensor(value, device=source.device).view(3, 1, 1) for value in (VISION_MEAN, VISION_STD))
        features = self.vision(((pixels - mean) / std).to(self.dtype)).last_hidden_state[:, 1:]
        return SourceFeatures(features, (VISION_SIZE_PX // VISION_PATCH_PX,) * 2)

    def transformer_file(self) -> dict[str, torch.Tensor]:
        """The transformer's tensors, as in ComfyUI's file."""
        return to_file(self.transformer, unchanged)

    def cache_identity(self, prompts: bool, layers_read: int) -> dict[str, Any]:
        """Identifies the weights that cached latents (and `prompts`) were made with, by samples of their values."""
        identity: dict[str, Any] = {"base": self.name, "vae": _digest(self.vae)}
        if prompts:
            templates = [self.tokens.template, self.tokens.edit_template]
            identity |= {"text_encoder": _digest(self.text_encoder), "layers": layers_read, "templates": templates}
        return identity

    def fingerprints(self, transformer_trained: bool) -> dict[str, str]:
        """Samples of the two models' weights, by which the nodes recognise another release.

        transformer_trained: a trained transformer is no longer in 8 bits, even if its file was.
        """
        decoder, transformer = self.decoder_state(), self.transformer.state_dict()
        embedder = next(transformer[name] for name in PATCH_EMBEDDERS if name in transformer)
        samples = {"mllm": decoder[MLLM_WEIGHT], "transformer": embedder}
        eight_bit = {**self.eight_bit, **({"transformer": False} if transformer_trained else {})}
        return {
            name: fingerprint(value, eight_bit[name]) for name, value in samples.items() if value.numel() >= SAMPLES
        }


def _digest(module: nn.Module) -> str:
    """A digest of samples of every weight that is large enough to be sampled."""
    samples = [fingerprint(value) for value in module.parameters() if value.numel() >= SAMPLES]
    return sha256("".join(samples).encode("ascii")).hexdigest()


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules that are built inside get no memory for their parameters, only for their buffers."""
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
        # All published sizes have 64 channels a head. Tests use smaller models.
        num_attention_heads=max(1, hidden // 64),
        image_size=VISION_SIZE_PX,
        patch_size=VISION_PATCH_PX,
        use_swiglu_ffn=swiglu,
    )
    with empty_weights():
        vision = Dinov2Model(config)
    return assign(vision, tensors, vision_encoder, dtype, str(path))
