"""OmniGen2: Qwen2.5-VL-3B's decoder (text only, as in the host), its diffusion transformer and Flux's autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import Qwen2Config, Qwen2Model
from transformers.cache_utils import DynamicCache

from ...backbones.omnigen2 import OMNIGEN2
from .base import Prompt
from .keys import autoencoder, text_decoder, unchanged
from .omnigen2_transformer import OmniGen2Transformer
from .prompts import PromptTokens, load_tokenizer
from .released import BaseFiles, ReleasedBase, assign, empty_weights
from .sizes import OmniGen2Config
from .weights import count, read_weights

# The same in every published Qwen2.5.
HEAD_DIM = 128
ROPE_THETA = 1e6
LATENT_SCALE, LATENT_SHIFT = 0.3611, 0.1159


class OmniGen2Base(ReleasedBase):
    name = "omnigen2"
    injections = ("latent", "token")
    sampling_shift = 2.6
    lora_targets = r".*\.(attn\.(to_q|to_k|to_v|to_out\.0)|feed_forward\.linear_[123])"

    def __init__(self, files: BaseFiles) -> None:
        super().__init__(files, PromptTokens(load_tokenizer(files.tokenizer), OMNIGEN2.prompt_template, None))
        self.text_encoder = load_text_decoder(files.text_encoder, files.dtype)
        self.transformer = load_transformer(files.diffusion_model, files.dtype)
        self.vae = load_autoencoder(files.vae, files.dtype)

    def mllm_sizes(self) -> tuple[int, int, int]:
        config = self.text_encoder.config
        return config.num_hidden_layers, config.num_key_value_heads, HEAD_DIM

    def decoder_state(self) -> dict[str, torch.Tensor]:
        return self.text_encoder.state_dict()

    def encode(self, input_ids: torch.Tensor, mask: torch.Tensor, source: torch.Tensor | None) -> Prompt:
        cache = DynamicCache()
        # Causal and padded on the right: no token sees padding, so no mask is needed.
        hidden = self.text_encoder(input_ids=input_ids, past_key_values=cache, use_cache=True).last_hidden_state
        keys_values = [(layer.keys, layer.values) for layer in cache.layers]
        return Prompt(hidden, mask, keys_values, mask, mask.sum(dim=1))

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        latent = self.vae.encode((image * 2 - 1).to(self.vae.dtype)).latent_dist.mean
        return (latent.float() - LATENT_SHIFT) * LATENT_SCALE

    def decode_latent(self, latent: torch.Tensor) -> torch.Tensor:
        latent = latent / LATENT_SCALE + LATENT_SHIFT
        return (self.vae.decode(latent.to(self.vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)

    def run(
        self,
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: Prompt,
        reference: torch.Tensor | None,
        depth_tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        dtype = self.transformer.x_embedder.weight.dtype
        references = None if reference is None else [reference.to(dtype)]
        # The time stays in float32 up to its embedding, as in the host (`.float()` in model_base's `_apply_model`).
        # The embedding multiplies it by 1000. bf16 would keep only about 200 different values.
        output = self.transformer(
            latent.to(dtype), time.float(), prompt.hidden.to(dtype), prompt.hidden_mask, references, depth_tokens
        )
        return output.float()


def load_text_decoder(path: Path, dtype: torch.dtype) -> Qwen2Model:
    """The decoder of Qwen2.5 or Qwen2.5-VL, without its vision tower; sizes are read from the tensors."""
    tensors = read_weights(path)
    with empty_weights():
        decoder = Qwen2Model(Qwen2Config(**decoder_sizes(tensors, path), rope_theta=ROPE_THETA))
    return assign(decoder, tensors, text_decoder, dtype, str(path), ignored=("visual.", "lm_head."))


def decoder_sizes(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, int | float]:
    """Arguments of transformers' text configs."""
    first = "model.layers.0."
    try:
        vocabulary, hidden = tensors["model.embed_tokens.weight"].shape
        return {
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": tensors[f"{first}mlp.gate_proj.weight"].shape[0],
            "num_hidden_layers": count(tensors, "model.layers."),
            "num_attention_heads": tensors[f"{first}self_attn.q_proj.weight"].shape[0] // HEAD_DIM,
            "num_key_value_heads": tensors[f"{first}self_attn.k_proj.weight"].shape[0] // HEAD_DIM,
            "head_dim": HEAD_DIM,
            "rms_norm_eps": 1e-6,
        }
    except KeyError as error:
        raise ValueError(f"{path} is no Qwen2.5 text encoder (no {error}); name the one of this base") from error


def load_transformer(path: Path, dtype: torch.dtype) -> OmniGen2Transformer:
    """OmniGen2's diffusion transformer; sizes are read from the tensors."""
    tensors = read_weights(path)
    try:
        hidden, patch_channels = tensors["x_embedder.weight"].shape
        head_dim = tensors["layers.0.attn.norm_q.weight"].shape[0]
        kv_heads = tensors["layers.0.attn.to_k.weight"].shape[0] // head_dim
        text_dim = tensors["time_caption_embed.caption_embedder.1.weight"].shape[1]
    except KeyError as error:
        raise ValueError(f"{path} is no OmniGen2 diffusion model (no {error}); name the one of this base") from error
    config = OmniGen2Config(
        in_channels=patch_channels // OmniGen2Config.patch_size**2,
        hidden_size=hidden,
        num_layers=count(tensors, "layers."),
        num_refiner_layers=count(tensors, "noise_refiner."),
        num_attention_heads=hidden // head_dim,
        num_kv_heads=kv_heads,
        axes_dim_rope=(head_dim // 3,) * 3,
        text_feat_dim=text_dim,
    )
    with empty_weights():
        transformer = OmniGen2Transformer(config)
    return assign(transformer, tensors, unchanged, dtype, str(path))


def load_autoencoder(path: Path, dtype: torch.dtype) -> AutoencoderKL:
    """Flux's autoencoder, from ComfyUI's `ae.safetensors` or a diffusers folder; sizes are read from the tensors."""
    tensors = read_weights(path)
    is_diffusers = "encoder.conv_norm_out.weight" in tensors
    down = "encoder.down_blocks." if is_diffusers else "encoder.down."
    blocks = "resnets" if is_diffusers else "block"
    levels = count(tensors, down)
    try:
        channels = tuple(tensors[f"{down}{level}.{blocks}.0.conv1.weight"].shape[0] for level in range(levels))
        config = {
            "block_out_channels": channels,
            "layers_per_block": count(tensors, f"{down}0.{blocks}."),
            "latent_channels": tensors["decoder.conv_in.weight"].shape[1],
        }
    except KeyError as error:
        raise ValueError(f"{path} is no image autoencoder (no {error}); OmniGen2 uses ae.safetensors") from error
    with_quant = "quant_conv.weight" in tensors
    with empty_weights():
        vae = AutoencoderKL(
            **config,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=min(32, channels[0]),
            use_quant_conv=with_quant,
            use_post_quant_conv=with_quant,
        )
    return assign(vae, tensors, unchanged if is_diffusers else autoencoder(levels), dtype, str(path))
