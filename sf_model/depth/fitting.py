"""Checks that inputs fit together: one rule for masks, batches and aspect ratios, and one way to resize.

Another size is resized. Another aspect ratio is an error: a stretched mask or depth would be in the wrong place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

# Sizes are rounded to whole pixels or cells, so the aspect ratios of pictures that belong together differ a little.
ASPECT_TOLERANCE = 0.02
CROP = "crop one to the other's aspect ratio"


def same_aspect(size: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes (height, width) have the same aspect ratio, up to ASPECT_TOLERANCE."""
    return abs(size[1] / size[0] / (other[1] / other[0]) - 1) <= ASPECT_TOLERANCE


def check_aspect(name: str, size: Sequence[int], other_name: str, other: Sequence[int], remedy: str = CROP) -> None:
    """ValueError, with the remedy, where two sizes (height, width) differ in aspect ratio."""
    if not same_aspect(size, other):
        (height, width), (other_height, other_width) = size, other
        raise ValueError(
            f"{remedy}: {name} is {width}x{height} (aspect ratio {width / height:.3f}) and {other_name} "
            f"{other_width}x{other_height} (aspect ratio {other_width / other_height:.3f})"
        )


def same_batch(batches: dict[str, int]) -> int:
    """The common batch size. batches: sizes by input name. A size of 1 fits all; ValueError for other differences."""
    count = max(batches.values())
    for name, batch in batches.items():
        if batch not in (1, count):
            sizes = ", ".join(f"{name} {size}" for name, size in batches.items())
            raise ValueError(
                f"give one {name} for all images, or {count} of them: the batches do not fit together ({sizes})"
            )
    return count


def check_mask(
    mask: torch.Tensor, height: int, width: int, name: str = "mask", other_name: str = "the geometry"
) -> torch.Tensor:
    """(..., h, w) -> (B, h, w) float32 in [0, 1], at its own size. ValueError for NaN or another aspect ratio.

    A mask of one value fits any picture: Load Image gives one of 64x64 for pictures without transparency.
    """
    mask = mask.reshape(-1, *mask.shape[-2:]).float()
    if torch.isnan(mask).any():
        raise ValueError(f"connect a mask with values from 0 to 1: the {name} has NaN values")
    if mask.numel() and mask.amin() != mask.amax():
        check_aspect(f"the {name}", mask.shape[-2:], other_name, (height, width))
    return mask.clamp(0, 1)


def fit_mask(
    mask: torch.Tensor, height: int, width: int, name: str = "mask", other_name: str = "the geometry"
) -> torch.Tensor:
    """`check_mask`, resized to (B, height, width)."""
    return resize(check_mask(mask, height, width, name, other_name), height, width).clamp(0, 1)


def resize(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, h, w) -> (B, height, width), bilinear, antialiased where it shrinks."""
    if values.shape[-2:] == (height, width):
        return values
    return F.interpolate(values.unsqueeze(1), size=(height, width), mode="bilinear", antialias=True).squeeze(1)
