"""The prompt's CONDITIONING and the keys/values of every layer, from one pass of the text encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.sd
import torch

from ...sf_model.backbones import SourceView
from ...sf_model.models.expert_inputs import KeysValues
from ...sf_model.models.rotary import next_position


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt, as the diffusion model and as the spatial transformer read it."""

    # What the host's own text encode node gives.
    conditioning: list[Any]
    # One (K, V) a layer, each (1, kv_heads, S, head_dim).
    keys_values: KeysValues
    # (1, S) bool, True for tokens and False for padding. None where nothing is padded.
    mask: torch.Tensor | None
    # (1,) RoPE position after the prompt. None where it is the number of tokens: the MLLM read no image.
    next_position: torch.Tensor | None


@dataclass(frozen=True)
class _Record:
    """The result of one call of the decoder."""

    keys_values: KeysValues
    mask: torch.Tensor | None
    next_position: torch.Tensor | None


class KeysValuesRecorder:
    """Stands in for the forward of the decoder. It asks the decoder for its cache and keeps row 0 of it.

    Row 0 is the prompt. Weights such as (red:1.3) add a second row, the empty prompt. Only the first call is recorded:
    a CLIP with scheduled hooks makes several.
    """

    def __init__(self, forward: Callable[..., tuple[Any, ...]]) -> None:
        self._forward = forward
        self._is_recording = True
        # Of the first call only.
        self._records: list[_Record] = []

    def __call__(self, x: Any, attention_mask: torch.Tensor | None = None, **arguments: Any) -> tuple[Any, ...]:
        if not self._is_recording:
            return self._forward(x, attention_mask, **arguments)
        hidden, intermediate, cache = self._forward(x, attention_mask, **{**arguments, "past_key_values": []})
        if not self._records:
            is_padded = attention_mask is not None and not bool(attention_mask[0].all())
            keys_values = [(layer[0][:1], layer[1][:1]) for layer in cache]
            mask = attention_mask[:1].bool() if is_padded else None
            self._records.append(_Record(keys_values, mask, _next_position(arguments.get("position_ids"), mask)))
        return hidden, intermediate

    def stop(self) -> list[_Record]:
        """End the recording and return what was recorded: one entry, or none if there was no call.

        Nothing is kept: the host leaves this object on the model until it loads the model again.
        """
        self._is_recording = False
        records, self._records = self._records, []
        return records


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
    """Encode an edit of `source` (1, H, W, 3), with the result of the host's own nodes.

    With a `view` the MLLM sees the source, through the base's text encode node. Without one it reads the text alone.
    With a VAE the source becomes a reference latent of the CONDITIONING, as that node or Set Reference Latent makes it.
    """
    # Imported only now: these modules import the host's `nodes`.
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
    """Run `encode` on a clone of `clip` whose decoder is recorded. `clip` is not changed."""
    forward_path = f"{decoder_path}.forward"
    recorder = KeysValuesRecorder(clip.patcher.get_model_object(forward_path))
    recorded = clip.clone()
    recorded.patcher.add_object_patch(forward_path, recorder)
    try:
        conditioning = encode(recorded)
    finally:
        records = recorder.stop()
    if not records:
        raise ValueError(
            "connect the CLIP of a stock loader to Load SpatialFusion MLLM+MoT: this CLIP encodes a prompt without "
            "calling its language model, so that there are no keys and values to predict the depth from"
        )
    record = records[0]
    return EncodedPrompt(conditioning, record.keys_values, record.mask, record.next_position)


def _next_position(position_ids: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """The position (1,) after a prompt with an image, which takes fewer positions than it has tokens.

    position_ids: (3, S), as the host counts them for a prompt with an image. None, as for text: 0, 1, 2 ...
    """
    if position_ids is None:
        return None
    return next_position(position_ids[:, None], mask)
