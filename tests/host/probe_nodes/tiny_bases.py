"""Base models of the real architectures with tiny random weights, loaded by the host's own loaders.

The host derives most sizes from the state dict, but fixes some (a Qwen3 of width 2560 is Qwen3-4B, OmniGen2 has one
size). While a tiny model loads, `tiny_sizes` answers these questions with the tiny ones; everything else, from reading
the file and its quantisation to the patcher, is the host's way. The parity tests import this module too.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import comfy.ldm.lumina.model
import comfy.ldm.omnigen.omnigen2
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.vae
import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.text_encoders.llama
import comfy.text_encoders.qwen_vl
import comfy.utils
import safetensors.torch
import torch

# Of the language models. head_dim is 128 in the host's classes; in transformers' Qwen2.5-VL, which parity tests
# compare with, it is also the width divided by the heads.
MLLM_SIZES: dict[str, dict[str, int]] = {
    "omnigen2": {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3, "hidden_size": 32},
    "qwen_image": {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 4, "hidden_size": 256},
    "z_image": {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4, "hidden_size": 32},
}
INTERMEDIATE = 48
# 16 heads: Qwen2.5-VL's own, which no tensor tells.
VISION = {"hidden_size": 64, "num_heads": 16, "num_layers": 2, "intermediate_size": 48}
OMNIGEN2 = {
    "axes_dim_rope": [8, 8, 8],
    "axes_lens": [1024, 1664, 1664],
    "hidden_size": 96,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "multiple_of": 256,
    "text_feat_dim": MLLM_SIZES["omnigen2"]["hidden_size"],
    "in_channels": 16,
    "patch_size": 2,
    "timestep_scale": 1000.0,
}
QWEN_IMAGE = {
    "in_channels": 64,
    "num_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": MLLM_SIZES["qwen_image"]["hidden_size"],
    "axes_dims_rope": [4, 14, 14],
}
Z_IMAGE = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 256,  # the modulation's own width: the host allows no less
    "cap_feat_dim": MLLM_SIZES["z_image"]["hidden_size"],
    "n_layers": 2,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "n_heads": 8,
    "n_kv_heads": 8,
    "multiple_of": 32,
    "axes_dims": [8, 12, 12],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
# architecture: sizes, the host's module, its configuration, the name in it
TRANSFORMERS: dict[str, tuple[dict[str, Any], type, type, str]] = {
    "omnigen2": (
        OMNIGEN2,
        comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel,
        comfy.supported_models.Omnigen2,
        "omnigen2",
    ),
    "qwen_image": (
        QWEN_IMAGE,
        comfy.ldm.qwen_image.model.QwenImageTransformer2DModel,
        comfy.supported_models.QwenImage,
        "qwen_image",
    ),
    "z_image": (Z_IMAGE, comfy.ldm.lumina.model.NextDiT, comfy.supported_models.ZImage, "lumina2"),
}
TEXT_MODELS: dict[str, tuple[type, comfy.sd.TEModel]] = {
    "omnigen2": (comfy.text_encoders.llama.Qwen25_3B, comfy.sd.TEModel.QWEN25_3B),
    "qwen_image": (comfy.text_encoders.llama.Qwen25_7BVLI, comfy.sd.TEModel.QWEN25_7B),
    "z_image": (comfy.text_encoders.llama.Qwen3_4B, comfy.sd.TEModel.QWEN3_4B),
}
# The host's names of the text encoders, under which it looks for a replacement of their configuration.
TEXT_NAMES = {"omnigen2": "qwen25_3b", "qwen_image": "qwen25_7b", "z_image": "qwen3_4b"}
CLIP_TYPES = {"omnigen2": "OMNIGEN2", "qwen_image": "QWEN_IMAGE", "z_image": "LUMINA2"}
STORED = ("float32", "bfloat16", "scaled_fp8", "comfy_fp8", "comfy_int8")
# The largest number of an 8-bit type, and how the newer layout names it.
EIGHT_BITS = {
    "fp8": (torch.float8_e4m3fn, 448, "float8_e4m3fn"),
    "int8": (torch.int8, 127, "int8_tensorwise"),
}


@contextlib.contextmanager
def tiny_sizes(architecture: str) -> Iterator[None]:
    """Within it, the host's loaders build this architecture at its tiny size."""
    sizes, _, config_class, image_model = TRANSFORMERS[architecture]
    real_config = comfy.model_detection.model_config_from_unet
    real_vision = comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer

    def model_config(state_dict: dict[str, torch.Tensor], prefix: str, *_: Any, **__: Any) -> Any:
        config = config_class({"image_model": image_model, **sizes})
        quantised = comfy.utils.detect_layer_quantization(state_dict, prefix)
        if quantised:
            config.quant_config = quantised
        return config

    def vision(*arguments: Any, **options: Any) -> torch.nn.Module:
        return real_vision(*arguments, **{**options, **VISION})

    assert callable(real_config)
    with (
        mock.patch.object(comfy.model_detection, "model_config_from_unet", model_config),
        mock.patch.object(comfy.sd, "detect_te_model", lambda _: TEXT_MODELS[architecture][1]),
        mock.patch.object(comfy.text_encoders.qwen_vl, "Qwen2VLVisionTransformer", vision),
    ):
        yield


