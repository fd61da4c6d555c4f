"""Whether inputs that are used together fit: one rule for every mask, batch and aspect ratio, and one way to resize.

Another size is resized, another shape is refused: a mask or depth that is stretched is silently in the wrong place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

# Sizes are rounded to whole pixels or cells, so the aspect ratios of pictures that belong together differ a little.
ASPECT_TOLERANCE = 0.02
CROP = "another size is resized, another shape is not: crop one to the other's aspect ratio"


def same_aspect(size: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes (height, width) are of one shape, up to ASPECT_TOLERANCE."""
    return abs(size[1] / size[0] / (other[1] / other[0]) - 1) <= ASPECT_TOLERANCE


def check_aspect(name: str, size: Sequence[int], other_name: str, other: Sequence[int], remedy: str = CROP) -> None:
    """ValueError, with both sizes (height, width) and the remedy, where they are not of one shape."""
    if not same_aspect(size, other):
        (height, width), (other_height, other_width) = size, other
        raise ValueError(
            f"{name} is {width}x{height} (aspect ratio {width / height:.3f}) and {other_name} "
            f"{other_width}x{other_height} (aspect ratio {other_width / other_height:.3f}); {remedy}"
        )


def same_batch(batches: dict[str, int]) -> int:
    """The number of images of inputs that are used together, by their names; one serves all. ValueError else."""
    count = max(batches.values())
    for name, batch in batches.items():
        if batch not in (1, count):
            sizes = ", ".join(f"{name} {size}" for name, size in batches.items())
            raise ValueError(
                f"the batches do not fit together ({sizes}); give one {name} for all images, or {count} of them"
            )
    return count


def check_mask(
    mask: torch.Tensor, height: int, width: int, name: str = "mask", other_name: str = "the geometry"
) -> torch.Tensor:
    """(..., h, w) -> (B, h, w) float32 in [0, 1], still of its own size. ValueError for NaN or another aspect ratio.

    A mask of one value is at home on any picture: Load Image gives one of 64x64 for pictures without transparency.
    """
    mask = mask.reshape(-1, *mask.shape[-2:]).float()
    if torch.isnan(mask).any():
        raise ValueError(f"the {name} has NaN values; connect a mask with values from 0 to 1")
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
