"""What all stages share: freeze set, precision, prompts and latents of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn as nn

from ...depth.colours import depth_picture
from ...models.depth_flow import NoisyDepth, depth_state, flow_weight
from ...models.depth_prediction import DepthPrediction
from ...models.expert_inputs import ExpertInputs
from ...models.layout import layout_of
from ...models.layout_predictor import LAYOUT_SEED
from ..bases.base import Prompt
from ..batch import Batch, true_depth, unit_image
from ..draws import draw_depth, draw_share
from ..flow import interpolate
from ..losses import Losses, depth_losses
from ..settings import StageSettings
from ..sheets import SHEET_DEPTH_SEED, Sheet, depth_figures
from ..system import System

# The parts of a source encoder that only the stage `source` trains. The other stages freeze them.
SEES_SOURCES = ("system.predictor.source_encoder.monocular_depth.", "system.predictor.source_encoder.layout_reader.")
# The layout's expert, which only the stage `language` trains.
LAYOUT = "system.predictor.layout."
# The repeated blocks of the bases' networks. FSDP gathers, and torch.compile compiles, one block at a time.
BLOCKS = (
    "Lumina2TransformerBlock",
    "QwenImageTransformerBlock",
    "Qwen2DecoderLayer",
    "Qwen2_5_VLDecoderLayer",
    "Qwen2_5_VLVisionBlock",
    "Dinov2Layer",
    "SpatialTransformerLayer",
)
# Enough for all image sizes and caption lengths, with and without a source, forward and backward.
COMPILED_VARIANTS = 64


class Stage(nn.Module):
    """Subclasses name the parameters that learn and give the loss of a micro-batch."""

    name: str
    # Prefixes of the parameters that learn.
    learns: tuple[str, ...]
    # Prefixes, among those, of parameters that stay frozen.
    waits: tuple[str, ...] = (*SEES_SOURCES, LAYOUT)
    # Stages that may come before it, but train nothing that it uses. They can be trained at the same time.
    independent_of: tuple[str, ...] = ()
    # The parts of the system's sizes that it depends on. Empty: all.
    built_from: tuple[str, ...] = ()
    # Parts of the base that the stage does not need.
    unused: tuple[str, ...] = ()

    def __init__(self, system: System, settings: StageSettings) -> None:
        super().__init__()
        if settings.depth is not None and settings.depth.flow > 0 and system.config.depth_flow is None:
            raise ValueError(
                f"set {self.name}.depth.flow to 0, or give configuration {system.config.name!r} a depth_flow "
                '({"time_channels": 256, "detail_channels": 32, "mean_first": true}): it has none'
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
        """Load averaged weights of an earlier stage by name, without its heads. ValueError if one is not here."""
        tensors = {name: value for name, value in tensors.items() if name.startswith("system.")}
        own = dict(self.named_parameters())
        missing = sorted(name for name, value in tensors.items() if name not in own or own[name].shape != value.shape)
        if missing:
            raise ValueError(f"an earlier stage was trained with other sizes: {missing[:3]}; train it again")
        for name, value in tensors.items():
            own[name].copy_(value)

    def release_unused(self, has_prompts: bool) -> None:
        """Drop networks that are never called, to save memory. has_prompts: the batches contain encoded prompts."""
        unused = set(self.unused)
        if has_prompts:
            unused.add("text_encoder")
        for name in unused:
            setattr(self.system.base, name, None)

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile each repeated block alone. Compiling whole networks takes many minutes."""
        import torch._dynamo  # takes seconds, and only this needs it

        torch._dynamo.config.cache_size_limit = max(COMPILED_VARIANTS, torch._dynamo.config.cache_size_limit)
        for module in self.modules():
            if type(module).__name__ in BLOCKS:
                module.compile(backend=backend)

    @property
    def _no_split_modules(self) -> list[str]:
        """The blocks that this stage has. accelerate reads this to wrap each block for FSDP."""
        found = {type(module).__name__ for module in self.modules()}
        return [name for name in BLOCKS if name in found]

    def forward(self, batch: Batch, pictures: bool = True) -> Any:
        """In training mode the losses, of which "loss" is minimised. Otherwise a sheet, with or without pictures.

        Sheets must go through forward too: FSDP gathers parameters only for a forward.
        """
        device = next(iter(batch.values())).device.type
        enabled = self.settings.loop.mixed_precision == "bf16"
        # No cache of bf16 weights: with FSDP it would keep all parameters that were ever gathered.
        with torch.autocast(device, torch.bfloat16, enabled=enabled, cache_enabled=False):
            return self.losses(batch) if self.training else self.sheet(batch, pictures)

    def losses(self, batch: Batch) -> Losses:
        """Means over the micro-batch's samples."""
        raise NotImplementedError

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """Pictures and metrics of held-out samples."""
        raise NotImplementedError

    def prompt(self, batch: Batch) -> Prompt:
        """The prompts, encoded now or from the cache."""
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
        """The source's latent; None without a source."""
        if "source" not in batch:
            return None
        if "source_latent" in batch:
            return batch["source_latent"]
        return self.system.base.encode_image(unit_image(batch["source"]))

    def source(self, batch: Batch) -> torch.Tensor | None:
        """(B, 3, H, W) in [0, 1]; None if the spatial transformer does not read it."""
        return unit_image(batch["source"]) if "source" in batch and self.system.base.gives_features else None

    def inputs(self, batch: Batch, prompt: Prompt) -> ExpertInputs:
        """What the depth of the batch is predicted from."""
        # While training the type is left to autocast, so that several processes round as one does.
        out_dtype = None if self.training else torch.float32
        inputs = self.system.inputs(prompt, *batch["depth_m"].shape[-2:], self.source(batch), out_dtype)
        if self.system.config.layout is None or "layout_state" not in batch:
            return inputs
        layout = layout_of(batch["layout_state"], len(self.system.config.layout.categories))
        if not self.training:
            return replace(inputs, layout=layout)
        has_layout = ~draw_share(batch["noise_seed"], self.settings.depth.layout_dropout, LAYOUT_SEED)
        return replace(inputs, layout=layout, has_layout=has_layout.to(layout.present.device))

    def predicted(self, batch: Batch, inputs: ExpertInputs) -> tuple[DepthPrediction, Losses, torch.Tensor | None]:
        """The predicted depth, its losses, and which samples (B,) are predicted from a noisy depth. None: no sample."""
        depth_m, settings = batch["depth_m"], self.settings.depth
        if settings.flow == 0:
            prediction = self.system.mean_depth(inputs)
            return prediction, depth_losses(prediction, depth_m, batch["fov_y_deg"]), None
        state = depth_state(depth_m, *self.system.predictor.grid(*depth_m.shape[-2:]))
        drawn = draw_depth(batch["noise_seed"], state, settings)
        noisy = NoisyDepth(interpolate(state, drawn.noise, drawn.time), drawn.time, drawn.has_noise)
        prediction = self.system.mean_depth(inputs.without_prompt(drawn.no_prompt), noisy)
        weight = torch.where(drawn.has_noise, flow_weight(drawn.time), torch.ones_like(drawn.time))
        losses = depth_losses(prediction, depth_m, batch["fov_y_deg"], weight, drawn.has_noise)
        return prediction, losses, drawn.has_noise

    def sheet_depths(self, batch: Batch, prompt: Prompt) -> tuple[list[DepthPrediction], dict[str, float]]:
        """The mean depth, with a depth flow also a sampled one, and their figures.

        Of a system with layouts, the layouts are drawn from the prompts, and "_true_layout" is with the true ones.
        """
        inputs = self.inputs(batch, prompt)
        shown = [self.system.mean_depth(inputs)]
        figures = depth_figures(shown[0], batch)
        if inputs.layout is not None:
            figures = {f"{name}_true_layout": value for name, value in figures.items()}
            inputs = self.system.with_layout(replace(inputs, layout=None), batch["noise_seed"].tolist())
            shown = [self.system.mean_depth(inputs)]
            figures |= depth_figures(shown[0], batch)
        if self.settings.depth.flow > 0:
            shown.append(self.system.sampled_depth(inputs, SHEET_DEPTH_SEED))
            figures |= depth_figures(shown[1], batch, "_sampled")
        return shown, figures

    def known_columns(self, batch: Batch) -> list[torch.Tensor]:
        """True image | (source) | true depth, each in [0, 1]."""
        image = unit_image(batch["rgb"]) if "rgb" in batch else self.system.base.decode_latent(batch["latent"])
        source = [unit_image(batch["source"])] if "source" in batch else []
        return [image, *source, depth_picture(true_depth(batch))]
