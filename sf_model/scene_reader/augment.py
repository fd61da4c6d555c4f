"""Makes the reader robust: adds blur, noise, patches and light, which generated images have and renders lack."""

from __future__ import annotations

import torch
import torch.nn.functional as F

MAX_NOISE, MAX_PATCH_NOISE, MAX_LIGHT = 0.12, 0.10, 0.10
PATCH_PIXELS = 8


def blur(images: torch.Tensor) -> torch.Tensor:
    """Each channel with a binomial 5x5 kernel (standard deviation 1 pixel)."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device, dtype=images.dtype) / 16
    channels = images.shape[1]
    kernel = (row[:, None] * row).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)


def degrade(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Degrade images (B, 3, S, S) in [-1, 1] by random amounts. A quarter of them stay clean."""
    batch, channels, height, width = images.shape

    def amount(maximum: float) -> torch.Tensor:
        strength = torch.rand(batch, 1, 1, 1, generator=generator)
        used = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
        return (maximum * strength * used).to(images)

    def normal(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(batch, channels, rows, columns, generator=generator).to(images)

    once = blur(images)
    softness = amount(2.0)
    blurred = torch.where(
        softness < 1, torch.lerp(images, once, softness.clamp(max=1)), torch.lerp(once, blur(once), softness - 1)
    )
    patches = F.interpolate(normal(height // PATCH_PIXELS, width // PATCH_PIXELS), size=(height, width))
    noisy = blurred + amount(MAX_NOISE) * normal(height, width) + amount(MAX_PATCH_NOISE) * patches
    light = 1 + amount(2 * MAX_LIGHT) - amount(2 * MAX_LIGHT)
    clean = (torch.rand(batch, 1, 1, 1, generator=generator) < 0.25).to(images.device)
    return torch.where(clean, images, ((noisy + 1) * light - 1).clamp(-1, 1))
