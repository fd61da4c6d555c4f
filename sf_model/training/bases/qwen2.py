"""The small Qwen2.5 decoder that reads the prompt, built from `transformers`.

Without the prefix `model.`, its state dict loads into ComfyUI's `comfy.text_encoders.llama.Llama2_`, which gives the
same hidden states, keys and values.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import Cache

from ...models.expert_inputs import KeysValues
from .sizes import DecoderConfig

# Of the tied embeddings. It is large compared with what the first layers add, so that a word keeps its identity.
EMBEDDING_STD = 0.1


def _initialize_weights(decoder: Qwen2ForCausalLM) -> None:
    """Variance-preserving layers, whose sum on the residual stream is as large as one of them.

    transformers uses a standard deviation of 0.02, which suits widths of thousands. At a width of 256 attention would
    start uniform and mix all words. Such a decoder still confused left and right after 8,000 documents; this one does
    not after 1,600.
    """
    residual_layers = 2 * len(decoder.model.layers)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_STD)
        elif isinstance(module, nn.Linear) and module is not decoder.lm_head:
            std = 1 / math.sqrt(module.in_features)
            onto_residual = name.endswith(("o_proj", "down_proj"))
            nn.init.normal_(module.weight, std=std / math.sqrt(residual_layers) if onto_residual else std)


def build_decoder(config: DecoderConfig) -> Qwen2ForCausalLM:
    """A decoder with random weights, in float32 and training mode."""
    decoder = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rope_theta=config.rope_theta,
            rms_norm_eps=config.rms_norm_eps,
            max_position_embeddings=config.max_position_embeddings,
            tie_word_embeddings=config.tie_word_embeddings,
            attn_implementation="sdpa",
        )
    )
    decoder.float()
    _initialize_weights(decoder)
    return decoder.train()


def prompt_keys_values(
    decoder: Qwen2ForCausalLM, input_ids: Tensor, attention_mask: Tensor | None = None, text_layer: int | None = None
) -> tuple[Tensor, KeysValues]:
    """Run the prompt once. Keep the keys and values that the spatial transformer reads.

    input_ids: (B, S) long. attention_mask: (B, S), nonzero = a token of the prompt; padding must be on the right.
    Returns the hidden states (B, S, hidden_size), those after the final norm or the output of layer `text_layer`, and,
    for each layer, (K, V), each (B, num_kv_heads, S, head_dim) with RoPE applied to K at positions 0 .. S - 1. Values
    at padded positions are meaningless. Gradients flow unless the caller switches them off.
    Raises ValueError for a mask with padding anywhere but on the right.
    """
    if attention_mask is not None and bool((attention_mask.bool().int().diff(dim=1) > 0).any()):
        raise ValueError("attention_mask has padding before a token; pad prompts on the right")
    # The mask is not needed: the tokens of a causal decoder never see tokens to their right.
    output = decoder.model(input_ids=input_ids, use_cache=True, output_hidden_states=text_layer is not None)
    hidden = output.last_hidden_state if text_layer is None else output.hidden_states[text_layer + 1]
    return hidden, _cached_keys_values(output.past_key_values)


def _cached_keys_values(cache: Cache) -> KeysValues:
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return list(zip(cache.key_cache, cache.value_cache))  # before transformers 4.54


@dataclass(frozen=True)
class DecoderStates:
    """All that a decoder computes of its input."""

    # (B, T, D), after the final norm.
    last: Tensor
    # (B, T, D) after each layer, from 0 layers on; the last one is after the final norm.
    after: tuple[Tensor, ...]
    # (K, V) of every layer, each (B, num_kv_heads, T, head_dim).
    keys_values: KeysValues


def decoder_states(decoder: Qwen2ForCausalLM, input_ids: Tensor) -> DecoderStates:
    """Run a decoder on ids (B, T), padded on the right. Gradients flow."""
    output = decoder.model(input_ids=input_ids, use_cache=True, output_hidden_states=True)
    return DecoderStates(output.last_hidden_state, output.hidden_states, _cached_keys_values(output.past_key_values))
