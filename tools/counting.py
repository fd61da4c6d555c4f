"""Counts the operations of spatial transformer, head and adapter for an image, on meta tensors of any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from sf_model.config import SpatialFusionConfig
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_flow import NoisyDepth
from sf_model.models.depth_prediction import DepthPrediction
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs


@dataclass(frozen=True)
class MetaModules:
    """Predictor and adapter on the meta device, which needs no memory, and their inputs for one square image."""

    predictor: DepthPredictor
    adapter: DepthAdapter
    keys_values: list[tuple[torch.Tensor, torch.Tensor]]
    depth_input: torch.Tensor
    noisy: NoisyDepth

    def predict(self, noisy: bool = False) -> DepthPrediction:
        """One pass: for the mean depth, or with `noisy` for one step of a sampled depth."""
        inputs = ExpertInputs(self.keys_values, *self.depth_input.shape[-2:])
        return self.predictor(inputs, self.noisy if noisy else None)

    def adapt(self) -> torch.Tensor:
        return self.adapter(self.depth_input)


def meta_modules(config: SpatialFusionConfig, side_px: int, prompt_tokens: int) -> MetaModules:
    mllm = config.mllm
    with torch.device("meta"):
        pair = torch.empty(1, mllm.num_kv_heads, prompt_tokens, mllm.head_dim)
        predictor = DepthPredictor(config)
        return MetaModules(
            predictor,
            DepthAdapter(config.depth_adapter),
            [(pair, pair)] * mllm.num_layers,
            torch.empty(1, 3, side_px, side_px),
            NoisyDepth(torch.empty(predictor.noise_shape(1, side_px, side_px)), torch.empty(1)),
        )


@lru_cache
def spatial_flops(config: SpatialFusionConfig, side_px: int, prompt_tokens: int, sampled_passes: int = 0) -> int:
    """Operations of the spatial transformer with its head, and of the adapter, for one image.

    sampled_passes: passes of a sampled depth. 0: the one pass of the mean depth. The adapter has one pass.
    """
    modules = meta_modules(config, side_px, prompt_tokens)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        modules.predict(noisy=sampled_passes > 0)
        prediction = counter.get_total_flops()
        modules.adapt()
    return counter.get_total_flops() + (max(1, sampled_passes) - 1) * prediction
