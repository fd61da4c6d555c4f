"""Graphs that were made for the Mini of earlier releases, which drew in pixel space, go on giving an image.

Their empty latent has a cell for each pixel: an image of 128 pixels is an empty latent of 128 x 128 cells. Read as what
it is, it would be an image of 1024 pixels, which the Mini never learned. So an empty latent that is larger than any
image of the Mini is taken for pixels.
"""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP

from ...sf_model.models.autoencoder import DOWNSCALE

KEY = "spatialfusion_mini"
# An image of 512 pixels. The Mini learned images of 256 pixels at most.
MAX_CELLS = 64


def take_empty_pixels_for_latents(patcher: comfy.model_patcher.ModelPatcher) -> None:
    """Let a MODEL sample an empty latent of too many cells at an eighth of its size."""
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _outer_sample)


def _outer_sample(
    executor: Any, noise: torch.Tensor, latent_image: torch.Tensor, *arguments: Any, **options: Any
) -> torch.Tensor:
    if max(latent_image.shape[-2:]) < MAX_CELLS or bool(latent_image.count_nonzero()):
        return executor(noise, latent_image, *arguments, **options)
    rows, columns = (max(1, side // DOWNSCALE) for side in latent_image.shape[-2:])
    logging.info(
        "SpatialFusion Mini: the empty latent is taken for pixels, as in graphs of earlier releases; use Empty Latent "
        "Image in new ones"
    )
    noise, latent_image = noise[..., :rows, :columns], latent_image[..., :rows, :columns]
    if options.get("latent_shapes"):
        options["latent_shapes"] = [latent_image.shape]
    return executor(noise, latent_image, *arguments, **options)
