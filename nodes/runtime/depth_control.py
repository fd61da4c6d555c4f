"""What Depth Adapter Apply adds to a MODEL, and which latents it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...sf_model.depth.fitting import check_aspect
from ...sf_model.depth.metric_depth import MetricDepth
from .crops import Part


@dataclass(frozen=True)
class DepthControl:
    """The depth, how strongly it is added, and in which part of sampling."""

    depth: MetricDepth
    # (B, H, W) in [0, 1], 1 where the depth is used. None uses it everywhere.
    mask: torch.Tensor | None
    strength: float
    # Percents and not noise levels: a node behind Depth Adapter Apply may still change the schedule.
    start_percent: float
    end_percent: float
    # The part of the depth that is drawn, if the user tells one.
    part: Part | None = None


def check_latent(shape: Sequence[int], control: DepthControl, part: Part) -> None:
    """ValueError, with the remedy, if the kind, batch or size of a latent of this shape does not fit the depth.

    part: what the latent shows of the depth.
    """
    if len(shape) not in (4, 5) or (len(shape) == 5 and shape[2] != 1):
        raise ValueError(
            f"use the latent of an image: Depth Adapter Apply works on images, but this latent has the shape "
            f"{tuple(shape)}"
        )
    _check_batch("geometry", len(control.depth.depth), shape[0])
    if control.mask is not None:
        _check_batch("mask", len(control.mask), shape[0])
    height, width = control.depth.depth.shape[-2:]
    is_whole = part == Part()
    check_aspect(
        "the geometry" if is_whole else "the part of the geometry",
        (height, width) if is_whole else (round(height * part.height), round(width * part.width)),
        "the latent",
        shape[-2:],
        "set width and height of Predict Metric Depth to the image's, or crop the picture that the geometry was "
        "measured from",
    )


def _check_batch(name: str, batch: int, latents: int) -> None:
    if batch not in (1, latents):
        raise ValueError(
            f"give one {name} for all images, or as many as the latent has (Repeat Latent Batch, batch_size of the "
            f"empty latent): the {name} has a batch of {batch}, the latent a batch of {latents}"
        )
