"""SpatialFusion-Mini's text encoder as a real `comfy.sd.CLIP`: the host's Qwen2.5 decoder at the Mini's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.sd
import comfy.text_encoders.llama
import comfy.utils
import folder_paths
import torch
from comfy import sd1_clip

from ...sf_model.backbones.mini import (
    CAMERA_REGISTER,
    END_TOKEN_ID,
    MINI_DIR,
    MLLM_FILE,
    PAD_TOKEN_ID,
    TOKENIZER_DIR,
)
from .weights import read_base_weights

NAME = "spatialfusion_mini"
MAX_TOKENS = 99999999


def _decoder_config(sizes: dict[str, Any], writes: bool) -> comfy.text_encoders.llama.Qwen25_3BConfig:
    """The host's Qwen2.5 configuration with the file's sizes. A subclass sets what is no field of it.

    writes: whether the decoder was trained to write. The host asks for the tokens at which it stops.
    """

    @dataclass
    class MiniConfig(comfy.text_encoders.llama.Qwen25_3BConfig):
        head_dim = sizes["head_dim"]
        stop_tokens = (END_TOKEN_ID,) if writes else ()

    return MiniConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_attention_heads"],
        num_key_value_heads=sizes["num_kv_heads"],
        max_position_embeddings=sizes["max_position_embeddings"],
        rms_norm_eps=sizes["rms_norm_eps"],
        rope_theta=sizes["rope_theta"],
    )


class MiniSegmentTokenizer(sd1_clip.SDTokenizer):
    """Text -> token ids with weights. It adds no start, end or padding tokens."""

    def __init__(self, hidden_size: int, embedding_directory: Any, tokenizer_data: dict[str, Any]) -> None:
        from transformers import Qwen2Tokenizer  # imported only now, so that the host starts faster

        super().__init__(
            str(MINI_DIR / TOKENIZER_DIR),
            pad_with_end=False,
            embedding_directory=embedding_directory,
            embedding_size=hidden_size,
            embedding_key=NAME,
            tokenizer_class=Qwen2Tokenizer,
            has_start_token=False,
            has_end_token=False,
            pad_to_max_length=False,
            max_length=MAX_TOKENS,
            min_length=1,
            pad_token=PAD_TOKEN_ID,
            tokenizer_data=tokenizer_data,
        )


class MiniTokenizer(sd1_clip.SD1Tokenizer):
    """Wraps the prompt in the template that the decoder was trained with."""

    def __init__(
        self, hidden_size: int, template: str, embedding_directory: Any, tokenizer_data: dict[str, Any]
    ) -> None:
        self.template = template
        # What Plan Scene Layout asks: the prompt alone, in the template. None: this decoder writes no layouts.
        self.layout_request = "{prompt}" if CAMERA_REGISTER in template else None
        super().__init__(
            embedding_directory, tokenizer_data, name=NAME, tokenizer=partial(MiniSegmentTokenizer, hidden_size)
        )

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        return super().tokenize_with_weights(self.template.replace("{}", text), return_word_ids, **options)


class MiniDecoder(comfy.text_encoders.llama.BaseLlama, comfy.text_encoders.llama.BaseGenerate, torch.nn.Module):
    """The host's decoder as `SDClipModel` holds it. The tensors of the file have its names."""

    def __init__(
        self, sizes: dict[str, Any], writes: bool, _: dict[str, Any], dtype: Any, device: Any, operations: Any
    ) -> None:
        super().__init__()
        config = _decoder_config(sizes, writes)
        self.num_layers = config.num_hidden_layers
        self.model = comfy.text_encoders.llama.Llama2_(config, device=device, dtype=dtype, ops=operations)
        self.dtype = dtype


class MiniEncoder(sd1_clip.SDClipModel):
    def __init__(
        self, sizes: dict[str, Any], writes: bool, device: Any, dtype: Any, model_options: dict[str, Any]
    ) -> None:
        layer = sizes.get("text_layer")
        super().__init__(
            device=device,
            layer="last" if layer is None else "hidden",
            layer_idx=layer,
            textmodel_json_config={},
            dtype=dtype,
            special_tokens={"pad": PAD_TOKEN_ID},
            layer_norm_hidden_state=False,
            model_class=partial(MiniDecoder, sizes, writes),
            enable_attention_masks=True,
            return_attention_masks=True,
            model_options=model_options,
        )


class MiniTextModel(sd1_clip.SD1ClipModel):
    """The text model in the weights' own type, as the host keeps its language models.

    The host's own choice of `dtype` on a CPU would be float16.
    """

    def __init__(
        self,
        sizes: dict[str, Any],
        weights_dtype: Any,
        writes: bool,
        device: Any,
        dtype: Any,
        model_options: dict[str, Any],
    ) -> None:
        super().__init__(
            device=device,
            dtype=weights_dtype,
            name=NAME,
            clip_model=partial(MiniEncoder, sizes, writes),
            model_options=model_options,
        )


@dataclass(frozen=True)
class _Target:
    """What `comfy.sd.CLIP` builds from."""

    clip: Callable[..., MiniTextModel]
    tokenizer: Callable[..., MiniTokenizer]
    params: dict[str, Any]


def load_mini_clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """Build the CLIP from the built-in files. ValueError if they are missing or damaged."""
    path = MINI_DIR / MLLM_FILE
    weights = read_base_weights(path)
    dtype = comfy.utils.weight_dtype(weights.state_dict)
    # Decoders with registers were trained to write the layout after them.
    writes = CAMERA_REGISTER in weights.prompt_template
    clip = comfy.sd.CLIP(
        _Target(
            partial(MiniTextModel, weights.config, dtype, writes),
            partial(MiniTokenizer, weights.config["hidden_size"], weights.prompt_template),
            {},
        ),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=comfy.utils.calculate_parameters(weights.state_dict),
        state_dict=[weights.state_dict],
        disable_dynamic=disable_dynamic,
    )
    # The host only logs which tensors are missing in a file.
    decoder = getattr(clip.cond_stage_model, NAME).transformer
    differing = sorted(set(decoder.state_dict()) ^ set(weights.state_dict))
    if differing:
        raise ValueError(
            f"install the pack again: in {path} its tensors are not those of the decoder ({differing[:3]})"
        )
    clip.cond_stage_model.base_revision = weights.revision
    clip.patcher.cached_patcher_init = (_load_mini_clip_patcher, ())
    return clip


def _load_mini_clip_patcher(disable_dynamic: bool = False) -> Any:
    return load_mini_clip(disable_dynamic).patcher
