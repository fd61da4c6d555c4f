"""The size in pixels of the image that a LATENT stands for."""

from __future__ import annotations

from typing import Any

import comfy.sd

# The empty latents of the host say how many pixels a cell is.
SCALE_KEY = "downscale_ratio_spacial"
# Models in pixel space (Chroma Radiance, the Mini of older versions) have the channels of a picture and no scale.
PIXEL_CHANNELS = 3
# Of every base that this pack knows, and of most image models.
USUAL_SCALE = 8


def image_size(latent: dict[str, Any], vae: comfy.sd.VAE | None) -> tuple[int, int]:
    """(width, height) in pixels. vae: knows the scale of a latent that does not say it.

    ValueError, with the remedy, for a latent of sound.
    """
    samples = latent["samples"]
    if samples.ndim not in (4, 5):
        raise ValueError(
            "connect the latent of an image, such as Empty Latent Image's: this one has the shape "
            f"{tuple(samples.shape)}"
        )
    scale = latent.get(SCALE_KEY)
    if scale is None and vae is not None:
        scale = vae.spacial_compression_encode()
    if scale is None:
        scale = 1 if samples.shape[1] == PIXEL_CHANNELS else USUAL_SCALE
    rows, columns = samples.shape[-2:]
    return round(columns * scale), round(rows * scale)
