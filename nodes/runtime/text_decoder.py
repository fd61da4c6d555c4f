"""Finds the language model inside a CLIP, whatever loader made it, and checks that a checkpoint was trained on it."""

from __future__ import annotations

import comfy.sd
import torch

from ...sf_model.backbones import BACKBONES, Backbone, template_of
from ...sf_model.config import MLLMConfig, SpatialFusionConfig

# Tokenised only to see which template a CLIP puts around a prompt.
PLAIN_PROMPT = "a house"


def find_decoder(clip: comfy.sd.CLIP, config: SpatialFusionConfig, backbone: Backbone, checkpoint_name: str) -> str:
    """The path in `clip.cond_stage_model` of the decoder with the sizes of `config.mllm`.

    It is found by its structure. So GGUF, quantised and LoRA-patched text encoders are found too. ValueError, with the
    remedy and both sides' sizes, where no decoder has these sizes, and where the CLIP wraps prompts in the template of
    another base than `backbone`.
    """
    mllm = config.mllm
    found = {path: _sizes(module) for path, module in clip.cond_stage_model.named_modules() if _is_decoder(module)}
    for path, sizes in found.items():
        if sizes == mllm:
            _check_template(clip, backbone, template_of(config), checkpoint_name)
            return path
    remedy = (
        f"load the text encoder that checkpoint {checkpoint_name!r} was trained with ({backbone.text_encoder}), or "
        "choose a checkpoint for this CLIP"
    )
    if not found:
        raise ValueError(
            f"{remedy}: this CLIP ({type(clip.cond_stage_model).__name__}) has no language model whose keys and values "
            f"a checkpoint for {backbone.title} could read"
        )
    raise ValueError(
        f"{remedy}: the checkpoint is for {backbone.title} and reads a language model with {_describe(mllm)}, but this "
        f"CLIP has one with {' and one with '.join(_describe(sizes) for sizes in found.values())}"
    )


def _check_template(clip: comfy.sd.CLIP, backbone: Backbone, template: str, checkpoint_name: str) -> None:
    """ValueError if the right weights were loaded for another base.

    Another base puts another template around the prompt. The checkpoint was not trained on such keys and values.
    """
    rows = next(iter(clip.tokenize(PLAIN_PROMPT).values()))
    wrapped = clip.tokenizer.decode([token for token, *_ in rows[0]], skip_special_tokens=False)
    expected = template.replace("{}", PLAIN_PROMPT)
    if wrapped == expected:
        return
    raise ValueError(
        f"set the type in Load CLIP ({backbone.text_encoder}): this CLIP has the language model of {backbone.title}, "
        f"but was loaded for another base ({_base_class(clip.cond_stage_model)}). It reads the prompt as {wrapped!r}, "
        f"where checkpoint {checkpoint_name!r} was trained with {expected!r}"
    )


def _base_class(model: torch.nn.Module) -> str:
    """The name of the class. The host derives classes while it loads and ends their names with an underscore."""
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
        # Some models have one RoPE base for each kind of layer. No checkpoint reads these, so that the first will do.
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
