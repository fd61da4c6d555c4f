"""FLUX.1, SDXL and what controls Z-Image and Qwen-Image, with tiny random weights, for the templates.

As in `tiny_bases`, the host fixes sizes that no tensor tells (the width of FLUX.1 and of SDXL, the text encoders, the
model patches). `tiny_image_sizes` and `tiny_patch_sizes` answer with the tiny ones while a tiny file loads.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import comfy.cldm.cldm
import comfy.clip_model
import comfy.ldm.flux.controlnet
import comfy.ldm.flux.model
import comfy.ldm.lumina.controlnet
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.model_detection
import comfy.ops
import comfy.supported_models
import comfy.taesd.taesd
import comfy.text_encoders.t5
import comfy.utils
import torch

import nodes

from . import tiny_bases

OPERATIONS = {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}
# Changes to the host's JSON files of its text encoders, by the host's names of these.
TEXT_SIZES: dict[str, dict[str, int]] = {
    "clip_l": {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 48},
    "clip_g": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 48},
    "t5xxl": {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_layers": 2},
}
TEXT_FILES = {"clip_l": "sd1_clip_config", "clip_g": "clip_config_bigg", "t5xxl": "text_encoders/t5_config_xxl"}
FLUX: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": TEXT_SIZES["clip_l"]["hidden_size"],
    "context_in_dim": TEXT_SIZES["t5xxl"]["d_model"],
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 1,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
SDXL: dict[str, Any] = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    # The pooled text, and six numbers of 256 channels: sizes and cropping.
    "adm_in_channels": TEXT_SIZES["clip_g"]["hidden_size"] + 6 * 256,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_linear_in_transformer": True,
    "context_dim": TEXT_SIZES["clip_l"]["hidden_size"] + TEXT_SIZES["clip_g"]["hidden_size"],
    "num_head_channels": 64,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
CONFIGS = {"flux": (comfy.supported_models.Flux, FLUX), "sdxl": (comfy.supported_models.SDXL, SDXL)}
Z_IMAGE_CONTROL = {name: tiny_bases.Z_IMAGE[name] for name in ("dim", "n_heads", "n_kv_heads", "multiple_of")}
QWEN_IMAGE_CONTROL = {
    "num_layers": tiny_bases.QWEN_IMAGE["num_layers"],
    "dim": tiny_bases.QWEN_IMAGE["num_attention_heads"] * tiny_bases.QWEN_IMAGE["attention_head_dim"],
}


@contextlib.contextmanager
def tiny_image_sizes(base: str) -> Iterator[None]:
    """Within it, the host's loaders build this base, and ControlNets of it, at its tiny size."""
    config_class, sizes = CONFIGS[base]
    with (
        mock.patch.object(comfy.model_detection, "model_config_from_unet", lambda *_, **__: config_class({**sizes})),
        mock.patch.object(comfy.model_detection, "unet_config_from_diffusers_unet", lambda *_: {**sizes}),
    ):
        yield


def text_options() -> dict[str, dict[str, int]]:
    """What the host's text encoders take as model_options. From model_config it makes that of a file of CLIP-L."""
    options = {f"{name}_model_config": {**sizes} for name, sizes in TEXT_SIZES.items()}
    return options | {"model_config": {**TEXT_SIZES["clip_l"]}}


def _loader_names() -> dict[str, Any]:
    """The names of the module that holds Model Patch Loader, which the host loads under a name of its own."""
    return inspect.unwrap(nodes.NODE_CLASS_MAPPINGS["ModelPatchLoader"].load_model_patch).__globals__


@contextlib.contextmanager
def tiny_patch_sizes() -> Iterator[None]:
    """Within it, Model Patch Loader builds its control models at their tiny sizes."""
    loader = _loader_names()
    qwen_image = loader["QwenImageBlockWiseControlNet"]
    z_image = comfy.ldm.lumina.controlnet.ZImage_Control
    with (
        mock.patch.dict(loader, QwenImageBlockWiseControlNet=functools.partial(qwen_image, **QWEN_IMAGE_CONTROL)),
        mock.patch.object(comfy.ldm.lumina.controlnet, "ZImage_Control", functools.partial(z_image, **Z_IMAGE_CONTROL)),
    ):
        yield


