"""What the spatial transformer, its head and the adapter cost an image, counted on meta tensors of any size."""

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
    """Predictor and adapter without memory, and one sample's input to them: a square image's of `side_px`."""

    predictor: DepthPredictor
    adapter: DepthAdapter
    keys_values: list[tuple[torch.Tensor, torch.Tensor]]
    depth_input: torch.Tensor
    noisy: NoisyDepth

    def predict(self, noisy: bool = False) -> DepthPrediction:
        """The mean's pass, or one of a sampled depth's."""
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
    """Of the spatial transformer with its head (the mean's one pass, or so many of a sampled depth's) and of the
    adapter's one, operation by operation."""
    modules = meta_modules(config, side_px, prompt_tokens)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        modules.predict(noisy=sampled_passes > 0)
        prediction = counter.get_total_flops()
        modules.adapt()
    return counter.get_total_flops() + (max(1, sampled_passes) - 1) * prediction
