"""Predict Metric Depth: prompt (and source image) -> the metric depth of the image that is about to be generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.sd
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.models.depth_flow import DEFAULT_GUIDANCE, DEFAULT_STEPS
from ...sf_model.scaffold.layout import Layout
from ...sf_model.scaffold.layout_numbers import GivenLayout
from ..host.geometry import to_geometry
from ..host.images import depth_colours, to_host
from ..host.latents import image_size
from ..host.layouts import NoLayout
from ..host.live_depth import LiveDepth
from ..host.notices import warn
from ..host.preview import depth_preview_ui
from ..host.settings import shows_depth
from ..inputs import (
    GENERATE_CATEGORY,
    MAX_SEED,
    ScaffoldLayout,
    aliases,
    geometry_output,
    layout_input,
    seed_input,
    size_inputs,
    spatialfusion_input,
)
from ..runtime.layouts import drawn_layout, layout_for
from ..runtime.loaded_checkpoint import SpatialFusionModel
from ..runtime.prediction import PredictedScene, check_batch, check_size, draw_sampling, layers, predict_depth
from ..runtime.prompt_capture import EncodedPrompt, encode_prompt, encode_prompt_with_source
from ..runtime.source_features import SourceFeatures, source_features

MAX_SIZE_PX = 16384
MAX_BATCH = 64
SAMPLED, MEAN = "sampled", "mean"


class SpatialFusionPredictDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionPredictDepth",
            display_name="Predict Metric Depth",
            category=GENERATE_CATEGORY,
            description=(
                "Reads the prompt once and predicts, in metres, the depth of the image that it describes. Connect the "
                "geometry to Depth Adapter Apply and the conditioning to the sampler's positive input."
            ),
            search_aliases=aliases("depth", "geometry", "metric depth", "layout", "text to depth"),
            inputs=[
                spatialfusion_input(),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip=(
                        "What the image shows and where things stand. With a source it is an instruction instead, such "
                        'as "turn the red car to face left". It replaces CLIP Text Encode\'s prompt.'
                    ),
                ),
                *size_inputs(
                    128,
                    MAX_SIZE_PX,
                    "Width in pixels of the image to generate. It is the width of the latent.",
                    "Height in pixels of the image to generate. It is the height of the latent.",
                ),
                io.Image.Input(
                    "source",
                    optional=True,
                    tooltip=(
                        "The image to edit. It needs a checkpoint that was trained for editing. Beside real models it "
                        "needs a CLIP_VISION too; the Mini needs none."
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
                    advanced=True,
                    tooltip=(
                        "sampled: one definite scene that fits the prompt, another one with every seed. mean: the "
                        "average of all such scenes. It is always the same, and blurred where the prompt leaves "
                        "something open."
                    ),
                ),
                seed_input("Which of the scenes that fit the prompt. Not used by mean.", optional=True),
                io.Int.Input(
                    "steps",
                    default=DEFAULT_STEPS,
                    min=1,
                    max=100,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Steps from noise to a sampled scene. With guidance over 1 the spatial transformer runs twice "
                        "in the first few steps, which decide the layout. Not used by mean."
                    ),
                ),
                io.Float.Input(
                    "guidance",
                    default=DEFAULT_GUIDANCE,
                    min=1.0,
                    max=10.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "How closely a sampled scene keeps to the prompt. Higher is closer and less varied. 1 takes "
                        "about three quarters of the time. Not used by mean."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent that the image is drawn in. Its size takes the place of width and height.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=MAX_BATCH,
                    optional=True,
                    tooltip="How many scenes: of seed, seed + 1 and so on. For an image of each, give the latent as "
                    "many. Not used by mean.",
                ),
                layout_input(
                    "What stands where, in place of what the checkpoint would draw: this node's own layout after a "
                    "change, one of Plan Scene Layout, or a layout as text. It needs a checkpoint with layouts.",
                    optional=True,
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                geometry_output(),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The encoded prompt, from the same pass: identical to CLIP Text Encode's.",
                ),
                io.Image.Output(
                    display_name="preview", tooltip="The depth as colours: bright 0.5 m, dark 100 m, grey no surface."
                ),
                ScaffoldLayout.Output(
                    display_name="layout",
                    tooltip="What stands where, in metres: as the checkpoint drew it, or what it used of the connected "
                    "layout. Of a batch it is the first scene's. Checkpoints without layouts have none.",
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
        latent: dict[str, Any] | None = None,
        batch_size: int = 1,
        layout: Layout | NoLayout | str | None = None,
    ) -> io.NodeOutput:
        if latent is not None:
            width, height = image_size(latent, vae)
        check_size(spatialfusion, width, height)
        check_batch(batch_size, width, height)
        given = None if layout is None else layout_for(spatialfusion, layout, width, height)
        encoded, features = _read_inputs(spatialfusion, prompt, width, height, source, vae)
        if mode == SAMPLED and spatialfusion.config.depth_flow is not None:
            seeds = range(seed, seed + batch_size)
            scenes = _scenes(spatialfusion, encoded, features, (width, height), seeds, steps, guidance, given)
        else:
            numbers = None if given is None else given.numbers
            scenes = [predict_depth(spatialfusion, encoded, width, height, features, seed=seed, layout=numbers)]
        notices = [] if given is None else list(given.notes)
        if mode == SAMPLED and spatialfusion.config.depth_flow is None:
            notices.append(
                f"checkpoint {spatialfusion.config.name!r} was trained without a depth flow: this is the mean; set "
                "mode to mean, or choose a checkpoint with a depth flow"
            )
        depth = MetricDepth.joined([scene.depth for scene in scenes])
        used = drawn_layout(spatialfusion, scenes[0].layout) if given is None else given.layout
        preview = to_host(depth_colours(depth))
        shown = depth_preview_ui(depth, cls, preview) | (warn(cls, "\n".join(notices) or None) or {})
        return io.NodeOutput(to_geometry(depth, preview), encoded.conditioning, preview, used, ui=shown)


def _scenes(
    model: SpatialFusionModel,
    encoded: EncodedPrompt,
    features: SourceFeatures | None,
    size: tuple[int, int],
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    given: GivenLayout | None,
) -> list[PredictedScene]:
    """One scene for each seed, each as it would be alone. size: (width, height)."""
    live = LiveDepth(layers(model, steps) * len(seeds), shows_depth())
    layout = None if given is None else given.numbers
    scenes = []
    for seed in seeds:
        seed %= MAX_SEED + 1
        sampling = draw_sampling(model, *size, seed, steps, guidance, live.on_prediction)
        scenes.append(predict_depth(model, encoded, *size, features, sampling, seed, live.on_layer, layout))
    return scenes


def _read_inputs(
    model: SpatialFusionModel,
    prompt: str,
    width: int,
    height: int,
    source: torch.Tensor | None,
    vae: comfy.sd.VAE | None,
) -> tuple[EncodedPrompt, SourceFeatures | None]:
    """The encoded prompt, and the features of the source image (None without one)."""
    if source is None:
        return encode_prompt(model.clip, model.decoder_path, prompt), None
    view = model.backbone.source_view
    features = source_features(model, source, width, height, needed=view is None)
    return encode_prompt_with_source(model.clip, model.decoder_path, prompt, source, vae, view), features
