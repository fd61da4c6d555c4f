"""Prompt keys/values (and source features) -> metric depth: the spatial transformer and its head as one module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn as nn

from ..backbones import get_backbone
from ..config import SpatialFusionConfig
from .depth_flow import STATE_CHANNELS, DepthFlowInput, DepthSampling, NoisyDepth, sample_depth
from .depth_head import CONFIDENCE, LOG_DEPTH, UPSCALE, VALIDITY, DepthHead
from .depth_prediction import DepthPrediction
from .expert_inputs import ExpertInputs, SourceFeatures
from .layers import computing_in
from .layout import layout_of
from .layout_encoder import EncodedLayout, LayoutEncoder
from .layout_predictor import LayoutPredictor, LayoutSampling
from .pixel_encoder import SOURCE_CHANNELS, PixelEncoder, own_patch_px
from .source_encoder import EncodedSource, SourceEncoder
from .spatial_transformer import SpatialTransformer


class DepthPredictor(nn.Module):
    """The names of its children are the prefixes in the checkpoint."""

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
        sizes, patch_px = config.spatial_transformer, own_patch_px(config)
        sections = get_backbone(config.backbone).rope_sections if sizes.mllm_positions else None
        self.spatial_transformer = SpatialTransformer(sizes, config.mllm, sections, **factory)
        self.depth_head = DepthHead(config.depth_head, sizes.hidden_size, sizes.num_layers, **factory)
        self.depth_flow: DepthFlowInput | None = None
        if config.depth_flow is not None:
            source_channels = None if patch_px is None else SOURCE_CHANNELS
            channels = sizes.hidden_size, config.depth_head.fusion_channels, source_channels
            self.depth_flow = DepthFlowInput(config.depth_flow, *channels, **factory)
        self.layout: LayoutPredictor | None = None
        self.layout_encoder: LayoutEncoder | None = None
        if config.layout is not None:
            self.layout = LayoutPredictor(config.layout, config.mllm, **factory)
            self.layout_encoder = LayoutEncoder(config.layout, sizes.hidden_size, **factory)
        self.source_encoder: SourceEncoder | None = None
        if patch_px is not None:
            layout = None if config.layout is None else (config.layout, config.mllm)
            self.source_encoder = PixelEncoder(
                patch_px, sizes.hidden_size, sizes.source_at_queries, **factory, layout=layout
            )
        elif sizes.source_feature_dim is not None:
            self.source_encoder = SourceEncoder(
                sizes.source_feature_dim, sizes.hidden_size, sizes.source_at_queries, **factory
            )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of queries for an image of height x width pixels."""
        return self.spatial_transformer.grid(height, width)

    def noise_shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape of the flow's state for images of height x width pixels."""
        rows, columns = self.grid(height, width)
        return batch, STATE_CHANNELS, UPSCALE * rows, UPSCALE * columns

    def with_layout(self, inputs: ExpertInputs, sampling: LayoutSampling) -> ExpertInputs:
        """The same with a layout drawn from the prompt, if the checkpoint has layouts and none is given."""
        if self.layout is None or inputs.layout is not None:
            return inputs
        return replace(inputs, layout=self.layout.sample(inputs, sampling, self.source_layout(inputs)))

    def source_layout(self, inputs: ExpertInputs) -> torch.Tensor | None:
        """The state of the source image's layout; None without a source."""
        if inputs.source is None or not isinstance(self.source_encoder, PixelEncoder):
            return None
        features = inputs.source.tokens
        source = SourceFeatures(features.to(inputs.dtype or features.dtype), inputs.source.grid)
        return self.source_encoder.read_layout(self.source_encoder.read(source))

    def forward(self, inputs: ExpertInputs, noisy: NoisyDepth | None = None) -> DepthPrediction:
        """The mean depth of all scenes that fit the prompt. With `noisy`, the clean depth that it was made from.

        ValueError if the checkpoint lacks the source encoder or the flow, or the keys/values are from another MLLM.
        """
        inputs = self._placed(inputs)
        encoded = self._encoded(inputs), self._encoded_layout(inputs)
        return self._predict(inputs, *encoded, noisy).resized(inputs.height, inputs.width)

    def sample(self, inputs: ExpertInputs, sampling: DepthSampling) -> DepthPrediction:
        """One scene that fits the prompt, sampled by `depth_flow.sample_depth`. Errors as in `forward`."""
        inputs = self._placed(inputs)
        source, layout = self._encoded(inputs), self._encoded_layout(inputs)
        doubled, doubled_source, doubled_layout = inputs, source, layout
        if sampling.guided_steps:
            doubled = inputs.doubled_without_prompt(set(self.spatial_transformer.layer_map))
            doubled_source = None if source is None else source.doubled()
            doubled_layout = None if layout is None else layout.doubled()

        def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
            if guided:
                return self._predict(doubled, doubled_source, doubled_layout, noisy)
            return self._predict(inputs, source, layout, noisy)

        mean_first = self.config.depth_flow is not None and self.config.depth_flow.mean_first
        return sample_depth(predict, sampling, mean_first).resized(inputs.height, inputs.width)

    def _placed(self, inputs: ExpertInputs) -> ExpertInputs:
        """With the queries where the checkpoint learned them: older ones put them at the number of tokens."""
        return inputs if self.config.spatial_transformer.mllm_positions else replace(inputs, next_position=None)

    def _encoded(self, inputs: ExpertInputs) -> EncodedSource | None:
        if inputs.source is None:
            return None
        if self.source_encoder is None:
            raise ValueError(
                f"disconnect the source image: checkpoint {self.config.name!r} was trained without source images"
            )
        features = inputs.source.tokens
        source = SourceFeatures(features.to(inputs.dtype or features.dtype), inputs.source.grid)
        return self.source_encoder(source, self.grid(inputs.height, inputs.width))

    def _encoded_layout(self, inputs: ExpertInputs) -> EncodedLayout | None:
        """Of checkpoints with layouts. Without a layout in `inputs` all its tokens say so."""
        if self.layout_encoder is None:
            if inputs.layout is not None:
                raise ValueError(f"disconnect the layout: checkpoint {self.config.name!r} was trained without layouts")
            return None
        layout, is_known = inputs.layout, inputs.has_layout
        if layout is None:
            keys = inputs.keys_values[0][0]
            state = torch.zeros(self.layout.noise_shape(len(keys)), device=keys.device)
            layout = layout_of(state, len(self.config.layout.categories))
            is_known = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        aspect = inputs.width / inputs.height
        return self.layout_encoder(layout, aspect, inputs.computing_dtype, is_known)

    def _predict(
        self,
        inputs: ExpertInputs,
        source: EncodedSource | None,
        layout: EncodedLayout | None,
        noisy: NoisyDepth | None,
    ) -> DepthPrediction:
        """The prediction at the head's own size, 8 rows x 8 columns."""
        noise, skips = None, None
        if noisy is not None:
            if self.depth_flow is None:
                raise ValueError(f"set mode to mean: checkpoint {self.config.name!r} was trained without a depth flow")
            pixels = None if source is None else source.pixels
            noise = self.depth_flow(noisy, inputs.computing_dtype)
            skips = self.depth_flow.skips(noisy, inputs.computing_dtype, pixels)
        states, camera = self.spatial_transformer(inputs, source, noise, layout)
        path = self.depth_head.fuse(states, *self.grid(inputs.height, inputs.width), skips)
        with computing_in(inputs.out_dtype, path.device):
            path, camera = path.to(inputs.out_dtype or path.dtype), camera.to(inputs.out_dtype or camera.dtype)
            refinement = None if skips is None else self.depth_flow.detail.refine(path, skips)
            maps = self.depth_head.output(path, states[-1], refinement)
            fov_y_deg = self.depth_head.field_of_view(camera)
        return DepthPrediction(maps[:, LOG_DEPTH], maps[:, VALIDITY], maps[:, CONFIDENCE], fov_y_deg)
