"""Lets the language model inside a CLIP answer a request, with the chat template of its family.

The host's own templates are for encoding prompts of images. Some ask to describe the image, and Z-Image's lets Qwen3
think aloud first. So the request is wrapped here. A CLIP that was trained to write layouts itself, as the Mini's,
says so by `tokenizer.layout_request`: a text with {prompt}, which is asked as it is.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import comfy.sd
import torch

from ...sf_model.scaffold.planning import SAMPLING
from ..inputs import MAX_SEED

THAT_GENERATE = "Z-Image (Qwen3-4B), FLUX.2 klein (Qwen3), LTX-2 (Gemma 3) or Lumina 2 (Gemma 2)"
# Plain text that shows which template a CLIP puts around a prompt.
_PLAIN = "a house"


@dataclass(frozen=True)
class _Family:
    """How a family of language models is asked."""

    # Stands in every prompt of the family.
    mark: str
    # With {image} and {request}.
    template: str
    image: str = ""
    # Follows the template for a model that would think aloud first.
    no_thinking: str = ""


_FAMILIES = (
    _Family(
        "<|im_start|>",
        "<|im_start|>user\n{image}{request}<|im_end|>\n<|im_start|>assistant\n",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<think>\n\n</think>\n\n",
    ),
    _Family(
        "<start_of_turn>",
        "<start_of_turn>user\n{image}{request}<end_of_turn>\n<start_of_turn>model\n",
        "<image_soft_token>\n",
    ),
    _Family("[INST]", "[INST]{request}[/INST]"),
)


def check_can_generate(clip: comfy.sd.CLIP) -> None:
    """ValueError, with those that can, where the host or this CLIP's encoder cannot write text."""
    remedy = (
        f"connect the text encoder of {THAT_GENERATE}, or connect the text of any other language model to text instead"
    )
    if not (hasattr(clip, "generate") and hasattr(clip, "decode")):
        raise ValueError(f"{remedy}, or update ComfyUI: this ComfyUI cannot let a text encoder write text")
    model = clip.cond_stage_model
    if not hasattr(model, "generate") or not any(_is_writer(module) for module in model.modules()):
        raise ValueError(f"{remedy}: this CLIP ({type(model).__name__.rstrip('_')}) cannot write text")


def sees_images(clip: comfy.sd.CLIP) -> bool:
    """Whether the tokenizer of this CLIP takes images."""
    return bool(_image_inputs(clip))


def own_request(clip: comfy.sd.CLIP) -> str | None:
    """The request, with {prompt}, of a CLIP that was trained to write layouts. None for others."""
    return getattr(clip.tokenizer, "layout_request", None)


def generate_text(
    clip: comfy.sd.CLIP, request: str, seed: int, max_tokens: int, image: torch.Tensor | None = None
) -> str:
    """What the language model answers. image: (1, H, W, 3), for one that `sees_images`.

    It ends after max_tokens at the latest. The host's progress bar runs, and its cancel button works.
    """
    family = _family(clip)
    tokens = clip.tokenize(_wrapped(clip, family, request, image), **_options(clip, family, image))
    answer = clip.generate(tokens, max_length=max_tokens, seed=seed % (MAX_SEED + 1), **SAMPLING)
    return clip.decode(answer)


def _is_writer(module: torch.nn.Module) -> bool:
    """Whether a module is a language model that the host lets write.

    The host's Qwen2.5-VL-7B (Qwen-Image) is none, though its class has `generate`: it knows no token at which to stop,
    and the host leaves out its output layer.
    """
    config = getattr(getattr(module, "model", None), "config", None)
    return hasattr(module, "generate") and hasattr(module, "logits") and bool(getattr(config, "stop_tokens", None))


def _image_inputs(clip: comfy.sd.CLIP) -> set[str]:
    parameters = inspect.signature(clip.tokenizer.tokenize_with_weights).parameters
    inner = getattr(clip.tokenizer, getattr(clip.tokenizer, "clip", ""), None)
    if inner is not None:
        parameters = {**parameters, **inspect.signature(inner.tokenize_with_weights).parameters}
    return {"image", "images"} & set(parameters)


def _options(clip: comfy.sd.CLIP, family: _Family | None, image: torch.Tensor | None) -> dict[str, Any]:
    """min_length: no padding, after which the model would go on writing. llama_template: the text has its own."""
    options: dict[str, Any] = {"min_length": 1}
    if family is None:
        options |= {"skip_template": False, "thinking": False}
    else:
        options |= {"llama_template": "{}", "skip_template": True}
    if image is not None:
        options |= {"images": [image]} if "images" in _image_inputs(clip) else {"image": image}
    return options


def _wrapped(clip: comfy.sd.CLIP, family: _Family | None, request: str, image: torch.Tensor | None) -> str:
    if family is None:
        return request
    text = family.template.replace("{image}", family.image if image is not None else "").replace("{request}", request)
    return text + family.no_thinking if _thinks(clip) else text


def _family(clip: comfy.sd.CLIP) -> _Family | None:
    if own_request(clip) is not None:
        return None
    rows = next(iter(clip.tokenize(_PLAIN, skip_template=False, min_length=1).values()))
    text = clip.tokenizer.decode([token for token, *_ in rows[0] if isinstance(token, int)], skip_special_tokens=False)
    return next((family for family in _FAMILIES if family.mark in text), None)


def _thinks(clip: comfy.sd.CLIP) -> bool:
    """Whether the language model is of the Qwen3 kind: only those of the families here have norms of the queries."""
    return any(
        getattr(getattr(module, "config", None), "q_norm", None) is not None and hasattr(module, "embed_tokens")
        for module in clip.cond_stage_model.modules()
    )
