"""Metric depth of images: the value that predictor, adapter and nodes exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .enlarging import enlarge

MIN_DEPTH_M = 0.1
MAX_DEPTH_M = 1000.0
# Mean and spread of log metres over everyday scenes (geometric mean 5 m), to bring network inputs near unit scale.
LOG_DEPTH_MEAN = 1.6
LOG_DEPTH_STD = 1.2


@dataclass(frozen=True)
class MetricDepth:
    """Depth along the optical axis of a pinhole camera with square pixels and a centred principal point.

    Raises ValueError for shapes that disagree. Only `checked` looks at the values: a check here would make the GPU wait
    in every training step.
    """

    # (B, H, W) float32, metres > 0, inf where there is no surface (sky).
    depth: torch.Tensor
    # (B, H, W) float32 in [0, 1]; 0 leaves the diffusion model free.
    confidence: torch.Tensor
    # (B,) float32, vertical field of view in degrees, in (0, 180).
    fov_y_deg: torch.Tensor

    @staticmethod
    def checked(depth: torch.Tensor, confidence: torch.Tensor, fov_y_deg: torch.Tensor) -> MetricDepth:
        """A depth from outside the program. ValueError for NaN, zero or negative depth and for values out of range."""
        metric = MetricDepth(depth, confidence, fov_y_deg)
        problems = {
            "depth has NaN values; mark pixels without a surface as inf": torch.isnan(depth).any(),
            "depth has zero or negative values; depth is in metres in front of the camera": (depth <= 0).any(),
            "confidence must lie in [0, 1]": ~((confidence >= 0) & (confidence <= 1)).all(),
            "fov_y_deg must lie between 0 and 180 degrees": ~((fov_y_deg > 0) & (fov_y_deg < 180)).all(),
        }
        # One transfer from the device for all checks.
        found = torch.stack([value.to(depth.device) for value in problems.values()]).tolist()
        for message, is_wrong in zip(problems, found):
            if is_wrong:
                raise ValueError(message)
        return metric

    def __post_init__(self) -> None:
        if self.depth.ndim != 3 or 0 in self.depth.shape:
            raise ValueError(f"depth must be a non-empty (B, H, W), got {tuple(self.depth.shape)}")
        if self.confidence.shape != self.depth.shape:
            raise ValueError(
                f"confidence {tuple(self.confidence.shape)} and depth {tuple(self.depth.shape)} differ in shape"
            )
        if self.fov_y_deg.shape != self.depth.shape[:1]:
            raise ValueError(f"fov_y_deg must have one value an image, got {tuple(self.fov_y_deg.shape)}")

    def __getitem__(self, images: slice) -> MetricDepth:
        """Some images of the batch: `depth[2:3]` is the third one."""
        return MetricDepth(self.depth[images], self.confidence[images], self.fov_y_deg[images])

    @staticmethod
    def joined(depths: Sequence[MetricDepth]) -> MetricDepth:
        """One batch of several depths of equal size, in their order."""
        return MetricDepth(
            torch.cat([depth.depth for depth in depths]),
            torch.cat([depth.confidence for depth in depths]),
            torch.cat([depth.fov_y_deg for depth in depths]),
        )

    def to(self, device: torch.device | str) -> MetricDepth:
        """The same depth on another device."""
        return MetricDepth(self.depth.to(device), self.confidence.to(device), self.fov_y_deg.to(device))

    @property
    def valid(self) -> torch.Tensor:
        """(B, H, W) bool: where there is a surface."""
        return torch.isfinite(self.depth)

    def log_depth(self) -> torch.Tensor:
        """(B, H, W) natural logarithm of the metres, clamped to [MIN_DEPTH_M, MAX_DEPTH_M]. Sky has the maximum."""
        return self.depth.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()

    def intrinsics(self) -> torch.Tensor:
        """(B, 3, 3) camera matrix normalised by width and height: fx / W, fy / H, principal point (0.5, 0.5)."""
        _, height, width = self.depth.shape
        focal_y = 0.5 / torch.tan(torch.deg2rad(self.fov_y_deg) / 2)
        matrix = torch.zeros(self.depth.shape[0], 3, 3, dtype=self.fov_y_deg.dtype, device=self.fov_y_deg.device)
        matrix[:, 0, 0] = focal_y * height / width
        matrix[:, 1, 1] = focal_y
        matrix[:, :2, 2] = 0.5
        matrix[:, 2, 2] = 1.0
        return matrix

    def points(self) -> torch.Tensor:
        """(B, H, W, 3) metres in OpenCV camera axes (x right, y down, z forward), inf where there is no surface."""
        _, height, width = self.depth.shape
        matrix = self.intrinsics()
        focal_x, focal_y = matrix[:, 0, 0].view(-1, 1, 1), matrix[:, 1, 1].view(-1, 1, 1)
        rows = (torch.arange(height, device=self.depth.device) + 0.5) / height
        columns = (torch.arange(width, device=self.depth.device) + 0.5) / width
        x = (columns - 0.5) / focal_x * self.depth
        y = (rows.unsqueeze(-1) - 0.5) / focal_y * self.depth
        points = torch.stack([x, y, self.depth], dim=-1)
        return torch.where(self.valid.unsqueeze(-1), points, torch.full_like(points, torch.inf))

    def network_input(self, height: int, width: int) -> torch.Tensor:
        """(B, 3, height, width): normalised log depth, validity and confidence, as the adapter reads them.

        A smaller size averages the channels. A larger size keeps the edges of objects sharp.
        """
        channels = torch.stack(
            [(self.log_depth() - LOG_DEPTH_MEAN) / LOG_DEPTH_STD, self.valid.to(self.depth.dtype), self.confidence],
            dim=1,
        )
        own_height, own_width = channels.shape[-2:]
        if (own_height, own_width) == (height, width):
            return channels
        if own_height <= height and own_width <= width:
            return enlarge(channels, self.log_depth(), self.valid, height, width)
        return F.interpolate(channels, size=(height, width), mode="bilinear", antialias=True)
