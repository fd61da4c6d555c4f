"""A metric depth as a picture to look at: near is bright and warm, far is dark, sky is grey."""

from __future__ import annotations

import torch

from .metric_depth import MetricDepth

# Anchors of the ramp from far (dark blue) to near (yellow), linear between. Lightness only grows, so the picture can be
# read in grey too.
RAMP = (
    (0.05, 0.03, 0.25),
    (0.25, 0.12, 0.55),
    (0.62, 0.17, 0.50),
    (0.91, 0.38, 0.30),
    (0.99, 0.68, 0.25),
    (0.98, 0.95, 0.60),
)
SKY = (0.55, 0.60, 0.66)
NEAR_M, FAR_M = 0.5, 100.0


def depth_picture(depth: MetricDepth) -> torch.Tensor:
    """(B, 3, H, W) float32 in [0, 1], logarithmic from NEAR_M to FAR_M: a colour always means the same metres."""
    log_near, log_far = torch.tensor(NEAR_M).log().item(), torch.tensor(FAR_M).log().item()
    position = ((log_far - depth.log_depth()) / (log_far - log_near)).clamp(0, 1) * (len(RAMP) - 1)
    ramp = torch.tensor(RAMP, device=depth.depth.device)
    lower = position.floor().long().clamp(max=len(RAMP) - 2)
    weight = (position - lower).unsqueeze(-1)
    color = ramp[lower] * (1 - weight) + ramp[lower + 1] * weight
    sky = torch.tensor(SKY, device=color.device)
    return torch.where(depth.valid.unsqueeze(-1), color, sky).permute(0, 3, 1, 2)
