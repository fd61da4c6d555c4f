"""Finds the language model inside a CLIP, whatever loader made it, and checks that a checkpoint was trained on it."""

from __future__ import annotations

import comfy.sd
import torch

from ...sf_model.backbones import BACKBONES, Backbone, get_backbone
from ...sf_model.config import MLLMConfig, SpatialFusionConfig

# Encoded only to see what a CLIP wraps around it.
PLAIN_PROMPT = "a house"


def find_decoder(clip: comfy.sd.CLIP, config: SpatialFusionConfig, checkpoint_name: str) -> str:
    """The path under `clip.cond_stage_model` of the decoder that `config` reads.

    It is found by its structure, so that GGUF, quantised and LoRA-patched text encoders are recognised. ValueError,
    with both sides' names and numbers and the remedy, where there is none of the checkpoint's sizes, and where the CLIP
    wraps prompts in another base's template.
    """
    backbone = get_backbone(config.backbone)
    found = {path: _sizes(module) for path, module in clip.cond_stage_model.named_modules() if _is_decoder(module)}
    for path, sizes in found.items():
        if sizes == config.mllm:
            _check_template(clip, backbone, checkpoint_name)
            return path
    remedy = f"load the text encoder that it was trained with ({backbone.text_encoder})"
    if not found:
        raise ValueError(
            f"this CLIP ({type(clip.cond_stage_model).__name__}) has no language model whose keys and values "
            f"checkpoint {checkpoint_name!r} for {backbone.title} could read; {remedy}, or choose a checkpoint for "
            "this CLIP"
        )
    raise ValueError(
        f"checkpoint {checkpoint_name!r} is for {backbone.title} and reads a language model with "
        f"{_describe(config.mllm)}, but this CLIP has one with "
        f"{' and one with '.join(_describe(sizes) for sizes in found.values())}; {remedy}, or choose a checkpoint for "
        "this CLIP"
    )


def _check_template(clip: comfy.sd.CLIP, backbone: Backbone, checkpoint_name: str) -> None:
    """The right weights loaded for another base give another prompt, and keys and values never seen in training."""
    rows = next(iter(clip.tokenize(PLAIN_PROMPT).values()))
    wrapped = clip.tokenizer.decode([token for token, *_ in rows[0]], skip_special_tokens=False)
    if wrapped == backbone.prompt_template.format(PLAIN_PROMPT):
        return
    raise ValueError(
        f"this CLIP has the language model of {backbone.title}, but was loaded for another base "
        f"({_base_class(clip.cond_stage_model)}): it reads the prompt as {wrapped!r}, where checkpoint "
        f"{checkpoint_name!r} was trained with {backbone.prompt_template.format(PLAIN_PROMPT)!r}. Set the type in Load "
        f"CLIP: {backbone.text_encoder}"
    )


def _base_class(model: torch.nn.Module) -> str:
    """The class's name without the underscore of those that the host derives while loading."""
    return type(model).__name__.rstrip("_")


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
    titles = [backbone.title for backbone in BACKBONES.values() if backbone.mllm == sizes]
    norm = ", q/k norms" if sizes.qk_norm else ""
    known = f" (that of {' and '.join(titles)})" if titles else ""
    return (
        f"{sizes.num_layers} layers, {sizes.num_attention_heads} heads, {sizes.num_kv_heads} key/value heads of "
        f"{sizes.head_dim} channels, RoPE base {sizes.rope_theta:g}{norm}{known}"
    )
