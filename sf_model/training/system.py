"""A complete small system (MLLM, diffusion transformer, depth predictor, adapter) and how its parts act together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn

from ..backbones.mini import velocity_from_data
from ..depth.metric_depth import MetricDepth
from ..models.depth_adapter import DepthAdapter
from ..models.depth_flow import DepthSampling, NoisyDepth
from ..models.depth_prediction import DepthPrediction
from ..models.depth_predictor import DepthPredictor
from ..models.expert_inputs import ExpertInputs, KeysValues
from ..models.pixel_encoder import source_patches
from .bases.omnigen2_transformer import OmniGen2Transformer
from .bases.qwen2 import build_decoder, prompt_keys_values
from .mini_sizes import SOURCE_PATCH_PX, SystemSizes

# Lengths, sizes of images, with and without a source image, forth and back.
COMPILED_VARIANTS = 64


@dataclass(frozen=True)
class EncodedPrompt:
    """One pass of the MLLM: hidden states (B, S, D), mask (B, S) bool, and every layer's keys and values."""

    hidden: torch.Tensor
    mask: torch.Tensor
    keys_values: KeysValues

    def repeated(self, count: int) -> EncodedPrompt:
        """Every prompt `count` times, one after another."""
        hidden, mask, *flat = (
            value.repeat_interleave(count, dim=0)
            for value in (self.hidden, self.mask, *(value for pair in self.keys_values for value in pair))
        )
        return EncodedPrompt(hidden, mask, list(zip(flat[::2], flat[1::2])))


class SpatialFusionSystem(nn.Module):
    """The four networks under the names of their files; freezing and the loss belong to the stages."""

    def __init__(self, sizes: SystemSizes, seed: int) -> None:
        super().__init__()
        self.sizes = sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = build_decoder(sizes.decoder)
            self.transformer = OmniGen2Transformer(sizes.transformer)
            self.predictor = DepthPredictor(sizes.spatialfusion)
            self.adapter = DepthAdapter(sizes.spatialfusion.depth_adapter)
            self.transformer.initialize_weights()

    def compile_layers(self, backend: str = "inductor") -> None:
        """torch.compile for what is repeated, layer by layer: whole networks compile for many minutes, and the DPT
        head's enlargements come out slower than they were. Parameters keep their names."""
        import torch._dynamo  # seconds, and only for this

        torch._dynamo.config.cache_size_limit = max(COMPILED_VARIANTS, torch._dynamo.config.cache_size_limit)
        for layer in (*self.predictor.spatial_transformer.layers, *self.transformer.layers):
            layer.compile(backend=backend)

    def encode(self, input_ids: torch.Tensor, mask: torch.Tensor) -> EncodedPrompt:
        hidden, keys_values = prompt_keys_values(self.decoder, input_ids, mask, self.sizes.decoder.text_layer)
        return EncodedPrompt(hidden, mask, keys_values)

    def predict_depth(
        self,
        prompt: EncodedPrompt,
        height: int,
        width: int,
        noisy: NoisyDepth | None = None,
        source: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> DepthPrediction:
        """source: (B, 3, H, W) in [0, 1], the image that the prompt edits. out_dtype: as in `ExpertInputs`."""
        return self.predictor(_expert_inputs(prompt, height, width, source, out_dtype), noisy)

    def sample_depth(
        self,
        prompt: EncodedPrompt,
        height: int,
        width: int,
        sampling: DepthSampling,
        source: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> DepthPrediction:
        """Arguments as in `predict_depth`."""
        return self.predictor.sample(_expert_inputs(prompt, height, width, source, out_dtype), sampling)

    def depth_tokens(self, depth: MetricDepth, height: int, width: int) -> torch.Tensor:
        """F (B, N, hidden) for images of height x width pixels, as the transformer adds it to its patches."""
        patch = self.sizes.transformer.patch_size
        dtype = self.adapter.out.weight.dtype
        features = self.adapter.infer(depth, -(-height // patch), -(-width // patch), dtype)
        return features.flatten(2).transpose(1, 2)

    def velocity(
        self,
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: EncodedPrompt,
        depth_tokens: torch.Tensor | None,
        source: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """data - noise (B, C, H, W) float32 at times (B,), 1 being data. source: (B, 3, H, W) in [0, 1], to edit."""
        references = None if source is None else [(source * 2 - 1).to(latent)]
        data = self.transformer(latent, time, prompt.hidden, prompt.mask, references, depth_tokens=depth_tokens)
        return velocity_from_data(latent, data.float(), 1 - time)


def _expert_inputs(
    prompt: EncodedPrompt, height: int, width: int, source: torch.Tensor | None, out_dtype: torch.dtype | None
) -> ExpertInputs:
    features = None if source is None else source_patches(source, SOURCE_PATCH_PX)
    return ExpertInputs(prompt.keys_values, height, width, prompt.mask, source=features, out_dtype=out_dtype)


def drop_prompts(prompt: EncodedPrompt, empty: EncodedPrompt, dropped: torch.Tensor) -> EncodedPrompt:
    """The same batch with the prompts marked in `dropped` (B,) bool replaced by the one empty prompt's hidden states.

    The keys/values stay those of the full prompt: the depth is still predicted from it.
    """
    length = empty.hidden.shape[1]
    hidden = prompt.hidden.clone()
    mask = prompt.mask.clone()
    hidden[dropped, :length] = empty.hidden.to(hidden.dtype)
    mask[dropped] = False
    mask[dropped, :length] = True
    return EncodedPrompt(hidden, mask, prompt.keys_values)
