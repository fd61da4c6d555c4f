"""Predict Metric Depth: prompt (and source image) -> the metric depth of the image that is about to be generated."""

from __future__ import annotations

import math
from dataclasses import replace

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.backbones import get_backbone
from ...sf_model.config import SpatialFusionConfig
from ...sf_model.depth.colours import depth_picture
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.models.depth_flow import DEFAULT_GUIDANCE, DEFAULT_STEPS, DepthSampling, draw_noise
from ...sf_model.models.depth_head import UPSCALE
from ..host.geometry import to_geometry
from ..host.notices import warn
from ..host.preview import depth_preview_ui
from ..inputs import CATEGORY, MoGeGeometry, SpatialFusion, seed_input
from ..runtime.loaded_checkpoint import SpatialFusionModel
from ..runtime.prompt_capture import EncodedPrompt, encode_prompt, encode_prompt_with_source
from ..runtime.source_features import SourceFeatures, source_features

MIN_SIZE_PX = 16
MAX_SIZE_PX = 16384
FLOAT_BYTES = 4
# 1024x1024 pixels at the Mini's stride of 8, 4096x4096 at the large models' 32; the head then takes 9 GB at most (in
# float32, guided). No model is trained on nearly as many, and a depth predicted at a smaller size serves a larger image
# as well.
MAX_QUERIES = 16384
SAMPLED, MEAN = "sampled", "mean"


class SpatialFusionPredictDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        size = {"default": 128, "min": MIN_SIZE_PX, "max": MAX_SIZE_PX, "step": 8}
        return io.Schema(
            node_id="SpatialFusionPredictDepth",
            display_name="Predict Metric Depth",
            category=CATEGORY,
            description=(
                "Reads the prompt once and predicts, in metres, the depth of the image that it describes. Connect the "
                "geometry to Depth Adapter Apply and the conditioning to the sampler's positive input."
            ),
            search_aliases=["spatialfusion", "depth", "geometry", "metric depth", "layout", "text to depth"],
            inputs=[
                SpatialFusion.Input("spatialfusion", tooltip="From Load SpatialFusion MLLM+MoT."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip=(
                        "What the image shows and where things stand. With a source it is an instruction instead, such "
                        'as "turn the red car to face left". It replaces CLIP Text Encode\'s prompt.'
                    ),
                ),
                io.Int.Input("width", **size, tooltip="Width in pixels of the image to generate: the latent's."),
                io.Int.Input("height", **size, tooltip="Height in pixels of the image to generate: the latent's."),
                io.Image.Input(
                    "source",
                    optional=True,
                    tooltip=(
                        "The image to edit. Needs a checkpoint trained for editing; beside real models with its "
                        "CLIP_VISION loaded (the Mini needs none)."
                    ),
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "Makes the source a reference latent of the conditioning, as the base's own edit nodes do. "
                        "Without it, connect Set Reference Latent behind the conditioning."
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=[SAMPLED, MEAN],
                    default=SAMPLED,
                    optional=True,
                    tooltip=(
                        "sampled: one definite scene that fits the prompt, a new one with every seed. mean: the "
                        "average of all such scenes, always the same, blurred where the prompt leaves something open."
                    ),
                ),
                seed_input("Which of the scenes that fit the prompt. Not used by mean.", optional=True),
                io.Int.Input(
                    "steps",
                    default=DEFAULT_STEPS,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip=(
                        "Steps from noise to a sampled scene; with guidance over 1 the spatial transformer runs twice "
                        "in the first few of them, where the layout is decided. Not used by mean."
                    ),
                ),
                io.Float.Input(
                    "guidance",
                    default=DEFAULT_GUIDANCE,
                    min=1.0,
                    max=10.0,
                    step=0.1,
                    optional=True,
                    tooltip=(
                        "How closely a sampled scene keeps to the prompt: higher is closer and less varied; 1 takes "
                        "about three quarters of the time. Not used by mean."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                MoGeGeometry.Output(
                    display_name="geometry",
                    tooltip="Metric depth with its camera, as the host's geometry nodes use it.",
                ),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The encoded prompt, from the same pass: identical to CLIP Text Encode's.",
                ),
                io.Image.Output(
                    display_name="preview", tooltip="The depth as colours: bright 0.5 m, dark 100 m, grey no surface."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        spatialfusion: SpatialFusionModel,
        prompt: str,
        width: int,
        height: int,
        source: torch.Tensor | None = None,
        vae: comfy.sd.VAE | None = None,
        mode: str = SAMPLED,
        seed: int = 0,
        steps: int = DEFAULT_STEPS,
        guidance: float = DEFAULT_GUIDANCE,
    ) -> io.NodeOutput:
        _check_size(spatialfusion, width, height)
        clip, decoder_path = spatialfusion.clip, spatialfusion.decoder_path
        if source is None:
            features = None
            encoded = encode_prompt(clip, decoder_path, prompt)
        else:
            view = get_backbone(spatialfusion.config.backbone).source_view
            features = source_features(spatialfusion, source, width, height, needed=view is None)
            encoded = encode_prompt_with_source(clip, decoder_path, prompt, source, vae, view)
        sampling, notice = None, None
        if mode == SAMPLED and spatialfusion.config.depth_flow is None:
            notice = (
                f"checkpoint {spatialfusion.config.name!r} was trained without a depth flow: this is the mean; set "
                "mode to mean, or choose a checkpoint with one"
            )
        elif mode == SAMPLED:
            shape = spatialfusion.predictor.model.noise_shape(1, height, width)
            sampling = DepthSampling(draw_noise(shape, seed), steps, guidance)
        depth = _predict(spatialfusion, encoded, width, height, features, sampling)
        preview = depth_picture(depth).movedim(1, -1).to(comfy.model_management.intermediate_device())
        shown = depth_preview_ui(depth, cls, preview) | (warn(cls, notice) or {})
        return io.NodeOutput(to_geometry(depth, preview), encoded.conditioning, preview, ui=shown)


def _check_size(model: SpatialFusionModel, width: int, height: int) -> None:
    rows, columns = model.predictor.model.grid(height, width)
    if rows * columns > MAX_QUERIES:
        side = math.sqrt(MAX_QUERIES / (rows * columns))
        raise ValueError(
            f"{width}x{height} pixels are {rows * columns} queries of checkpoint {model.config.name!r}, which has one "
            f"for every {model.config.spatial_transformer.stride} pixels; at most {MAX_QUERIES} fit. Set width and "
            f"height to {math.floor(100 * side)}% of this or less, at the same aspect ratio: Depth Adapter Apply "
            "resizes the depth to the latent"
        )


def _predict(
    model: SpatialFusionModel,
    encoded: EncodedPrompt,
    width: int,
    height: int,
    features: SourceFeatures | None,
    sampling: DepthSampling | None = None,
) -> MetricDepth:
    """Without `sampling` the mean."""
    source_tokens = 0 if features is None else features.tokens.shape[1]
    device = model.predictor.load_device
    dtype = _computing_dtype(device)
    guided = sampling is not None and sampling.guided_steps > 0
    memory = (1 + guided) * _activation_bytes(model.config, width, height, source_tokens, dtype)
    comfy.model_management.load_models_gpu([model.predictor], memory_required=memory)
    steps = 1 if sampling is None else sampling.steps
    progress = comfy.utils.ProgressBar(steps * model.config.spatial_transformer.num_layers)

    def on_layer() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    keys_values = [(keys.to(device), values.to(device)) for keys, values in encoded.keys_values]
    options = {
        "prompt_mask": None if encoded.mask is None else encoded.mask.to(device),
        "source_features": None if features is None else features.tokens.to(device),
        "source_grid": None if features is None else features.grid,
        "dtype": dtype,
        "out_dtype": torch.float32,
        "on_layer": on_layer,
    }
    predictor = model.predictor.model
    if sampling is None:
        prediction = predictor(keys_values, height, width, **options)
    else:
        sampling = replace(sampling, noise=sampling.noise.to(device))
        prediction = predictor.sample(keys_values, height, width, sampling, **options)
    comfy.model_management.throw_exception_if_processing_interrupted()
    return prediction.to_metric_depth()


def _computing_dtype(device: torch.device) -> torch.dtype:
    """Half precision where the host finds it faster on this device. With outputs in float32 it costs 0.1% of the mean's
    depth and 0.2% of a sampled one's (the Mini's)."""
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32


def _activation_bytes(
    config: SpatialFusionConfig, width: int, height: int, source_tokens: int, dtype: torch.dtype
) -> int:
    """An upper estimate: the states that are kept, one layer's work, the head's maps at 8x the grid, the outputs."""
    sizes = config.spatial_transformer
    queries = max(1, round(width / sizes.stride)) * max(1, round(height / sizes.stride))
    tokens = queries + source_tokens + 1
    per_token = sizes.hidden_size * (sizes.num_layers + 4) + 3 * sizes.intermediate_size
    per_token += 4 * config.mllm.num_attention_heads * config.mllm.head_dim
    map_values = queries * UPSCALE**2 * config.depth_head.fusion_channels
    # The last convolutions' input and output are in float32, whatever the type of the others.
    last_maps = 0 if dtype == torch.float32 else 1.5 * FLOAT_BYTES
    if config.depth_flow is not None and config.depth_flow.detail_channels is not None:
        map_values += queries * UPSCALE**2 * config.depth_flow.detail_channels
    values = tokens * per_token + 4 * map_values
    return int(dtype.itemsize * values + last_maps * map_values + FLOAT_BYTES * 16 * width * height)