def patch_weights(base: str) -> dict[str, torch.Tensor]:
    """Of the file for Model Patch Loader: Z-Image's Fun ControlNet, or Qwen-Image's DiffSynth ControlNet."""
    with tiny_patch_sizes():
        builders = {
            "z_image": comfy.ldm.lumina.controlnet.ZImage_Control,
            "qwen_image": _loader_names()["QwenImageBlockWiseControlNet"],
        }
        return tiny_bases.random_weights(builders[base](**OPERATIONS), 5)


def text_config(name: str) -> dict[str, Any]:
    """The host's JSON file of a text encoder, made tiny."""
    path = Path(comfy.clip_model.__file__).parent / f"{TEXT_FILES[name]}.json"
    return json.loads(path.read_text(encoding="utf-8")) | TEXT_SIZES[name]


@functools.cache
def text_weights(name: str) -> dict[str, torch.Tensor]:
    """A text encoder's file: clip_l, clip_g or t5xxl."""
    build = comfy.text_encoders.t5.T5 if name == "t5xxl" else comfy.clip_model.CLIPTextModel
    return tiny_bases.random_weights(build(text_config(name), **OPERATIONS), 4)


def with_scales(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As files of FLUX.1 name the norms of queries and keys."""
    return {name.replace("_norm.weight", "_norm.scale"): value for name, value in weights.items()}


def flux_weights() -> dict[str, torch.Tensor]:
    return with_scales(tiny_bases.random_weights(comfy.ldm.flux.model.Flux(**FLUX, **OPERATIONS), 0))


def flux_controlnet_weights() -> dict[str, torch.Tensor]:
    """As XLabs stores them."""
    module = comfy.ldm.flux.controlnet.ControlNetFlux(**FLUX, **OPERATIONS)
    return with_scales(tiny_bases.random_weights(module, 6))


def checkpoint_weights(_: str) -> dict[str, torch.Tensor]:
    """SDXL: the UNet, both text encoders, and TAESD for its VAE."""
    unet = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(**SDXL, **OPERATIONS)
    texts = {
        f"{name}.transformer.{key}": value
        for name in ("clip_l", "clip_g")
        for key, value in text_weights(name).items()
        if name == "clip_g" or not key.startswith("text_projection")
    }
    saved = comfy.supported_models.SDXL({**SDXL}).process_clip_state_dict_for_saving(texts)
    vae = tiny_bases.random_weights(comfy.taesd.taesd.TAESD(latent_channels=4), 0)
    return {
        **{f"model.diffusion_model.{name}": value for name, value in tiny_bases.random_weights(unet, 0).items()},
        **{name: value.contiguous() for name, value in saved.items()},
        **{f"first_stage_model.{name}": value for name, value in vae.items()},
    }


def sdxl_controlnet_weights() -> dict[str, torch.Tensor]:
    """As diffusers stores them."""
    sizes = {name: value for name, value in SDXL.items() if name != "out_channels"}
    weights = tiny_bases.random_weights(comfy.cldm.cldm.ControlNet(hint_channels=3, **sizes, **OPERATIONS), 6)
    names = {own: theirs for theirs, own in comfy.utils.unet_to_diffusers(SDXL).items()}
    hints = sorted({int(name.split(".")[1]) for name in weights if name.startswith("input_hint_block")})
    places = ["conv_in", *(f"blocks.{index}" for index in range(len(hints) - 2)), "conv_out"]
    for kind in ("weight", "bias"):
        names[f"middle_block_out.0.{kind}"] = f"controlnet_mid_block.{kind}"
        for hint, place in zip(hints, places):
            names[f"input_hint_block.{hint}.{kind}"] = f"controlnet_cond_embedding.{place}.{kind}"
        for name in weights:
            if name.startswith("zero_convs.") and name.endswith(kind):
                names[name] = f"controlnet_down_blocks.{name.split('.')[1]}.{kind}"
    return {names[name]: value for name, value in weights.items()}
