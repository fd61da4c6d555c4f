"""Runs a checkpoint's predictor in the host: the keys and values of a prompt -> metric depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import comfy.model_management
import comfy.utils
import torch

from ...sf_model.config import SpatialFusionConfig
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.models.depth_flow import DepthSampling, draw_noise
from ...sf_model.models.depth_head import UPSCALE
from ...sf_model.models.expert_inputs import ExpertInputs, SourceFeatures
from .loaded_checkpoint import SpatialFusionModel
from .prompt_capture import EncodedPrompt

FLOAT_BYTES = 4
# 1024x1024 pixels at the Mini's stride of 8, or 4096x4096 at the large models' stride of 32. The depth head then needs
# 9 GB at most (float32, with guidance). No model is trained on so many queries, and a smaller depth serves a large
# image as well.
MAX_QUERIES = 16384


def check_size(model: SpatialFusionModel, width: int, height: int) -> None:
    """ValueError, with the largest size that fits, for an image of too many queries."""
    rows, columns = model.predictor.model.grid(height, width)
    if rows * columns > MAX_QUERIES:
        side = math.sqrt(MAX_QUERIES / (rows * columns))
        raise ValueError(
            f"set width and height to {math.floor(100 * side)}% of this or less, at the same aspect ratio: Depth "
            f"Adapter Apply resizes the depth to the latent. {width}x{height} pixels are {rows * columns} queries of "
            f"checkpoint {model.config.name!r}, which has one for every {model.config.spatial_transformer.stride} "
            f"pixels; at most {MAX_QUERIES} fit"
        )


def draw_sampling(
    model: SpatialFusionModel, width: int, height: int, seed: int, steps: int, guidance: float
) -> DepthSampling:
    """How one scene is sampled: the seed's noise for an image of this size, steps and guidance."""
    return DepthSampling(draw_noise(model.predictor.model.noise_shape(1, height, width), seed), steps, guidance)


def predict_depth(
    model: SpatialFusionModel,
    encoded: EncodedPrompt,
    width: int,
    height: int,
    features: SourceFeatures | None = None,
    sampling: DepthSampling | None = None,
) -> MetricDepth:
    """The depth (1, height, width) of the image that the prompt describes, on the predictor's device.

    features: of the source image of an edit. sampling: without it the result is the mean of all scenes that fit.
    """
    device = model.predictor.load_device
    dtype = computing_dtype(device)
    steps = 1 if sampling is None else sampling.steps
    passes = 2 if sampling is not None and sampling.guided_steps > 0 else 1
    source_tokens = 0 if features is None else features.tokens.shape[1]
    memory = passes * activation_bytes(model.config, width, height, source_tokens, dtype)
    comfy.model_management.load_models_gpu([model.predictor], memory_required=memory)
    inputs = ExpertInputs(
        keys_values=[(keys.to(device), values.to(device)) for keys, values in encoded.keys_values],
        height=height,
        width=width,
        prompt_mask=None if encoded.mask is None else encoded.mask.to(device),
        next_position=None if encoded.next_position is None else encoded.next_position.to(device),
        source=None if features is None else SourceFeatures(features.tokens.to(device), features.grid),
        dtype=dtype,
        out_dtype=torch.float32,
        on_layer=_progress(steps * model.config.spatial_transformer.num_layers),
    )
    predictor = model.predictor.model
    if sampling is None:
        prediction = predictor(inputs)
    else:
        prediction = predictor.sample(inputs, replace(sampling, noise=sampling.noise.to(device)))
    comfy.model_management.throw_exception_if_processing_interrupted()
    depth = prediction.to_metric_depth()
    _check_numbers(depth, model.config.name)
    return depth


def _check_numbers(depth: MetricDepth, checkpoint_name: str) -> None:
    """ValueError for NaN, which would look like a sky: damaged weights, or a text encoder that gives NaN."""
    outputs = (depth.depth, depth.confidence, depth.fov_y_deg)
    if torch.stack([torch.isnan(values).any() for values in outputs]).any():
        raise ValueError(
            f"download or export checkpoint {checkpoint_name!r} again, or load another file of the text encoder: the "
            "predicted depth has values that are no numbers (NaN)"
        )


def _progress(layers: int) -> Callable[[], None]:
    """A function to call after each of `layers` layers. It moves the progress bar, and stops if the user cancels."""
    progress = comfy.utils.ProgressBar(layers)

    def on_layer() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    return on_layer


def computing_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the host finds it faster on this device, else float32.

    The outputs are float32 in both. bfloat16 changes the Mini's depth by 0.1% (mean) or 0.2% (sampled).
    """
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32


def activation_bytes(
    config: SpatialFusionConfig, width: int, height: int, source_tokens: int, dtype: torch.dtype
) -> int:
    """An upper estimate of one pass: the kept states, one layer's work, the head's maps at 8x the grid, the outputs."""
    sizes = config.spatial_transformer
    queries = max(1, round(width / sizes.stride)) * max(1, round(height / sizes.stride))
    tokens = queries + source_tokens + 1
    per_token = sizes.hidden_size * (sizes.num_layers + 4) + 3 * sizes.intermediate_size
    per_token += 4 * config.mllm.num_attention_heads * config.mllm.head_dim
    map_values = queries * UPSCALE**2 * config.depth_head.fusion_channels
    # The last convolutions' input and output are float32, whatever the type of the others.
    last_maps = 0 if dtype == torch.float32 else 1.5 * FLOAT_BYTES
    if config.depth_flow is not None and config.depth_flow.detail_channels is not None:
        map_values += queries * UPSCALE**2 * config.depth_flow.detail_channels
    values = tokens * per_token + 4 * map_values
    return int(dtype.itemsize * values + last_maps * map_values + FLOAT_BYTES * 16 * width * height)
