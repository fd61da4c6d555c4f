"""A micro-batch: what every data source gives and every stage reads.

depth_m (B, H, W) metres, inf for sky; fov_y_deg (B,); noise_seed (B,) int64, of which all chance follows; rgb and, for
edits, source (B, 3, H, W), uint8 or float32 in [0, 1], or latent and source_latent in their place; input_ids and
prompt_mask (B, S), empty_ids and empty_mask, or in their place a cached prompt's hidden, hidden_mask, keys_values,
next_position, empty_hidden and empty_mask.
"""

from __future__ import annotations

import torch

from ..depth.metric_depth import MetricDepth

Batch = dict[str, torch.Tensor]


def true_depth(batch: Batch) -> MetricDepth:
    """The depth that a batch was made with, which is certain everywhere."""
    return MetricDepth(batch["depth_m"], torch.ones_like(batch["depth_m"]), batch["fov_y_deg"])


def unit_image(image: torch.Tensor) -> torch.Tensor:
    """uint8, or float32 in [0, 1] -> float32 in [0, 1]."""
    return image if image.dtype.is_floating_point else image.float() / 255


def repeated(batch: Batch, count: int) -> Batch:
    """Every sample `count` times, one after another, each time with a seed of its own."""
    batch = {name: value.repeat_interleave(count, dim=0) for name, value in batch.items()}
    number = torch.arange(len(batch["noise_seed"]), device=batch["noise_seed"].device) % count
    # Knuth's multiplicative hash keeps the seeds of neighbours apart.
    return {**batch, "noise_seed": batch["noise_seed"] ^ (number * 2654435761)}
