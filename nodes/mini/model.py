"""SpatialFusion-Mini's diffusion model: the host's OmniGen2 with a transformer that predicts the image itself."""

from __future__ import annotations

from typing import Any

import comfy.ldm.omnigen.omnigen2
import comfy.model_base
import torch

from ...sf_model.backbones.mini import velocity_from_data


class MiniTransformer(comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel):
    """The host's class and parameters. It returns a velocity, as every flow-matching model in the host does."""

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        # The host's OmniGen2 negates the network's output. The host's velocity is noise - data.
        data = -super().forward(x, timesteps, *arguments, **options)
        return -velocity_from_data(x, data, timesteps)


class MiniModel(comfy.model_base.Omnigen2):
    """The host's OmniGen2 with a MiniTransformer."""

    def __init__(self, model_config: Any, device: Any = None) -> None:
        comfy.model_base.BaseModel.__init__(
            self, model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=MiniTransformer
        )
        self.memory_usage_factor_conds = ("ref_latents",)
