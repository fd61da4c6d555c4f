"""A base with a spatial transformer beside it: the parts that train, and how they work together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn

from ..config import SpatialFusionConfig
from ..depth.metric_depth import MetricDepth
from ..models.depth_adapter import DepthAdapter
from ..models.depth_flow import DepthSampling, NoisyDepth, draw_noise
from ..models.depth_prediction import DepthPrediction
from ..models.depth_predictor import DepthPredictor
from ..models.expert_inputs import ExpertInputs
from ..models.layout_predictor import LayoutSampling, layout_noise
from ..models.spatial_transformer import uniform_layer_map
from .bases.base import Base, DepthFeatures, Prompt
from .flow import euler_sample

# Steps and guidance of the image in the nodes' templates.
IMAGE_STEPS = 20
IMAGE_GUIDANCE = 4.0


@dataclass(frozen=True)
class ImageSampling:
    """How an image is sampled."""

    steps: int = IMAGE_STEPS
    # KSampler's cfg.
    guidance: float = IMAGE_GUIDANCE


class System(nn.Module):
    """The `base`, and the networks of a checkpoint: `predictor` and `adapter`."""

    def __init__(self, base: Base, config: SpatialFusionConfig, seed: int) -> None:
        """ValueError if the configuration does not fit the base."""
        super().__init__()
        base.check(config)
        self.config = config
        self.base = base
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.predictor = DepthPredictor(config)
            self.adapter = DepthAdapter(config.depth_adapter)

    @property
    def layers_read(self) -> list[int]:
        """The MLLM's layers that the spatial transformer reads."""
        return sorted(set(uniform_layer_map(self.config.spatial_transformer.num_layers, self.config.mllm.num_layers)))

    def inputs(
        self,
        prompt: Prompt,
        height: int,
        width: int,
        source: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = torch.float32,
    ) -> ExpertInputs:
        """The predictor's inputs. source: (B, 3, H, W) in [0, 1], the image that the prompt edits."""
        features = None
        if source is not None:
            with torch.no_grad():
                features = self.base.source_features(source)
        return ExpertInputs(
            prompt.keys_values,
            height,
            width,
            prompt_mask=prompt.mask,
            next_position=prompt.next_position,
            source=features,
            dtype=torch.float32,
            out_dtype=out_dtype,
        )

    def mean_depth(self, inputs: ExpertInputs, noisy: NoisyDepth | None = None) -> DepthPrediction:
        """The mean depth of all scenes that fit the prompt. With `noisy`, the clean depth that it was made from."""
        return self.predictor(inputs, noisy)

    def with_layout(self, inputs: ExpertInputs, seeds: Sequence[int]) -> ExpertInputs:
        """The same with a layout drawn from each prompt, if the checkpoint has layouts and none is given."""
        predictor = self.predictor.layout
        if predictor is None or inputs.layout is not None:
            return inputs
        noise = torch.cat([layout_noise(predictor.noise_shape(1), seed) for seed in seeds])
        return self.predictor.with_layout(inputs, LayoutSampling(noise.to(inputs.keys_values[0][0].device)))

    def sampled_depth(self, inputs: ExpertInputs, seed: int) -> DepthPrediction:
        """One scene that fits the prompt, with the node's default steps and guidance."""
        keys = inputs.keys_values[0][0]
        noise = draw_noise(self.predictor.noise_shape(len(keys), inputs.height, inputs.width), seed)
        return self.predictor.sample(inputs, DepthSampling(noise.to(keys.device)))

    def features(self, depth: MetricDepth, latent: torch.Tensor) -> DepthFeatures:
        """F, the adapter's residual, for a latent (B, C, h, w)."""
        injection = self.config.depth_adapter.injection
        rows, columns = self.base.feature_grid(latent, injection)
        # The adapter is in float32, also beside a diffusion model in bf16.
        return DepthFeatures(injection, self.adapter.infer(depth, rows, columns, torch.float32).float())

    @torch.no_grad()
    def draw(
        self,
        prompt: Prompt,
        empty: Prompt,
        features: DepthFeatures | None,
        noise: torch.Tensor,
        sampling: ImageSampling,
        reference: torch.Tensor | None = None,
        empty_reference: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Latents sampled from `noise` (B, C, h, w), as KSampler does with euler and simple.

        Both halves of the guidance see the depth. reference: the latent of the source image beside `prompt`;
        empty_reference: the one beside `empty`.
        """

        def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            unconditional = self.base.velocity(x, time, empty, empty_reference, features)
            conditional = self.base.velocity(x, time, prompt, reference, features)
            return unconditional + sampling.guidance * (conditional - unconditional)

        return euler_sample(velocity, noise, sampling.steps, self.base.sampling_shift)
