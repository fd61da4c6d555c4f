"""What a base model gives to training: prompts, latents, source features and a velocity. One subclass for each base.

A base is loaded frozen. A stage decides which of its parameters learn. Everything gives the numbers of ComfyUI's nodes
with the same weights, so that a checkpoint gets the same inputs in the host as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn as nn
import torch.nn.functional as F

from ...backbones import get_backbone
from ...config import Injection, SpatialFusionConfig
from ...models.expert_inputs import SourceFeatures
from ...models.spatial_transformer import uniform_layer_map
from .prompts import PromptTokens

KeysValuesRead = list[tuple[torch.Tensor, torch.Tensor] | None]


@dataclass(frozen=True)
class Prompt:
    """One pass of the MLLM."""

    # (B, T, D), what the diffusion model reads.
    hidden: torch.Tensor
    # (B, T) bool, True for tokens.
    hidden_mask: torch.Tensor
    # (K, V) of every layer for the spatial transformer, each (B, kv_heads, S, head_dim). None for layers that it does
    # not read.
    keys_values: KeysValuesRead
    # (B, S) bool, True for tokens.
    mask: torch.Tensor
    # (B,) RoPE position that a token after the prompt would have.
    next_position: torch.Tensor

    def repeated(self, count: int) -> Prompt:
        """Repeat every prompt `count` times, one copy after another."""

        def repeat(value: torch.Tensor) -> torch.Tensor:
            return value.repeat_interleave(count, dim=0)

        pairs = [pair and (repeat(pair[0]), repeat(pair[1])) for pair in self.keys_values]
        others = (repeat(value) for value in (self.hidden, self.hidden_mask, self.mask, self.next_position))
        hidden, hidden_mask, mask, after = others
        return Prompt(hidden, hidden_mask, pairs, mask, after)

    def rows(self, rows: torch.Tensor) -> Prompt:
        """Only the prompts with these indices."""
        pairs = [pair and (pair[0][rows], pair[1][rows]) for pair in self.keys_values]
        others = (self.hidden, self.hidden_mask, self.mask, self.next_position)
        hidden, hidden_mask, mask, after = (value[rows] for value in others)
        return Prompt(hidden, hidden_mask, pairs, mask, after)

    def with_hidden_of(self, other: Prompt, rows: torch.Tensor) -> Prompt:
        """The same, with the hidden states of `other` in the rows (B,) bool. This is how a caption is dropped."""
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
class DepthFeatures:
    """F, the depth adapter's residual, for a diffusion transformer."""

    injection: Injection
    # (B, channels, rows, columns): one cell for each latent cell, or for each patch.
    values: torch.Tensor

    def where(self, kept: torch.Tensor) -> DepthFeatures:
        """The same, but 0 in samples that are not `kept` (B,) bool."""
        return replace(self, values=self.values * kept.to(self.values)[:, None, None, None])

    def repeated(self, count: int) -> DepthFeatures:
        """Repeat every sample `count` times, one copy after another."""
        return replace(self, values=self.values.repeat_interleave(count, dim=0))

    def rolled(self) -> DepthFeatures:
        """Give every sample the depth of another one."""
        return replace(self, values=self.values.roll(1, dims=0))


class Base(nn.Module):
    """The networks that a spatial transformer runs beside. A stage may drop those that it never calls."""

    name: str
    # Shift of the noise schedule: the host's default.
    sampling_shift: float
    # A regular expression for the names of the linear layers that get a LoRA.
    lora_targets: str
    # Injections of the depth adapter that the base supports.
    injections: tuple[Injection, ...] = ("latent",)

    def __init__(self, tokens: PromptTokens) -> None:
        super().__init__()
        self.tokens = tokens
        self.text_encoder: nn.Module | None
        self.transformer: nn.Module | None
        self.vae: nn.Module | None

    @property
    def mllm_sees_source(self) -> bool:
        """Whether the MLLM sees the source image of an edit."""
        return self.tokens.edit_template is not None

    @property
    def gives_features(self) -> bool:
        """Whether `source_features` can be called."""
        raise NotImplementedError

    def check(self, config: SpatialFusionConfig) -> None:
        """ValueError if the checkpoint's configuration does not fit these weights."""
        found = self.mllm_sizes()
        wanted = (config.mllm.num_layers, config.mllm.num_kv_heads, config.mllm.head_dim)
        if found != wanted:
            raise ValueError(
                f"the text encoder has (layers, KV heads, head_dim) {found}, configuration {config.name!r} reads "
                f"{wanted}; name the text encoder of {config.backbone}, or another spatial.config"
            )
        self.check_source(config)
        if config.depth_adapter.injection not in self.injections:
            raise ValueError(
                f"set injection of configuration {config.name!r} to one of {self.injections}: {self.name} is not "
                f"trained with {config.depth_adapter.injection!r}"
            )

    def check_source(self, config: SpatialFusionConfig) -> None:
        """ValueError if the configuration needs other features of source images than this base gives."""
        raise NotImplementedError

    def mllm_sizes(self) -> tuple[int, int, int]:
        """Layers, key/value heads and head_dim of the text encoder."""
        raise NotImplementedError

    def decoder_state(self) -> dict[str, torch.Tensor]:
        """The text decoder's weights under Qwen2's names. They can initialise a spatial transformer."""
        raise NotImplementedError

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
        self,
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: Prompt,
        reference: torch.Tensor | None = None,
        features: DepthFeatures | None = None,
    ) -> torch.Tensor:
        """data - noise (B, C, h, w) float32 at times (B,), 1 being data. reference: latent of the source image."""
        if features is None:
            return self.run(latent, time, prompt, reference, None)
        if features.injection == "latent":
            return self.run(latent + features.values, time, prompt, reference, None)
        return self.run(latent, time, prompt, reference, features.values.flatten(2).transpose(1, 2))

    def run(
        self,
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: Prompt,
        reference: torch.Tensor | None,
        depth_tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        """The diffusion transformer. depth_tokens: (B, N, D), added to its patches."""
        raise NotImplementedError

    def target_velocity(
        self, x: torch.Tensor, data: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """The training target of `velocity` for `x`, a mix of noise and data at times (B,)."""
        return data - noise

    def feature_grid(self, latent: torch.Tensor, injection: Injection) -> tuple[int, int]:
        """Rows and columns of F for a latent (B, C, h, w)."""
        rows, columns = latent.shape[-2:]
        if injection == "latent":
            return rows, columns
        patch = self.patch_size
        return -(-rows // patch), -(-columns // patch)

    @property
    def patch_size(self) -> int:
        """Latent cells along a patch's side."""
        return get_backbone(self.name).patch_size

    def source_features(self, source: torch.Tensor) -> SourceFeatures:
        """Features of source images (B, 3, H, W) in [0, 1] for the spatial transformer."""
        raise NotImplementedError

    def keep_read(self, keys_values: Sequence[tuple[torch.Tensor, torch.Tensor]], layers: int) -> KeysValuesRead:
        """Replace by None the layers that a spatial transformer of `layers` layers does not read."""
        read = set(uniform_layer_map(layers, len(keys_values)))
        return [pair if index in read else None for index, pair in enumerate(keys_values)]
