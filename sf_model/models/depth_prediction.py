"""The output of the depth head, and its conversion to a metric depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..depth.enlarging import enlarge
from ..depth.metric_depth import MAX_DEPTH_M, MIN_DEPTH_M, MetricDepth


@dataclass(frozen=True)
class DepthPrediction:
    """The head's prediction for every pixel. Maps are (B, H, W) float32."""

    # Natural logarithm of the metres.
    log_depth: torch.Tensor
    # Logit of the probability of a surface.
    validity_logit: torch.Tensor
    # Logit of the confidence.
    confidence_logit: torch.Tensor
    # (B,) vertical field of view in degrees.
    fov_y_deg: torch.Tensor

    def first(self, count: int) -> DepthPrediction:
        """The first `count` of the batch."""
        maps = self.log_depth[:count], self.validity_logit[:count], self.confidence_logit[:count]
        return DepthPrediction(*maps, self.fov_y_deg[:count])

    def resized(self, height: int, width: int) -> DepthPrediction:
        """The maps at height x width. Edges of objects stay sharp."""
        if self.log_depth.shape[-2:] == (height, width):
            return self
        maps = torch.stack([self.log_depth, self.validity_logit, self.confidence_logit], dim=1)
        maps = enlarge(maps, self.log_depth, self.validity_logit > 0, height, width)
        return DepthPrediction(maps[:, 0], maps[:, 1], maps[:, 2], self.fov_y_deg)

    def to_metric_depth(self) -> MetricDepth:
        """Metres in [MIN_DEPTH_M, MAX_DEPTH_M]; inf where sky is more likely than a surface."""
        depth = self.log_depth.clamp(math.log(MIN_DEPTH_M), math.log(MAX_DEPTH_M)).exp()
        depth = torch.where(self.validity_logit > 0, depth, torch.full_like(depth, torch.inf))
        return MetricDepth(depth, torch.sigmoid(self.confidence_logit), self.fov_y_deg)
