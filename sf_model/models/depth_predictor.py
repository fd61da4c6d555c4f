"""Prompt keys/values (and source features) -> metric depth: the spatial transformer with its head, one module."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn

from ..config import SpatialFusionConfig
from .depth_flow import STATE_CHANNELS, DepthFlowInput, DepthSampling, NoisyDepth, sample_depth
from .depth_head import CONFIDENCE, LOG_DEPTH, UPSCALE, VALIDITY, DepthHead
from .depth_prediction import DepthPrediction
from .source_encoder import SOURCE_CHANNELS, EncodedSource, PixelEncoder, SourceEncoder, own_patch_px
from .spatial_transformer import KeysValues, SpatialTransformer


@dataclass(frozen=True)
class _Reads:
    """What a prediction reads of the prompt and of the source image; shapes as in `SpatialTransformer.forward`."""

    keys_values: KeysValues
    prompt_mask: torch.Tensor | None
    source: EncodedSource | None

    def and_without_prompt(self, layers: Collection[int]) -> _Reads:
        """The batch twice, then without any token of the prompt, nor of a source image that the MLLM read with it;
        the source's own features stay. Only the MLLM's `layers` are doubled: no other is read."""
        keys = self.keys_values[0][0]
        every = torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool, device=keys.device)
        seen = every if self.prompt_mask is None else self.prompt_mask
        doubled = [
            tuple(torch.cat([x, x]) for x in pair) if layer in layers else pair
            for layer, pair in enumerate(self.keys_values)
        ]
        source = None if self.source is None else self.source.twice()
        return _Reads(doubled, torch.cat([seen, torch.zeros_like(every)]), source)


class DepthPredictor(nn.Module):
    """Children are named after the checkpoint's prefixes."""

    def __init__(
        self,
        config: SpatialFusionConfig,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        factory = {"operations": operations, "dtype": dtype, "device": device}
        sizes = config.spatial_transformer
        self.spatial_transformer = SpatialTransformer(sizes, config.mllm, **factory)
        self.depth_head = DepthHead(config.depth_head, sizes.hidden_size, sizes.num_layers, **factory)
        patch_px = own_patch_px(config)
        self.depth_flow = (
            None
            if config.depth_flow is None
            else DepthFlowInput(
                config.depth_flow,
                sizes.hidden_size,
                config.depth_head.fusion_channels,
                None if patch_px is None else SOURCE_CHANNELS,
                **factory,
            )
        )
        self.source_encoder: SourceEncoder | None = None
        if patch_px is not None:
            self.source_encoder = PixelEncoder(patch_px, sizes.hidden_size, sizes.source_at_queries, **factory)
        elif sizes.source_feature_dim is not None:
            self.source_encoder = SourceEncoder(
                sizes.source_feature_dim, sizes.hidden_size, sizes.source_at_queries, **factory
            )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of queries for an image of height x width pixels."""
        stride = self.config.spatial_transformer.stride
        return max(1, round(height / stride)), max(1, round(width / stride))

    def noise_shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape of the flow's state for images of height x width pixels."""
        rows, columns = self.grid(height, width)
        return batch, STATE_CHANNELS, UPSCALE * rows, UPSCALE * columns

    def forward(
        self,
        keys_values: KeysValues,
        height: int,
        width: int,
        prompt_mask: torch.Tensor | None = None,
        source_features: torch.Tensor | None = None,
        source_grid: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
        on_layer: Callable[[], None] | None = None,
        noisy: NoisyDepth | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> DepthPrediction:
        """Depth of the height x width image that the prompt describes; arguments as in `SpatialTransformer.forward`.

        source_features: (B, N, feature_dim) of the source image on `source_grid`. noisy: the state of `depth_flow` that
        is to be denoised; without it the prediction is the mean. out_dtype: as in `DepthHead.forward`. ValueError where
        the checkpoint has no source encoder or no flow, or the keys/values are another MLLM's.
        """
        rows, columns = self.grid(height, width)
        source = self._encoded(source_features, source_grid, (rows, columns), dtype)
        reads = _Reads(keys_values, prompt_mask, source)
        return self._predict(reads, rows, columns, dtype, out_dtype, on_layer, noisy).resized(height, width)

    def sample(
        self,
        keys_values: KeysValues,
        height: int,
        width: int,
        sampling: DepthSampling,
        prompt_mask: torch.Tensor | None = None,
        source_features: torch.Tensor | None = None,
        source_grid: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
        on_layer: Callable[[], None] | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> DepthPrediction:
        """One of the scenes that fit the prompt, as `depth_flow.sample_depth` draws it.

        The other arguments, and errors, as in `forward`; `on_layer` is called in every step.
        """
        rows, columns = self.grid(height, width)
        source = self._encoded(source_features, source_grid, (rows, columns), dtype)
        reads = _Reads(keys_values, prompt_mask, source)
        layers = set(self.spatial_transformer.layer_map)
        both = reads.and_without_prompt(layers) if sampling.guided_steps else reads

        def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
            return self._predict(both if guided else reads, rows, columns, dtype, out_dtype, on_layer, noisy)

        return sample_depth(predict, sampling).resized(height, width)

    def _encoded(
        self,
        features: torch.Tensor | None,
        grid: tuple[int, int] | None,
        queries: tuple[int, int],
        dtype: torch.dtype | None,
    ) -> EncodedSource | None:
        if features is None:
            return None
        assert grid is not None
        if self.source_encoder is None:
            raise ValueError(
                f"checkpoint {self.config.name!r} was trained without source images; disconnect the source image"
            )
        return self.source_encoder(features.to(dtype or features.dtype), grid, queries)

    def _predict(
        self,
        reads: _Reads,
        rows: int,
        columns: int,
        dtype: torch.dtype | None,
        out_dtype: torch.dtype | None,
        on_layer: Callable[[], None] | None,
        noisy: NoisyDepth | None,
    ) -> DepthPrediction:
        """At the head's own size, 8 rows x 8 columns."""
        added = detail = None
        if noisy is not None:
            if self.depth_flow is None:
                raise ValueError(f"checkpoint {self.config.name!r} was trained without a depth flow; predict the mean")
            pixels = None if reads.source is None else reads.source.pixels
            computing = dtype or reads.keys_values[0][0].dtype
            added, detail = self.depth_flow(noisy, computing), self.depth_flow.shown(noisy, computing, pixels)
        states, camera = self.spatial_transformer(
            reads.keys_values,
            rows,
            columns,
            reads.prompt_mask,
            None if reads.source is None else reads.source.tokens,
            None if reads.source is None else reads.source.grid,
            dtype,
            on_layer,
            added,
            None if reads.source is None else reads.source.at_queries,
        )
        maps = self.depth_head(states, rows, columns, out_dtype, detail)
        fov_y_deg = self.depth_head.field_of_view(camera, out_dtype)
        return DepthPrediction(maps[:, LOG_DEPTH], maps[:, VALIDITY], maps[:, CONFIDENCE], fov_y_deg)
