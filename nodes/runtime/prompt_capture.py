"""The prompt's CONDITIONING and the keys/values of every layer, from one pass of the text encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.sd
import torch

from ...sf_model.backbones import SourceView
from ...sf_model.models.expert_inputs import KeysValues


@dataclass(frozen=True)
class EncodedPrompt:
    """conditioning: what the host's own text encode node gives. keys_values: one (K, V) a layer, each
    (1, kv_heads, S, head_dim).

    mask: (1, S) bool, True for tokens, or None where nothing is padded.
    """

    conditioning: list[Any]
    keys_values: KeysValues
    mask: torch.Tensor | None


class KeysValuesRecorder:
    """Stands in for the decoder's forward: asks it for its cache, keeps row 0 of it and gives the caller the rest.

    Row 0 is the prompt; weights such as (red:1.3) add a second row, the empty prompt. Only the first call is recorded:
    a CLIP with scheduled hooks makes several.
    """

    def __init__(self, forward: Callable[..., tuple[Any, ...]]) -> None:
        self._forward = forward
        self._recording = True
        self.keys_values: KeysValues | None = None
        self.mask: torch.Tensor | None = None

    def __call__(self, x: Any, attention_mask: torch.Tensor | None = None, **arguments: Any) -> tuple[Any, ...]:
        if not self._recording:
            return self._forward(x, attention_mask, **arguments)
        hidden, intermediate, cache = self._forward(x, attention_mask, **{**arguments, "past_key_values": []})
        if self.keys_values is None:
            self.keys_values = [(layer[0][:1], layer[1][:1]) for layer in cache]
            if attention_mask is not None and not bool(attention_mask[0].all()):
                self.mask = attention_mask[:1].bool()
        return hidden, intermediate

    def stop(self) -> None:
        """Keep nothing: the host leaves this object on the model until it loads the model again."""
        self._recording = False
        self.keys_values = self.mask = None


def encode_prompt(clip: comfy.sd.CLIP, decoder_path: str, prompt: str) -> EncodedPrompt:
    """Encode as CLIP Text Encode does."""
    return _record(
        clip, decoder_path, lambda recorded: recorded.encode_from_tokens_scheduled(recorded.tokenize(prompt))
    )


def encode_prompt_with_source(
    clip: comfy.sd.CLIP,
    decoder_path: str,
    prompt: str,
    source: torch.Tensor,
    vae: comfy.sd.VAE | None,
    view: SourceView | None,
) -> EncodedPrompt:
    """Encode as the host's own nodes do for an edit of `source` (1, H, W, 3): what they give is what this gives.

    With a `view` the MLLM sees the source, through the base's text encode node. Without, it reads the text alone. With
    a VAE the source becomes a reference latent of the CONDITIONING, as that node or Set Reference Latent makes it.
    """
    # Only now: these modules import the host's `nodes`.
    from comfy_extras import nodes_edit_model, nodes_qwen

    if view is not None:
        node = getattr(nodes_qwen, view.node)
        images = {view.image_input: source}
        return _record(clip, decoder_path, lambda own: node.execute(own, prompt, vae=vae, **images).args[0])
    encoded = encode_prompt(clip, decoder_path, prompt)
    if vae is None:
        return encoded
    latent = {"samples": vae.encode(source[..., :3])}
    conditioning = nodes_edit_model.ReferenceLatent.execute(encoded.conditioning, latent).args[0]
    return replace(encoded, conditioning=conditioning)


def _record(clip: comfy.sd.CLIP, decoder_path: str, encode: Callable[[comfy.sd.CLIP], list[Any]]) -> EncodedPrompt:
    """Run `encode` on a clone of `clip` whose decoder is recorded; `clip` is not changed."""
    forward_path = f"{decoder_path}.forward"
    recorder = KeysValuesRecorder(clip.patcher.get_model_object(forward_path))
    recorded = clip.clone()
    recorded.patcher.add_object_patch(forward_path, recorder)
    try:
        conditioning = encode(recorded)
        assert recorder.keys_values is not None
        return EncodedPrompt(conditioning, recorder.keys_values, recorder.mask)
    finally:
        recorder.stop()
