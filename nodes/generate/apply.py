"""Depth Adapter Apply: gives a MODEL that draws the image with this depth."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.backbones import BACKBONES, Backbone, backbone_of_transformer
from ...sf_model.depth.fitting import check_mask
from ..host.geometry import connected_depth
from ..host.graph import GRAPH
from ..host.notices import Notice, show
from ..inputs import GENERATE_CATEGORY, GEOMETRY_LIMITS, aliases, geometry_input, share_input, spatialfusion_input
from ..runtime.base_revision import revision_warning
from ..runtime.crops import told_part
from ..runtime.depth_control import DepthControl
from ..runtime.injection import inject
from ..runtime.loaded_checkpoint import SpatialFusionModel


class SpatialFusionApplyDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionApplyDepth",
            display_name="Depth Adapter Apply",
            category=GENERATE_CATEGORY,
            description=(
                "Adds metric depth to the diffusion model: computed once a run, then used in every step. It works "
                "with any sampler. Several on one model add up."
            ),
            search_aliases=aliases("depth", "control", "controlnet", "geometry", "depth adapter"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The diffusion model that the checkpoint was trained with. It is not changed."
                ),
                spatialfusion_input(),
                geometry_input(
                    "geometry",
                    "From Predict Metric Depth, or measured from a photo by MoGe 2 or Depth Anything 3 Metric. It must "
                    f"have the image's aspect ratio. {GEOMETRY_LIMITS}",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How strongly the depth is added; 0 changes nothing, 1 is as trained.",
                ),
                share_input("start_percent", "The part of sampling from which the depth is used.", default=0.0),
                share_input("end_percent", "The part of sampling up to which the depth is used.", default=1.0),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the depth is used, black where it is not. It is resized to the image and must "
                    "have its aspect ratio.",
                ),
                *_crop_inputs(),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with the depth, for any sampler.")],
            hidden=[*GRAPH],
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
        crop_x: float = 0.0,
        crop_y: float = 0.0,
        crop_width: float = 0.0,
        crop_height: float = 0.0,
    ) -> io.NodeOutput:
        depth, notice = connected_depth(cls, geometry)
        _check_model(model, spatialfusion)
        if strength == 0:
            return io.NodeOutput(model.clone())
        warning = revision_warning(
            "MODEL",
            model,
            f"diffusion_model.{spatialfusion.backbone.patch_embedder}.weight",
            spatialfusion.base_revision,
            spatialfusion.base_fingerprint.get("transformer"),
        )
        control = DepthControl(
            depth=depth,
            mask=None if mask is None else check_mask(mask, *depth.depth.shape[-2:]),
            strength=strength,
            start_percent=start_percent,
            end_percent=end_percent,
            part=told_part(crop_x, crop_y, crop_width, crop_height),
        )
        patched = inject(model, spatialfusion.adapter, control, spatialfusion.backbone)
        return io.NodeOutput(patched, ui=show(cls, None if warning is None else Notice(warning), notice))


def _crop_inputs() -> list[io.Input]:
    """Which part of the geometry is drawn."""
    tooltips = {
        "crop_x": "Where the part begins from the left, as a share of the width. With crop_width.",
        "crop_y": "Where the part begins from the top, as a share of the height. With crop_height.",
        "crop_width": "For a latent that is a part of the image, such as a tile: its width as a share of the whole. 1 "
        "is the whole. 0: nothing is said, and nodes that cut images and do not say where are refused.",
        "crop_height": "Its height as a share of the whole.",
    }
    return [share_input(name, tooltip, default=0.0, step=0.001, optional=True) for name, tooltip in tooltips.items()]


def _check_model(model: comfy.model_patcher.ModelPatcher, spatialfusion: SpatialFusionModel) -> None:
    """ValueError, with both names and the remedy, if the MODEL does not belong to the checkpoint's base."""
    name, expected = spatialfusion.config.name, spatialfusion.backbone
    kind = type(model.model).__name__
    if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise ValueError(
            f"load the diffusion model that checkpoint {name!r} was trained with: Depth Adapter Apply needs a "
            f"flow-matching MODEL (OmniGen2, Qwen-Image, Lumina 2, ...), and this one ({kind}) is not"
        )
    diffusion_model = model.get_model_object("diffusion_model")
    found = _base_of(diffusion_model, expected)
    if found is not expected:
        raise ValueError(
            f"load {expected.title}'s diffusion model, or a checkpoint for this one: checkpoint {name!r} is for "
            f"{expected.title}, but this MODEL ({kind}) is "
            f"{'of no base that this version knows' if found is None else found.title}"
        )
    adapter = spatialfusion.config.depth_adapter
    if adapter.injection == "latent":
        what, channels = "latent channels", model.get_model_object("latent_format").latent_channels
    else:
        what, channels = "token channels", getattr(diffusion_model, expected.patch_embedder).out_features
    if channels != adapter.out_channels:
        raise ValueError(
            "load the diffusion model that the checkpoint was trained with, or a checkpoint for this one: the adapter "
            f"of checkpoint {name!r} adds {adapter.out_channels} {what}, but this MODEL ({kind}) has {channels}"
        )


def _base_of(diffusion_model: torch.nn.Module, expected: Backbone) -> Backbone | None:
    """The base of a diffusion transformer, by its class; None for the transformer of no base.

    Some bases share a transformer. `expected` is the answer where it is one of them.
    """
    # A compiled module holds the real one.
    module = getattr(diffusion_model, "_orig_mod", diffusion_model)
    return backbone_of_transformer([cls.__name__ for cls in type(module).__mro__], BACKBONES, expected)