def mllm_config(architecture: str) -> dict[str, int]:
    """Arguments of the host's decoder configuration."""
    return {**MLLM_SIZES[architecture], "intermediate_size": INTERMEDIATE}


def random_weights(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """For every parameter of a module: nothing zero, norm weights spread around 1. float32."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in module.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            noise *= 1.5 * value[0].numel() ** -0.5
        elif value.numel():
            noise = noise * 0.2 + (0.0 if name.endswith("bias") else 1.0)
        state[name] = noise
    return state


@functools.cache
def transformer_weights(architecture: str, seed: int = 0) -> dict[str, torch.Tensor]:
    sizes, module, _, _ = TRANSFORMERS[architecture]
    return random_weights(
        module(**sizes, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init), seed
    )


@functools.cache
def mllm_weights(architecture: str, seed: int = 0) -> dict[str, torch.Tensor]:
    module, _ = TEXT_MODELS[architecture]
    with tiny_sizes(architecture):
        model = module(mllm_config(architecture), torch.float32, "cpu", comfy.ops.disable_weight_init)
    weights = random_weights(model, seed)
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"] * 4
    return weights


def stored(weights: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """The tensors as a file holds them: one of STORED.

    "scaled_fp8" is the older layout; in the newer, "comfy_fp8" and "comfy_int8", every layer says what it is, and the
    feed-forward layers are left as they are.
    """
    layout, _, name_of_type = kind.partition("_")
    if name_of_type not in EIGHT_BITS:
        return {name: value.to(getattr(torch, kind)).contiguous() for name, value in weights.items()}
    dtype, largest, layer_format = EIGHT_BITS[name_of_type]
    comfy_quant = torch.tensor(list(json.dumps({"format": layer_format}).encode()), dtype=torch.uint8)
    result = {"scaled_fp8": torch.zeros(0, dtype=dtype)} if layout == "scaled" else {}
    for name, value in weights.items():
        layer, _, parameter = name.rpartition(".")
        kept = layout == "comfy" and any(word in layer for word in ("mlp", "feed_forward"))
        if kept or parameter != "weight" or value.ndim != 2 or not any(part.isdigit() for part in layer.split(".")):
            result[name] = value.to(torch.bfloat16)
            continue
        scale = value.abs().max() / largest
        numbers = value / scale
        result[name] = (numbers if dtype.is_floating_point else numbers.round()).to(dtype)
        result[f"{layer}.{'scale_weight' if layout == 'scaled' else 'weight_scale'}"] = scale.float()
        if layout == "comfy":
            result[f"{layer}.comfy_quant"] = comfy_quant
    return result


def write_file(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> Path:
    path = folder / f"{name}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file({key: value.clone() for key, value in tensors.items()}, path)
    return path


def load_model(architecture: str, folder: Path, kind: str = "float32", seed: int = 0, **model_options: Any) -> Any:
    """MODEL, by the function and with the options of the host's Load Diffusion Model."""
    name = f"{architecture}_{kind}_{seed}"
    path = write_file(folder, name, stored(transformer_weights(architecture, seed), kind))
    with tiny_sizes(architecture):
        return comfy.sd.load_diffusion_model(str(path), model_options=model_options)


def load_clip(
    architecture: str, folder: Path, kind: str = "float32", seed: int = 0, clip_type: str | None = None
) -> comfy.sd.CLIP:
    """CLIP, by the function of the host's Load CLIP."""
    name = f"{architecture}_mllm_{kind}_{seed}"
    path = write_file(folder, name, stored(mllm_weights(architecture, seed), kind))
    with tiny_sizes(architecture):
        return comfy.sd.load_clip(
            ckpt_paths=[str(path)],
            clip_type=comfy.sd.CLIPType[clip_type or CLIP_TYPES[architecture]],
            model_options={f"{TEXT_NAMES[architecture]}_model_config": mllm_config(architecture)},
        )


def load_vae(folder: Path) -> comfy.sd.VAE:
    """The VAE of Qwen-Image, which the host builds as narrow as the file says."""
    module = comfy.ldm.wan.vae.WanVAE(
        dim=4,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    path = write_file(folder, "vae", random_weights(module, 0))
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))
