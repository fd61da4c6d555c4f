"""A picture of metric depth: the same colour always means the same distance, so pictures can be compared."""

from __future__ import annotations

import math

import torch

from ..sf_model.metric_depth import MetricDepth

# The colours' ends; nearer and farther surfaces have the end's colour. Red is near, blue is far, black is no surface.
NEAR_M = 0.5
FAR_M = 100.0
# Polynomial fit of the Turbo colour map by Anton Mikhailov (Apache-2.0), lowest power first, for red, green and blue.
TURBO = (
    (0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
    (0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
    (0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
)


def depth_picture(depth: MetricDepth) -> torch.Tensor:
    """(B, H, W, 3) in [0, 1]: log depth from NEAR_M (red) to FAR_M (blue), black where there is no surface."""
    log_depth = depth.depth.clamp(NEAR_M, FAR_M).log()
    nearness = (math.log(FAR_M) - log_depth) / (math.log(FAR_M) - math.log(NEAR_M))
    powers = torch.stack([nearness**power for power in range(6)], dim=-1)
    colours = (powers @ torch.tensor(TURBO, device=powers.device, dtype=powers.dtype).T).clamp(0, 1)
    return torch.where(depth.valid.unsqueeze(-1), colours, torch.zeros_like(colours))
