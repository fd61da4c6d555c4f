"""SpatialFusion-Mini's autoencoder as the host's VAE: stock VAE Encode and VAE Decode use it."""

from __future__ import annotations

from pathlib import Path

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch

from ...sf_model.backbones.mini import VAE_FILE
from ...sf_model.config import dataclass_from_dict
from ...sf_model.models.autoencoder import DOWNSCALE, Autoencoder, AutoencoderConfig
from .weights import read_base_weights

# Values of all maps that are alive at once, for each pixel of the image.
_VALUES_PER_PIXEL = 96


class MiniLatents(comfy.latent_formats.LatentFormat):
    """The latents of the autoencoder, which already have a variance of about 1."""

    spacial_downscale_ratio = DOWNSCALE

    def __init__(self, latent_channels: int) -> None:
        self.latent_channels = latent_channels


class MiniVAE(comfy.sd.VAE):
    """The host's VAE around our autoencoder. The host's own class knows no other way to hold one."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        # The smallest of the host's VAEs, for everything that does not depend on the network.
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})
        self.first_stage_model = autoencoder.eval().requires_grad_(False).to(self.vae_dtype)
        self.downscale_ratio = self.upscale_ratio = DOWNSCALE
        self.latent_channels = autoencoder.config.latent_channels
        self.memory_used_encode = lambda shape, dtype: _bytes(shape[2] * shape[3], dtype)
        self.memory_used_decode = lambda shape, dtype: _bytes(shape[2] * shape[3] * DOWNSCALE**2, dtype)
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model,
            load_device=self.device,
            offload_device=comfy.model_management.vae_offload_device(),
        )
        self.size = None
        self.model_size()


def _bytes(pixels: int, dtype: torch.dtype) -> int:
    return pixels * _VALUES_PER_PIXEL * dtype.itemsize


def load_mini_vae(folder: Path) -> comfy.sd.VAE:
    """The VAE of a folder of weights: the stock one for pixels if it has none. ValueError if it is damaged."""
    path = folder / VAE_FILE
    if not path.is_file():
        return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    weights = read_base_weights(path)
    config = dataclass_from_dict(AutoencoderConfig, weights.config, VAE_FILE)
    autoencoder = Autoencoder(config, comfy.ops.disable_weight_init)
    try:
        autoencoder.load_state_dict(weights.state_dict)
    except RuntimeError as error:
        raise ValueError(
            f"install the pack again: in {path} its tensors are not those of its sizes ({error})"
        ) from error
    return MiniVAE(autoencoder)
