"""Depth Adapter Apply: a MODEL that draws the image whose depth is given."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.backbones import Backbone, get_backbone
from ...sf_model.config import SpatialFusionConfig
from ...sf_model.depth.fitting import check_mask
from ..host.geometry import to_metric_depth
from ..host.notices import warn
from ..inputs import CATEGORY, GEOMETRY_LIMITS, SpatialFusion, geometry_input
from ..runtime.base_revision import revision_warning
from ..runtime.injection import DepthControl, inject, transformer_backbone
from ..runtime.loaded_checkpoint import SpatialFusionModel


class SpatialFusionApplyDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        percent = {"min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="SpatialFusionApplyDepth",
            display_name="Depth Adapter Apply",
            category=CATEGORY,
            description=(
                "Adds metric depth to the diffusion model: computed once a run, then used in every step. Works with "
                "any sampler; several on one model add up."
            ),
            search_aliases=["spatialfusion", "depth", "control", "controlnet", "geometry", "depth adapter"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The diffusion model that the checkpoint was trained with. Not changed."
                ),
                SpatialFusion.Input("spatialfusion", tooltip="From Load SpatialFusion MLLM+MoT."),
                geometry_input(
                    "geometry",
                    "From Predict Metric Depth, or measured from a photo by MoGe 2 or Depth Anything 3 Metric. It has "
                    f"the image's aspect ratio. {GEOMETRY_LIMITS}",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How strongly the depth is added; 0 changes nothing, 1 is as trained.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    **percent,
                    tooltip="The part of sampling from which the depth is used.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, **percent, tooltip="The part of sampling up to which the depth is used."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the depth is used: white yes, black no. Resized to the image; same aspect ratio.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with the depth, for any sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: comfy.model_patcher.ModelPatcher,
        spatialfusion: SpatialFusionModel,
        geometry: dict[str, Any],
        strength: float,
        start_percent: float,
        end_percent: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        depth = to_metric_depth(geometry)
        backbone = _check_model(model, spatialfusion.config)
        if strength == 0:
            return io.NodeOutput(model.clone())
        warning = revision_warning(
            "MODEL",
            model,
            f"diffusion_model.{backbone.patch_embedder}.weight",
            spatialfusion.base_revision,
            spatialfusion.base_fingerprint.get("transformer"),
        )
        control = DepthControl(
            depth=depth,
            mask=None if mask is None else check_mask(mask, *depth.depth.shape[-2:]),
            strength=strength,
            start_percent=start_percent,
            end_percent=end_percent,
        )
        return io.NodeOutput(inject(model, spatialfusion.adapter, control), ui=warn(cls, warning))


def _check_model(model: comfy.model_patcher.ModelPatcher, config: SpatialFusionConfig) -> Backbone:
    """The checkpoint's base. ValueError where the MODEL is of another, with both names and the remedy."""
    expected = get_backbone(config.backbone)
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.CONST):
        raise ValueError(
            f"Depth Adapter Apply needs a flow-matching MODEL (OmniGen2, Qwen-Image, Lumina 2, ...); this one "
            f"({type(model.model).__name__}) is not. Load the diffusion model that checkpoint {config.name!r} was "
            "trained with"
        )
    diffusion_model = model.get_model_object("diffusion_model")
    found = transformer_backbone(diffusion_model, expected)
    if found is not expected:
        raise ValueError(
            f"checkpoint {config.name!r} is for {expected.title}, but this MODEL ({type(model.model).__name__}) is "
            f"{'of no base that this version knows' if found is None else found.title}; load {expected.title}'s "
            "diffusion model, or a checkpoint for this one"
        )
    adapter = config.depth_adapter
    if adapter.injection == "latent":
        kind, channels = "latent channels", model.get_model_object("latent_format").latent_channels
    else:
        kind, channels = "token channels", getattr(diffusion_model, expected.patch_embedder).out_features
    if channels != adapter.out_channels:
        raise ValueError(
            f"the adapter of checkpoint {config.name!r} adds {adapter.out_channels} {kind}, but this MODEL "
            f"({type(model.model).__name__}) has {channels}; load the diffusion model that the checkpoint was trained "
            "with, or a checkpoint for this one"
        )
    return expected
