"""SpatialFusion-Mini's base: a Qwen2.5 decoder and an OmniGen2 transformer in pixel space, trained from scratch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

from ...backbones.mini import (
    DIT_FILE,
    IMAGE_SIZE_PX,
    MLLM_FILE,
    SAMPLING_SHIFT,
    TOKENIZER_DIR,
    VAE_FILE,
    load_base_weights,
    prompt_template,
    velocity_from_data,
)
from ...config import SpatialFusionConfig, dataclass_from_dict
from ...files.atomic import written_whole
from ...models.autoencoder import Autoencoder, AutoencoderConfig
from ...models.expert_inputs import SourceFeatures
from ...models.pixel_encoder import own_patch_px, source_patches
from .base import Base, Prompt
from .number_tokens import start_from_values
from .omnigen2_transformer import OmniGen2Transformer
from .prompts import PromptTokens, load_tokenizer
from .qwen2 import EMBEDDING_STD, build_decoder, prompt_keys_values
from .sizes import DecoderConfig, MiniSizes, OmniGen2Config


class MiniBase(Base):
    """The diffusion transformer predicts the data. Without an autoencoder the latents are the pixels in [-1, 1]."""

    name = "mini"
    sampling_shift = SAMPLING_SHIFT
    injections = ("token", "latent")

    def __init__(self, sizes: MiniSizes, tokenizer_dir: Path, seed: int) -> None:
        layout = sizes.spatialfusion.layout
        tokenizer = load_tokenizer(tokenizer_dir)
        super().__init__(PromptTokens(tokenizer, prompt_template(0 if layout is None else layout.objects), None))
        self.sizes = sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.text_encoder = build_decoder(sizes.decoder)
            if layout is not None:
                words = self.text_encoder.model.embed_tokens.weight
                start_from_values(words, tokenizer.get_vocab(), EMBEDDING_STD)
            self.transformer = OmniGen2Transformer(sizes.transformer)
            self.transformer.initialize_weights()
            self.vae = None if sizes.autoencoder is None else Autoencoder(sizes.autoencoder)

    @property
    def gives_features(self) -> bool:
        return own_patch_px(self.sizes.spatialfusion) is not None

    @property
    def patch_size(self) -> int:
        return self.sizes.transformer.patch_size

    def check_source(self, config: SpatialFusionConfig) -> None:
        wanted = config.spatial_transformer.source_feature_dim
        if wanted is not None and own_patch_px(config) is None:
            raise ValueError(
                f"set source_feature_dim of configuration {config.name!r} to 3 * patch_px^2 or to null: the Mini reads "
                f"the source's own patches, not features of {wanted} channels"
            )

    def mllm_sizes(self) -> tuple[int, int, int]:
        decoder = self.sizes.decoder
        return decoder.num_layers, decoder.num_kv_heads, decoder.head_dim

    def decoder_state(self) -> dict[str, torch.Tensor]:
        return self.text_encoder.model.state_dict()

    def encode(self, input_ids: torch.Tensor, mask: torch.Tensor, source: torch.Tensor | None) -> Prompt:
        hidden, keys_values = prompt_keys_values(self.text_encoder, input_ids, mask, self.sizes.decoder.text_layer)
        return Prompt(hidden, mask, list(keys_values), mask, mask.sum(dim=1))

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        return image * 2 - 1 if self.vae is None else self.vae.encode(image * 2 - 1)

    def decode_latent(self, latent: torch.Tensor) -> torch.Tensor:
        image = latent if self.vae is None else self.vae.decode(latent).float()
        return ((image + 1) / 2).clamp(0, 1)

    def run(
        self,
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: Prompt,
        reference: torch.Tensor | None,
        depth_tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        references = None if reference is None else [reference]
        data = self.transformer(latent, time, prompt.hidden, prompt.hidden_mask, references, depth_tokens)
        return velocity_from_data(latent, data.float(), 1 - time)

    def target_velocity(
        self, x: torch.Tensor, data: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        return velocity_from_data(x, data, 1 - time)

    def source_features(self, source: torch.Tensor) -> SourceFeatures:
        config = self.sizes.spatialfusion
        return source_patches(source, own_patch_px(config), config.spatial_transformer.stride)

    def save(self, folder: Path, revision: str, dtype: torch.dtype) -> list[Path]:
        """Write the two models' files; `revision` names the run that made them."""
        decoder = {name: value for name, value in self.text_encoder.state_dict().items() if name != "lm_head.weight"}
        paths = []
        parts = [
            (MLLM_FILE, self.sizes.decoder, decoder),
            (DIT_FILE, self.sizes.transformer, self.transformer.state_dict()),
        ]
        if self.vae is not None:
            parts.append((VAE_FILE, self.sizes.autoencoder, self.vae.state_dict()))
        for filename, config, tensors in parts:
            stored = {name: value.detach().to("cpu", dtype).contiguous() for name, value in tensors.items()}
            metadata = {
                "config": json.dumps(asdict(config)),
                "base_revision": revision,
                "image_size": str(self.sizes.image_size),
                "prompt_template": self.tokens.template,
            }
            paths.append(folder / filename)
            with written_whole(paths[-1]) as partial:
                safetensors.torch.save_file(stored, partial, metadata)
        return paths


def load_mini(folder: Path, config: SpatialFusionConfig) -> MiniBase:
    """The base of an exported folder, in float32. ValueError for any other folder."""
    decoder, transformer = load_base_weights(folder / MLLM_FILE), load_base_weights(folder / DIT_FILE)
    autoencoder = load_base_weights(folder / VAE_FILE) if (folder / VAE_FILE).is_file() else None
    sizes = MiniSizes(
        transformer.image_size or IMAGE_SIZE_PX,
        0,
        autoencoder and dataclass_from_dict(AutoencoderConfig, autoencoder.config, VAE_FILE),
        dataclass_from_dict(DecoderConfig, decoder.config, MLLM_FILE),
        dataclass_from_dict(OmniGen2Config, transformer.config, DIT_FILE),
        config,
    )
    base = MiniBase(sizes, folder / TOKENIZER_DIR, seed=0)
    embedding = decoder.state_dict["model.embed_tokens.weight"]
    base.text_encoder.load_state_dict({**decoder.state_dict, "lm_head.weight": embedding})
    base.transformer.load_state_dict(transformer.state_dict)
    if autoencoder is not None:
        base.vae.load_state_dict(autoencoder.state_dict)
    return base
