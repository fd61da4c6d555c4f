"""Runs a checkpoint's predictor in the host: the keys and values of a prompt -> metric depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_management
import torch

from ...sf_model.config import SpatialFusionConfig
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.models.depth_flow import DepthSampling, draw_noise
from ...sf_model.models.depth_head import UPSCALE
from ...sf_model.models.depth_prediction import DepthPrediction
from ...sf_model.models.expert_inputs import ExpertInputs, SourceFeatures
from ...sf_model.models.layout import Layout as LayoutNumbers
from ...sf_model.models.layout_predictor import LayoutSampling, layout_noise
from ..host.live_depth import LiveDepth
from .loaded_checkpoint import SpatialFusionModel
from .prompt_capture import EncodedPrompt

FLOAT_BYTES = 4
# 1024x1024 pixels at the Mini's stride of 8, or 4096x4096 at the large models' stride of 32. The depth head then needs
# 9 GB at most (float32, with guidance). No model is trained on so many queries, and a smaller depth serves a large
# image as well.
MAX_QUERIES = 16384
MAX_RESULT_BYTES = 2 * 2**30
# Numbers a pixel of a geometry: depth, confidence, mask, points and picture.
PLANES = 9


@dataclass(frozen=True)
class PredictedScene:
    """What was predicted for a prompt."""

    # (1, height, width), on the predictor's device.
    depth: MetricDepth
    # That the depth was predicted from: a batch of one, given or drawn. None for a checkpoint without layouts.
    layout: LayoutNumbers | None


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


def check_batch(batch: int, width: int, height: int) -> None:
    """ValueError, with the remedy, for a batch of depths that would take too much memory. One always fits."""
    size = 4 * PLANES * batch * width * height
    if batch > 1 and size > MAX_RESULT_BYTES:
        raise ValueError(
            f"set batch_size to at most {max(1, MAX_RESULT_BYTES * batch // size)}, or width and height smaller: Depth "
            f"Adapter Apply resizes the depth. {batch} depths of {width}x{height} pixels take {size / 2**30:.1f} GiB; "
            f"the limit is {MAX_RESULT_BYTES // 2**30}"
        )


def draw_sampling(
    model: SpatialFusionModel,
    width: int,
    height: int,
    seed: int,
    steps: int,
    guidance: float,
    on_prediction: Callable[[DepthPrediction], None] | None = None,
) -> DepthSampling:
    """How one scene is sampled: the seed's noise for an image of this size, steps and guidance.

    on_prediction: is called with what each step predicts.
    """
    noise = draw_noise(model.predictor.model.noise_shape(1, height, width), seed)
    return DepthSampling(noise, steps, guidance, on_prediction=on_prediction)


def predict_depth(
    model: SpatialFusionModel,
    encoded: EncodedPrompt,
    width: int,
    height: int,
    features: SourceFeatures | None = None,
    sampling: DepthSampling | None = None,
    seed: int = 0,
    on_layer: Callable[[], None] | None = None,
    layout: LayoutNumbers | None = None,
) -> PredictedScene:
    """The depth (1, height, width) of the image that the prompt describes, and its layout.

    features: of the source image of an edit. sampling: without it the result is the mean of all scenes that fit. seed:
    of the layout, for a checkpoint that draws one first. on_layer: is called after each layer of each step; without it
    the node's progress bar moves. layout: a batch of one, in place of a drawn one. Raises ValueError for a layout where
    the checkpoint has none.
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
        layout=None if layout is None else layout.to(device),
        on_layer=on_layer or LiveDepth(layers(model, steps), shows_pictures=False).on_layer,
    )
    predictor = model.predictor.model
    if predictor.layout is not None:
        noise = layout_noise(predictor.layout.noise_shape(1), seed)
        inputs = predictor.with_layout(inputs, LayoutSampling(noise.to(device)))
    if sampling is None:
        prediction = predictor(inputs)
    else:
        prediction = predictor.sample(inputs, replace(sampling, noise=sampling.noise.to(device)))
    comfy.model_management.throw_exception_if_processing_interrupted()
    depth = prediction.to_metric_depth()
    _check_numbers(depth, model.config.name)
    return PredictedScene(depth, inputs.layout)


def _check_numbers(depth: MetricDepth, checkpoint_name: str) -> None:
    """ValueError for NaN, which would look like a sky: damaged weights, or a text encoder that gives NaN."""
    outputs = (depth.depth, depth.confidence, depth.fov_y_deg)
    if torch.stack([torch.isnan(values).any() for values in outputs]).any():
        raise ValueError(
            f"download or export checkpoint {checkpoint_name!r} again, or load another file of the text encoder: the "
            "predicted depth has values that are no numbers (NaN)"
        )


def layers(model: SpatialFusionModel, steps: int) -> int:
    """How many layers run for one scene: those of every step."""
    return steps * model.config.spatial_transformer.num_layers


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
