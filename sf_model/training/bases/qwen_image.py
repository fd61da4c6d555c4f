"""Qwen-Image and Qwen-Image-Edit: Qwen2.5-VL-7B, which sees source images, diffusers' transformer, Wan's VAE."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel
from transformers.cache_utils import DynamicCache

from ...backbones import Backbone
from ...backbones.qwen_image import QWEN_IMAGE
from ...models.rotary import next_position
from .base import Prompt
from .keys import unchanged, video_autoencoder, vision_language_model
from .omnigen2 import HEAD_DIM, ROPE_THETA, decoder_sizes
from .prompts import PromptTokens, load_tokenizer
from .released import BaseFiles, ReleasedBase, assign, empty_weights
from .weights import count, read_weights

IMAGE_TOKENS = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"

PATCH_PX, MERGE = 14, 2
PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MIN_PIXELS, MAX_PIXELS = 3136, 12845056
# The same in every published Qwen2.5-VL. It cannot be read from the tensors.
VISION_HEADS = 16
TIMESTEP_ZERO = "__index_timestep_zero__"


class QwenImageBase(ReleasedBase):
    sampling_shift = math.exp(1.15)
    lora_targets = (
        r".*\.(attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
        r"|(img_mlp|txt_mlp)\.net\.(0\.proj|2))"
    )

    def __init__(self, files: BaseFiles, backbone: Backbone = QWEN_IMAGE) -> None:
        loaded = load_tokenizer(files.tokenizer)
        if not set(IMAGE_TOKENS) <= loaded.get_vocab().keys():
            raise ValueError(
                f"{files.tokenizer} lacks Qwen2.5-VL's image tokens {IMAGE_TOKENS}; name Qwen2.5-VL's tokenizer"
            )
        view = backbone.source_view
        assert view is not None
        edit_template = view.template.replace("{}", view.picture + "{}")
        super().__init__(files, PromptTokens(loaded, backbone.prompt_template, edit_template))
        self.name, self.mllm_area_px = backbone.name, view.mllm_area_px
        # Number of template tokens before the user's turn. The diffusion model does not see them.
        self.skipped = {
            is_edit: len(loaded(template.split("{}")[0])["input_ids"])
            for is_edit, template in ((False, backbone.prompt_template), (True, view.template))
        }
        self.text_encoder = load_vision_language_model(files.text_encoder, files.dtype)
        self.transformer = load_transformer(files.diffusion_model, files.dtype)
        self.vae = load_autoencoder(files.vae, files.dtype)
        self.image_token = loaded.convert_tokens_to_ids(IMAGE_TOKENS[1])

    def mllm_sizes(self) -> tuple[int, int, int]:
        config = self.text_encoder.config.text_config
        return config.num_hidden_layers, config.num_key_value_heads, HEAD_DIM

    def decoder_state(self) -> dict[str, torch.Tensor]:
        return self.text_encoder.language_model.state_dict()

    def transformer_file(self) -> dict[str, torch.Tensor]:
        # By this mark ComfyUI knows that reference latents have time zero.
        mark = {TIMESTEP_ZERO: torch.zeros(0)} if self.transformer.config.zero_cond_t else {}
        return {**super().transformer_file(), **mark}

    def encode(self, input_ids: torch.Tensor, mask: torch.Tensor, source: torch.Tensor | None) -> Prompt:
        embeds = self.text_encoder.language_model.embed_tokens(input_ids)
        positions = None
        skipped = self.skipped[source is not None]
        if source is not None:
            embeds, mask, positions = self._with_source(input_ids, embeds, mask, source)
        cache = DynamicCache()
        output = self.text_encoder.language_model(
            inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True
        )
        keys_values = [(layer.keys, layer.values) for layer in cache.layers]
        after = mask.sum(dim=1) if positions is None else next_position(positions, mask)
        return Prompt(output.last_hidden_state[:, skipped:], mask[:, skipped:], keys_values, mask, after)

    def _with_source(
        self, ids: torch.Tensor, embeds: torch.Tensor, mask: torch.Tensor, source: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Replace the source's placeholder by its features. Its place is the same in every row of a batch."""
        pixels, grid = vision_patches(source, self.mllm_area_px)
        rows, columns = grid[1] // MERGE, grid[2] // MERGE
        grids = torch.tensor([grid] * len(source), device=source.device)
        features = self.text_encoder.visual(pixels.to(self.dtype), grid_thw=grids).pooler_output
        features = features.view(len(source), rows * columns, -1).to(embeds)
        place = int((ids[0] == self.image_token).nonzero()[0])
        embeds = torch.cat([embeds[:, :place], features, embeds[:, place + 1 :]], dim=1)
        seen = torch.ones(len(source), rows * columns, dtype=torch.bool, device=mask.device)
        mask = torch.cat([mask[:, :place], seen, mask[:, place + 1 :]], dim=1)
        positions = _positions(place, rows, columns, embeds.shape[1], embeds.device)
        return embeds, mask, positions[:, None].expand(-1, len(source), -1)

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = self._statistics(image.device)
        latent = self.vae.encode((image * 2 - 1).unsqueeze(2).to(self.vae.dtype)).latent_dist.mean
        return (latent[:, :, 0].float() - mean) / std

    def decode_latent(self, latent: torch.Tensor) -> torch.Tensor:
        mean, std = self._statistics(latent.device)
        video = self.vae.decode((latent * std + mean).unsqueeze(2).to(self.vae.dtype)).sample
        return (video[:, :, 0].float() / 2 + 0.5).clamp(0, 1)

    def _statistics(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.vae.config
        mean, std = (torch.tensor(value, device=device) for value in (config.latents_mean, config.latents_std))
        return mean.view(-1, 1, 1), std.view(-1, 1, 1)

    def run(
        self,
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: Prompt,
        reference: torch.Tensor | None,
        depth_tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        if depth_tokens is not None:
            raise ValueError(f"{self.name} is not trained with depth on its tokens; set injection to latent")
        dtype = self.transformer.img_in.weight.dtype
        padded = F.pad(latent, (0, latent.shape[3] % 2, 0, latent.shape[2] % 2), mode="circular")
        tokens, shapes = pack(padded), [_token_shape(padded)]
        count_tokens = tokens.shape[1]
        if reference is not None:
            tokens = torch.cat([tokens, pack(reference)], dim=1)
            shapes.append(_token_shape(reference))
        with self._embedded_exactly((1 - time).float()) as timestep:
            output = self.transformer(
                tokens.to(dtype),
                encoder_hidden_states=prompt.hidden.to(dtype),
                encoder_hidden_states_mask=None if bool(prompt.hidden_mask.all()) else prompt.hidden_mask,
                timestep=timestep,
                img_shapes=[shapes] * len(latent),
                return_dict=False,
            )[0]
        noise_minus_data = unpack(output[:, :count_tokens], padded.shape[2], padded.shape[3])
        return -noise_minus_data[:, :, : latent.shape[2], : latent.shape[3]].float()

    @contextmanager
    def _embedded_exactly(self, timestep: torch.Tensor) -> Iterator[torch.Tensor]:
        """Inside, the transformer embeds these times in float32, as the host does (`.float()` in `_apply_model`).

        diffusers' forward rounds them to the weights' type. bf16 keeps only about 200 different values of 1000.
        """

        def unrounded(_module: nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            # If reference latents have time zero, diffusers appends as many zeros.
            return (torch.cat([timestep, 0 * timestep])[: len(arguments[0])],)

        handle = self.transformer.time_text_embed.time_proj.register_forward_pre_hook(unrounded)
        try:
            yield timestep
        finally:
            handle.remove()


def pack(latent: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> tokens (B, h / 2 * w / 2, 4 C)."""
    batch, channels, rows, columns = latent.shape
    cells = latent.view(batch, channels, rows // 2, 2, columns // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns // 4, channels * 4)


def unpack(tokens: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The inverse of `pack`."""
    cells = tokens.view(len(tokens), rows // 2, columns // 2, -1, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows, columns)


def _token_shape(latent: torch.Tensor) -> tuple[int, int, int]:
    return 1, latent.shape[2] // 2, latent.shape[3] // 2


def vision_patches(source: torch.Tensor, area_px: int) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Patches (B * N, 3 * 2 * 14 * 14) of (B, 3, H, W) in [0, 1] as ComfyUI's edit nodes make them, and the grid."""
    height, width = source.shape[-2:]
    scale = math.sqrt(area_px / (height * width))
    source = F.interpolate(source, size=(round(height * scale), round(width * scale)), mode="area")
    size = _vision_size(*source.shape[-2:])
    pixels = F.interpolate(source, size=size, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(value, device=source.device).view(3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
    pixels = (pixels - mean) / std
    rows, columns = size[0] // PATCH_PX, size[1] // PATCH_PX
    cells = pixels.view(len(source), 3, rows // MERGE, MERGE, PATCH_PX, columns // MERGE, MERGE, PATCH_PX)
    cells = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)
    frames = cells.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)  # one image is a video of two equal frames
    return frames.reshape(len(source) * rows * columns, -1), (1, rows, columns)


def _vision_size(height: int, width: int) -> tuple[int, int]:
    """The nearest size of whole merged patches, within the model's limits of the area."""
    factor = PATCH_PX * MERGE
    size = round(height / factor) * factor, round(width / factor) * factor
    if size[0] * size[1] > MAX_PIXELS:
        beta = math.sqrt(height * width / MAX_PIXELS)
        return tuple(max(factor, math.floor(side / beta / factor) * factor) for side in (height, width))
    if size[0] * size[1] < MIN_PIXELS:
        beta = math.sqrt(MIN_PIXELS / (height * width))
        return tuple(math.ceil(side * beta / factor) * factor for side in (height, width))
    return size


def _positions(place: int, rows: int, columns: int, length: int, device: torch.device) -> torch.Tensor:
    """(3, length) time, row and column positions. Text counts up; after an image it continues at its longer side."""
    before = torch.arange(place).expand(3, -1)
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    image = torch.stack([torch.zeros(rows, columns, dtype=torch.long), *grid]).flatten(1) + place
    rest = length - place - rows * columns
    after = (torch.arange(rest) + place + max(rows, columns)).expand(3, -1)
    return torch.cat([before, image, after], dim=1).to(device)


def load_vision_language_model(path: Path, dtype: torch.dtype) -> Qwen2_5_VLModel:
    """Qwen2.5-VL from ComfyUI's file or a transformers folder; sizes are read from the tensors."""
    tensors = read_weights(path)
    sizes = decoder_sizes(tensors, path)
    try:
        vision = {
            "depth": count(tensors, "visual.blocks."),
            "hidden_size": tensors["visual.patch_embed.proj.weight"].shape[0],
            "intermediate_size": tensors["visual.blocks.0.mlp.gate_proj.weight"].shape[0],
            "out_hidden_size": sizes["hidden_size"],
            "num_heads": VISION_HEADS,
        }
    except KeyError as error:
        raise ValueError(
            f"{path} is no Qwen2.5-VL (no {error}); Qwen-Image needs the one with its vision tower"
        ) from error
    rope = {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": list(QWEN_IMAGE.rope_sections)}
    config = Qwen2_5_VLConfig(
        text_config={**sizes, "rope_theta": ROPE_THETA, "rope_scaling": rope, "use_sliding_window": False},
        vision_config=vision,
    )
    with empty_weights():
        model = Qwen2_5_VLModel(config)
    return assign(model, tensors, vision_language_model, dtype, str(path), ignored=("lm_head.",))


def load_transformer(path: Path, dtype: torch.dtype) -> QwenImageTransformer2DModel:
    """Qwen-Image's diffusion transformer from ComfyUI's file or a diffusers folder; sizes are read from the tensors."""
    tensors = read_weights(path)
    try:
        hidden, in_channels = tensors["img_in.weight"].shape
        head_dim = tensors["transformer_blocks.0.attn.norm_q.weight"].shape[0]
        text_dim = tensors["txt_in.weight"].shape[1]
        out_channels = tensors["proj_out.weight"].shape[0] // 4
    except KeyError as error:
        raise ValueError(f"{path} is no Qwen-Image diffusion model (no {error}); name the one of this base") from error
    with empty_weights():
        transformer = QwenImageTransformer2DModel(
            in_channels=in_channels,
            out_channels=out_channels,
            num_layers=count(tensors, "transformer_blocks."),
            attention_head_dim=head_dim,
            num_attention_heads=hidden // head_dim,
            joint_attention_dim=text_dim,
            axes_dims_rope=(head_dim // 8, head_dim * 7 // 16, head_dim * 7 // 16),
            zero_cond_t=TIMESTEP_ZERO in tensors or _zero_cond_t(path),
        )
    return assign(transformer, tensors, unchanged, dtype, str(path), ignored=(TIMESTEP_ZERO,))


def _zero_cond_t(path: Path) -> bool:
    """The value in the config.json of a diffusers folder. A single file has a mark among its tensors instead."""
    config = path / "config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("zero_cond_t", False))


def load_autoencoder(path: Path, dtype: torch.dtype) -> AutoencoderKLQwenImage:
    """From ComfyUI's `qwen_image_vae.safetensors` or a diffusers folder; sizes are read from the tensors."""
    tensors = read_weights(path)
    is_diffusers = "encoder.conv_in.weight" in tensors
    try:
        channels = tensors["encoder.conv_in.weight" if is_diffusers else "encoder.conv1.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"{path} is not Qwen-Image's autoencoder (no {error}); use qwen_image_vae") from error
    with empty_weights():
        vae = AutoencoderKLQwenImage(base_dim=channels)
    return assign(vae, tensors, unchanged if is_diffusers else video_autoencoder, dtype, str(path))
