"""A micro-batch: what every data source gives and every stage reads.

  depth_m (B, H, W)      metres, inf for sky
  fov_y_deg (B,)
  noise_seed (B,)        int64; seeds every random draw of the sample
  rgb (B, 3, H, W)       uint8, or float32 in [0, 1]; or `latent` instead
  source (B, 3, H, W)    for edits, like rgb; or `source_latent` instead
  is_object (B, H, W)    bool, of the synthetic world only
  layout_state           (B, 1 + N, D) `models.layout.layout_state`, of the synthetic world only
  input_ids (B, S)       the prompt, with prompt_mask, empty_ids and empty_mask

A cached prompt has hidden, hidden_mask, keys_values, next_position, empty_hidden and empty_mask instead of ids.
"""

from __future__ import annotations

import torch

from ..depth.metric_depth import MetricDepth

Batch = dict[str, torch.Tensor]


def true_depth(batch: Batch) -> MetricDepth:
    """The true depth of a batch, with confidence 1 everywhere."""
    return MetricDepth(batch["depth_m"], torch.ones_like(batch["depth_m"]), batch["fov_y_deg"])


def unit_image(image: torch.Tensor) -> torch.Tensor:
    """uint8, or float32 in [0, 1] -> float32 in [0, 1]."""
    return image if image.dtype.is_floating_point else image.float() / 255


def repeated(batch: Batch, count: int) -> Batch:
    """Repeat every sample `count` times, one copy after another. Each copy has its own seed."""
    batch = {name: value.repeat_interleave(count, dim=0) for name, value in batch.items()}
    number = torch.arange(len(batch["noise_seed"]), device=batch["noise_seed"].device) % count
    # Knuth's multiplicative hash keeps the seeds of neighbours apart.
    return {**batch, "noise_seed": batch["noise_seed"] ^ (number * 2654435761)}
