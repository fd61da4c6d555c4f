"""The Mini's autoencoder: images (B, 3, H, W) in [-1, 1] <-> latents (B, C, H / 8, W / 8).

It is convolutional and learns from the synthetic world alone. Most of its work is done at 1/4 and 1/8 of the image's
size. The last four-fold enlargement is one pixel shuffle and one convolution, so that a CPU decodes quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from .initialisation import start_from_zero

# Image pixels along the side of a latent's cell.
DOWNSCALE = 8
# The first and the last layers work at this share of the image's size.
_OUTER_SCALE = 4
_NORM_GROUPS = 8
_LOG_VARIANCE_RANGE = (-12.0, 4.0)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder. All channels but the latent's are multiples of 8."""

    latent_channels: int
    # The latents are divided by this number, so that their variance is about 1.
    latent_std: float
    # Channels at 1/4 and at 1/8 of the image's size.
    encoder_channels: tuple[int, int]
    decoder_channels: tuple[int, int]
    # Channels at the image's own size.
    image_channels: int


class ResidualBlock(nn.Module):
    """Two convolutions, with group norm and SiLU before each, beside the identity."""

    def __init__(self, channels: int, operations: Any, factory: dict[str, Any]) -> None:
        super().__init__()
        self.norm1 = operations.GroupNorm(_NORM_GROUPS, channels, **factory)
        self.conv1 = operations.Conv2d(channels, channels, 3, padding=1, **factory)
        self.norm2 = operations.GroupNorm(_NORM_GROUPS, channels, **factory)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1, **factory)
        start_from_zero(self.conv2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_in = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(x_in)))


class Encoder(nn.Module):
    """Images -> mean and log variance of the latents, before their division by `latent_std`."""

    def __init__(self, config: AutoencoderConfig, operations: Any, factory: dict[str, Any]) -> None:
        super().__init__()
        outer, inner = config.encoder_channels
        self.conv_in = operations.Conv2d(3 * _OUTER_SCALE**2, outer, 3, padding=1, **factory)
        self.outer = ResidualBlock(outer, operations, factory)
        self.down = operations.Conv2d(outer, inner, 2, stride=2, **factory)
        self.inner = nn.Sequential(*(ResidualBlock(inner, operations, factory) for _ in range(2)))
        self.norm_out = operations.GroupNorm(_NORM_GROUPS, inner, **factory)
        self.conv_out = operations.Conv2d(inner, 2 * config.latent_channels, 1, **factory)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.outer(self.conv_in(F.pixel_unshuffle(image, _OUTER_SCALE)))
        x = self.inner(self.down(x))
        mean, log_variance = self.conv_out(F.silu(self.norm_out(x))).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE_RANGE)


class Decoder(nn.Module):
    """Latents, multiplied by `latent_std` -> images."""

    def __init__(self, config: AutoencoderConfig, operations: Any, factory: dict[str, Any]) -> None:
        super().__init__()
        outer, inner = config.decoder_channels
        self.conv_in = operations.Conv2d(config.latent_channels, inner, 3, padding=1, **factory)
        self.inner = nn.Sequential(*(ResidualBlock(inner, operations, factory) for _ in range(2)))
        self.up = operations.Conv2d(inner, 4 * outer, 1, **factory)
        self.outer = nn.Sequential(*(ResidualBlock(outer, operations, factory) for _ in range(3)))
        self.to_pixels = operations.Conv2d(outer, config.image_channels * _OUTER_SCALE**2, 3, padding=1, **factory)
        self.conv_out = operations.Conv2d(config.image_channels, 3, 3, padding=1, **factory)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        x = self.inner(self.conv_in(latent))
        x = self.outer(F.pixel_shuffle(self.up(x), 2))
        x = F.pixel_shuffle(self.to_pixels(F.silu(x)), _OUTER_SCALE)
        return self.conv_out(F.silu(x))


class Autoencoder(nn.Module):
    """Encoder and decoder. Sides of images are multiples of 8."""

    def __init__(
        self,
        config: AutoencoderConfig,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.config = config
        self.encoder = Encoder(config, operations, factory)
        self.decoder = Decoder(config, operations, factory)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> the mean latents (B, C, H / 8, W / 8), with a variance of about 1."""
        return self.encoder(image)[0] / self.config.latent_std

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The inverse of `encode`: (B, 3, H, W), about in [-1, 1]."""
        return self.decoder(latent * self.config.latent_std)
