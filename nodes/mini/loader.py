"""Load SpatialFusion Mini: loads the built-in base. Its outputs are those of the stock loaders for real models."""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.backbones.mini import DIT_FILE, MINI_DIR, SAMPLING_SHIFT
from ..inputs import GENERATE_CATEGORY, aliases
from .clip import load_mini_clip
from .model import MiniModel
from .pixel_graphs import take_empty_pixels_for_latents
from .vae import MiniLatents, load_mini_vae
from .weights import read_base_weights

PIXEL_CHANNELS = 3


def load_mini_model(disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The host's OmniGen2 in pixel space, with the built-in weights. ValueError if they are missing or damaged."""
    path = MINI_DIR / DIT_FILE
    weights = read_base_weights(path)
    config = comfy.supported_models.Omnigen2({"image_model": "omnigen2", **weights.config})
    channels = weights.config["in_channels"]
    is_pixels = channels == PIXEL_CHANNELS
    config.latent_format = comfy.latent_formats.ChromaRadiance() if is_pixels else MiniLatents(channels)
    config.sampling_settings = {**config.sampling_settings, "shift": SAMPLING_SHIFT}
    _set_dtypes(config, weights.state_dict)
    model = MiniModel(config)
    model.base_revision = weights.revision
    offload_device = comfy.model_management.unet_offload_device()
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device)
    if not comfy.model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    try:
        model.diffusion_model.load_state_dict(weights.state_dict, assign=patcher.is_dynamic())
    except RuntimeError as error:
        raise ValueError(
            f"install the pack again: in {path} its tensors are not those of OmniGen2 ({error})"
        ) from error
    if not is_pixels:
        take_empty_pixels_for_latents(patcher)
    patcher.cached_patcher_init = (load_mini_model, ())
    return patcher


def _set_dtypes(config: comfy.supported_models.Omnigen2, state_dict: dict[str, torch.Tensor]) -> None:
    """The host chooses the types for storing and computing, as for any diffusion model."""
    device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state_dict),
        supported_dtypes=list(config.supported_inference_dtypes),
        weight_dtype=comfy.utils.weight_dtype(state_dict),
    )
    manual_cast = comfy.model_management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, manual_cast)


class SpatialFusionMiniLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionMiniLoader",
            display_name="Load SpatialFusion Mini",
            category=GENERATE_CATEGORY,
            description=(
                "Loads the small demonstration base that comes with the pack: a text encoder and a diffusion model "
                "that draw 128x128 pixel scenes in seconds on a CPU, and edit them (template edit_mini). For real "
                "models use the stock loaders instead."
            ),
            search_aliases=aliases("mini", "demo model", "text to image", "depth"),
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The diffusion model, in pixel space."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder."),
                io.Vae.Output(display_name="vae", tooltip="The stock pixel space VAE."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(load_mini_model(), load_mini_clip(), load_mini_vae(MINI_DIR))
