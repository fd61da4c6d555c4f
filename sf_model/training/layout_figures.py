"""How well drawn or read layouts agree with the true ones, object by object."""

from __future__ import annotations

import torch

from ..models.layout import Layout, projected_boxes

# An object is placed if its box's centre is that near, in shares of the picture, and its depth within a fifth.
PLACED_SHARE, PLACED_LOG_DEPTH = 0.06, 0.18
TURNED_DEG = 30.0


def layout_figures(drawn: Layout, true: Layout, present: torch.Tensor) -> dict[str, float]:
    """Shares of the objects (B, N) that exist: found with category and colour, placed, turned within 30 degrees."""
    named = (drawn.category.argmax(-1) == true.category.argmax(-1)) & (drawn.color.argmax(-1) == true.color.argmax(-1))
    boxes, true_boxes = projected_boxes(drawn, 1.0), projected_boxes(true, 1.0)
    centre, true_centre = ((box[..., :2] + box[..., 2:4]) / 2 for box in (boxes, true_boxes))
    near = (centre - true_centre).abs().amax(-1) < PLACED_SHARE
    placed = near & ((boxes[..., 4] / true_boxes[..., 4]).log().abs() < PLACED_LOG_DEPTH)
    turned = ((drawn.heading_deg - true.heading_deg + 180) % 360 - 180).abs() < TURNED_DEG
    figures = {"named": named, "placed": placed, "turned": turned}
    shares = {name: (value & present).sum().item() / present.sum().item() for name, value in figures.items()}
    return {**shares, "counted": ((drawn.present > 0.5) == present).float().mean().item()}
