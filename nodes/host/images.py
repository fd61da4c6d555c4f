"""The host's IMAGE: (B, H, W, 3) in [0, 1]."""

from __future__ import annotations

import comfy.model_management
import torch

from ...sf_model.depth.colours import depth_picture
from ...sf_model.depth.metric_depth import MetricDepth


def depth_colours(depth: MetricDepth) -> torch.Tensor:
    """The depth as colours, on its own device."""
    return depth_picture(depth).movedim(1, -1)


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Any result of a node, on the device where the host keeps results."""
    return tensor.to(comfy.model_management.intermediate_device())
