"""The output of the depth head, before it is a metric depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..depth.metric_depth import MAX_DEPTH_M, MIN_DEPTH_M, MetricDepth


@dataclass(frozen=True)
class DepthPrediction:
    """What the network says, before it is a MetricDepth. Maps are (B, H, W) float32; fov_y_deg is (B,)."""

    log_depth: torch.Tensor
    validity_logit: torch.Tensor
    confidence_logit: torch.Tensor
    fov_y_deg: torch.Tensor

    def resized(self, height: int, width: int) -> DepthPrediction:
        """The maps interpolated to height x width."""
        if self.log_depth.shape[-2:] == (height, width):
            return self
        maps = torch.stack([self.log_depth, self.validity_logit, self.confidence_logit], dim=1)
        maps = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
        return DepthPrediction(maps[:, 0], maps[:, 1], maps[:, 2], self.fov_y_deg)

    def to_metric_depth(self) -> MetricDepth:
        """Metres bounded to [MIN_DEPTH_M, MAX_DEPTH_M], inf where a surface is less likely than not."""
        depth = self.log_depth.clamp(math.log(MIN_DEPTH_M), math.log(MAX_DEPTH_M)).exp()
        depth = torch.where(self.validity_logit > 0, depth, torch.full_like(depth, torch.inf))
        return MetricDepth(depth, torch.sigmoid(self.confidence_logit), self.fov_y_deg)
