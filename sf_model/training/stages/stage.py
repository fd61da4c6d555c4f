"""What all stages share: freeze set, precision, prompts and latents of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn

from ...depth.colours import depth_picture
from ...models.depth_flow import HIDDEN_UNTIL, NoisyDepth, depth_state, flow_weight
from ...models.depth_prediction import DepthPrediction
from ..bases.base import Prompt
from ..batch import Batch, true_depth, unit_image
from ..draws import draw_depth
from ..flow import interpolate
from ..losses import Losses, depth_losses
from ..settings import StageSettings
from ..sheets import Sheet
from ..system import System

# What an encoder of source images sees: learned alone in `source`, and left as it is by what reads it.
SEES_SOURCES = "system.predictor.source_encoder.monocular_depth."
# Blocks that the bases' networks repeat: what FSDP gathers at a time, and what is compiled.
BLOCKS = (
    "Lumina2TransformerBlock",
    "QwenImageTransformerBlock",
    "Qwen2DecoderLayer",
    "Qwen2_5_VLDecoderLayer",
    "Qwen2_5_VLVisionBlock",
    "Dinov2Layer",
    "SpatialTransformerLayer",
)
# Image sizes and lengths of captions, with and without a source, forth and back.
COMPILED_VARIANTS = 64


class Stage(nn.Module):
    """Subclasses name what learns and give the loss of a micro-batch."""

    name: str
    # Prefixes of the parameters that learn, of those less, and of the base's parts that are not needed.
    learns: tuple[str, ...]
    waits: tuple[str, ...] = (SEES_SOURCES,)
    unused: tuple[str, ...] = ()

    def __init__(self, system: System, settings: StageSettings) -> None:
        super().__init__()
        if settings.depth is not None and settings.depth.flow > 0 and system.config.depth_flow is None:
            raise ValueError(
                f"set {self.name}.depth.flow to 0, or give configuration {system.config.name!r} a depth_flow "
                '({"time_channels": 256, "detail_channels": 32}): it has none'
            )
        self.system, self.settings = system, settings
        self._freeze()

    def _freeze(self) -> None:
        waits = self.waits
        if self.settings.depth is not None and self.settings.depth.flow == 0:
            waits = (*waits, "system.predictor.depth_flow.")
        for name, value in self.named_parameters():
            value.requires_grad_(name.startswith(self.learns) and not name.startswith(waits))

    @torch.no_grad()
    def start_from(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take averaged weights of an earlier stage, by their names. ValueError where there is no such parameter."""
        own = dict(self.named_parameters())
        missing = sorted(name for name, value in tensors.items() if name not in own or own[name].shape != value.shape)
        if missing:
            raise ValueError(f"an earlier stage was trained with other sizes: {missing[:3]}; train it again")
        for name, value in tensors.items():
            own[name].copy_(value)

    def release_unused(self, has_prompts: bool) -> None:
        """Drop what takes memory and is never called. has_prompts: the batches carry them."""
        unused = set(self.unused)
        if has_prompts:
            unused.add("text_encoder")
        for name in unused:
            setattr(self.system.base, name, None)

    def compile_layers(self, backend: str = "inductor") -> None:
        """torch.compile of what is repeated, layer by layer: whole networks compile for many minutes."""
        import torch._dynamo  # seconds, and only for this

        torch._dynamo.config.cache_size_limit = max(COMPILED_VARIANTS, torch._dynamo.config.cache_size_limit)
        for module in self.modules():
            if type(module).__name__ in BLOCKS:
                module.compile(backend=backend)

    @property
    def _no_split_modules(self) -> list[str]:
        """Here accelerate asks what to share as one: the blocks that this stage has."""
        found = {type(module).__name__ for module in self.modules()}
        return [name for name in BLOCKS if name in found]

    def forward(self, batch: Batch, pictures: bool = True) -> Any:
        """In training the losses, "loss" being what is minimised; else a sheet, with or without pictures.

        Sheets go through forward as well, since FSDP gathers parameters for a forward only.
        """
        device = next(iter(batch.values())).device.type
        enabled = self.settings.loop.mixed_precision == "bf16"
        # No cache of weights in bf16: with shared parameters it would hold all that were ever gathered.
        with torch.autocast(device, torch.bfloat16, enabled=enabled, cache_enabled=False):
            return self.losses(batch) if self.training else self.sheet(batch, pictures)

    def losses(self, batch: Batch) -> Losses:
        """Means over the micro-batch's samples."""
        raise NotImplementedError

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """What is shown and measured of held-out samples."""
        raise NotImplementedError

    def prompt(self, batch: Batch) -> Prompt:
        """Encoded now, or from the cache."""
        if "keys_values" in batch:
            pairs: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * self.system.config.mllm.num_layers
            for place, layer in enumerate(self.system.layers_read):
                pairs[layer] = batch["keys_values"][:, place, 0], batch["keys_values"][:, place, 1]
            return Prompt(batch["hidden"], batch["hidden_mask"], pairs, batch["prompt_mask"], batch["next_position"])
        return self.system.base.encode(batch["input_ids"], batch["prompt_mask"], self._seen_source(batch))

    def empty_prompt(self, batch: Batch) -> Prompt:
        """The same without a caption. Only its hidden states matter."""
        if "keys_values" in batch:
            return Prompt(batch["empty_hidden"], batch["empty_mask"], [], batch["empty_mask"], batch["next_position"])
        return self.system.base.encode(batch["empty_ids"], batch["empty_mask"], self._seen_source(batch))

    def _seen_source(self, batch: Batch) -> torch.Tensor | None:
        seen = "source" in batch and self.system.base.mllm_sees_source
        return unit_image(batch["source"]) if seen else None

    def latent(self, batch: Batch) -> torch.Tensor:
        """(B, C, h, w), encoded now or from the cache."""
        return batch["latent"] if "latent" in batch else self.system.base.encode_image(unit_image(batch["rgb"]))

    def reference(self, batch: Batch) -> torch.Tensor | None:
        """The source's latent."""
        if "source" not in batch:
            return None
        if "source_latent" in batch:
            return batch["source_latent"]
        return self.system.base.encode_image(unit_image(batch["source"]))

    def source(self, batch: Batch) -> torch.Tensor | None:
        """(B, 3, H, W) in [0, 1], where the spatial transformer reads it."""
        return unit_image(batch["source"]) if "source" in batch and self.system.base.gives_features else None

    def predicted(self, batch: Batch, prompt: Prompt) -> tuple[DepthPrediction, Losses]:
        """The live prediction, of a share of the samples from their noisy depth, and its losses."""
        depth_m, settings = batch["depth_m"], self.settings.depth
        # While it learns autocast has its way, so that several processes round as one does.
        inputs = self.system.inputs(prompt, *depth_m.shape[-2:], self.source(batch), out_dtype=None)
        if settings.flow == 0:
            prediction = self.system.mean_depth(inputs)
            return prediction, depth_losses(prediction, depth_m, batch["fov_y_deg"])
        state = depth_state(depth_m, *self.system.predictor.grid(*depth_m.shape[-2:]))
        drawn = draw_depth(batch["noise_seed"], state, settings)
        noisy = NoisyDepth(interpolate(state, drawn.noise, drawn.time), drawn.time, drawn.has_noise)
        prediction = self.system.mean_depth(inputs.without_prompt(drawn.no_prompt), noisy)
        weight = torch.where(drawn.has_noise, flow_weight(drawn.time), torch.ones_like(drawn.time))
        is_given = drawn.has_noise & (drawn.time > HIDDEN_UNTIL)
        return prediction, depth_losses(prediction, depth_m, batch["fov_y_deg"], weight, is_given)

    def known_columns(self, batch: Batch) -> list[torch.Tensor]:
        """True image | (source) | true depth, each in [0, 1]."""
        image = unit_image(batch["rgb"]) if "rgb" in batch else self.system.base.decode_latent(batch["latent"])
        source = [unit_image(batch["source"])] if "source" in batch else []
        return [image, *source, depth_picture(true_depth(batch))]
