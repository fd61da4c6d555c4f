"""Finds the language model inside a CLIP, whatever loader made it, and checks that a checkpoint was trained on it."""

from __future__ import annotations

import comfy.sd
import torch

from ..sf_model.config import MLLMConfig, SpatialFusionConfig

# How to get the text encoder of each base in ComfyUI, for the errors' remedy.
TEXT_ENCODERS = {
    "mini": "Load SpatialFusion Mini",
    "omnigen2": "Load CLIP with Qwen2.5-VL-3B and type omnigen2",
    "qwen_image": "Load CLIP with Qwen2.5-VL-7B and type qwen_image",
}


def find_decoder(clip: comfy.sd.CLIP, config: SpatialFusionConfig, checkpoint_name: str) -> str:
    """The path under `clip.cond_stage_model` of the decoder that `config` reads.

    It is found by its structure, so that GGUF, quantised and LoRA-patched text encoders are recognised. ValueError,
    with both sides' numbers and the remedy, where there is none of the checkpoint's sizes.
    """
    found = {path: _sizes(module) for path, module in clip.cond_stage_model.named_modules() if _is_decoder(module)}
    for path, sizes in found.items():
        if sizes == config.mllm:
            return path
    remedy = f"load the text encoder that it was trained with ({TEXT_ENCODERS.get(config.backbone, config.backbone)})"
    if not found:
        raise ValueError(
            f"this CLIP ({type(clip.cond_stage_model).__name__}) has no language model whose keys and values "
            f"checkpoint {checkpoint_name!r} could read; {remedy}, or choose a checkpoint for this CLIP"
        )
    raise ValueError(
        f"checkpoint {checkpoint_name!r} reads a language model with {_describe(config.mllm)}, but this CLIP has one "
        f"with {' and one with '.join(_describe(sizes) for sizes in found.values())}; {remedy}, or choose a checkpoint "
        "for this CLIP"
    )


def _is_decoder(module: torch.nn.Module) -> bool:
    config = getattr(module, "config", None)
    return (
        hasattr(module, "embed_tokens")
        and isinstance(getattr(module, "layers", None), torch.nn.ModuleList)
        and all(hasattr(config, name) for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    )


def _sizes(decoder: torch.nn.Module) -> MLLMConfig:
    config = decoder.config
    theta = config.rope_theta
    return MLLMConfig(
        num_layers=len(decoder.layers),
        num_attention_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        # Some models have one base a layer kind; no checkpoint reads them, so any one tells them apart.
        rope_theta=float(theta[0] if isinstance(theta, (list, tuple)) else theta),
        qk_norm=getattr(config, "q_norm", None) is not None,
    )


def _describe(sizes: MLLMConfig) -> str:
    norm = ", q/k norms" if sizes.qk_norm else ""
    return (
        f"{sizes.num_layers} layers, {sizes.num_attention_heads} heads, {sizes.num_kv_heads} key/value heads of "
        f"{sizes.head_dim} channels, RoPE base {sizes.rope_theta:g}{norm}"
    )
