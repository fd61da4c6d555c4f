"""Aspect buckets: sizes of about one area, and the crop of an image and its depth to one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Size = tuple[int, int]


def bucket_sizes(area_px: int, step: int, max_aspect: float) -> list[Size]:
    """Sizes (height, width) in multiples of `step`, of about this area and up to this aspect ratio, sorted by width."""
    sizes = set()
    width = step
    while width * width <= area_px * max_aspect * 1.01:
        height = max(step, round(area_px / width / step) * step)
        if max(width / height, height / width) <= max_aspect * 1.01:
            sizes.add((height, width))
        width += step
    if not sizes:
        raise ValueError(f"no size of {area_px} pixels in steps of {step}; give a smaller data.bucket_step")
    return sorted(sizes, key=lambda size: size[1])


def nearest(sizes: list[Size], height: int, width: int) -> Size:
    """The bucket whose aspect ratio is nearest."""
    return min(sizes, key=lambda size: abs(math.log(size[1] / size[0]) - math.log(width / height)))


@dataclass(frozen=True)
class Crop:
    """The largest centred part of a height x width picture with the aspect ratio of `size`, resized to it."""

    height: int
    width: int
    size: Size

    @property
    def scale(self) -> float:
        """The factor by which the picture is enlarged."""
        return max(self.size[0] / self.height, self.size[1] / self.width)

    def _part(self) -> tuple[float, float]:
        """Share of the picture's height and width that is kept."""
        return self.size[0] / (self.height * self.scale), self.size[1] / (self.width * self.scale)

    def image(self, rgb: torch.Tensor) -> torch.Tensor:
        """(3, H, W) uint8 -> (3, *size) uint8, antialiased."""
        scaled = F.interpolate(
            rgb[None].float(), size=self._scaled(), mode="bicubic", antialias=True, align_corners=False
        )
        return self._centre(scaled[0]).round().clamp(0, 255).byte()

    def depth(self, depth_m: torch.Tensor) -> torch.Tensor:
        """(h, w) metres of the same picture at any resolution -> (*size). Nearest: it invents no depth between two."""
        scaled = F.interpolate(depth_m[None, None], size=self._scaled(), mode="nearest-exact")
        return self._centre(scaled[0])[0]

    def fov_y_deg(self, fov_y_deg: float) -> float:
        """The field of view of the part that is kept."""
        return math.degrees(2 * math.atan(math.tan(math.radians(fov_y_deg) / 2) * self._part()[0]))

    def _scaled(self) -> Size:
        vertical, horizontal = self._part()
        return max(self.size[0], round(self.size[0] / vertical)), max(self.size[1], round(self.size[1] / horizontal))

    def _centre(self, picture: torch.Tensor) -> torch.Tensor:
        top, left = (picture.shape[-2] - self.size[0]) // 2, (picture.shape[-1] - self.size[1]) // 2
        return picture[..., top : top + self.size[0], left : left + self.size[1]]
