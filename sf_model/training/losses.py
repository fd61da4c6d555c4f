"""Losses of the depth path (arXiv 2604.26341, section 4) and of the language model.

Each is a mean over images or documents, so that it is the same however a step's samples are split.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..depth.metric_depth import LOG_DEPTH_STD, MAX_DEPTH_M, MIN_DEPTH_M
from ..models.depth_prediction import DepthPrediction

# The error in log metres at which the confidence falls below 1: about 10% of the depth.
CONFIDENT_ERROR = 0.1
VALIDITY_WEIGHT = 0.2
CONFIDENCE_WEIGHT = 0.05
FOV_WEIGHT = 0.1
# The ground and the horizon dominate a plain L2: small objects have few pixels and little contrast. So the loss adds
# differences of the error over these distances in pixels, which weigh edges and small objects more. The optimum is
# still the conditional mean, wherever it is certain which pixels have a surface.
DIFFERENCE_STRIDES = (1, 2, 4, 8)
DIFFERENCE_WEIGHT = 1.0

Losses = dict[str, torch.Tensor]


def depth_losses(
    prediction: DepthPrediction,
    depth_m: torch.Tensor,
    fov_y_deg: torch.Tensor,
    weight: torch.Tensor | None = None,
    is_given: torch.Tensor | None = None,
) -> Losses:
    """Parts of L_depth, and their weighted sum under "depth". Every image counts alike, however much of it is sky.

    Parts:
      log_depth    L2 of the log depth over LOG_DEPTH_STD, on pixels with a surface: the published masked L2
      differences  `difference_loss` of the same error
      validity     cross entropy of surface against sky
      fov          relative L2 of the field of view
      confidence   `confidence_loss`, only of images whose depth was not given

    depth_m: (B, H, W), inf for sky. fov_y_deg: (B,). weight: (B,), weighs each image in log_depth, differences and
    validity. is_given: (B,) bool, True for images predicted from a noisy depth.
    """
    weight = torch.ones_like(fov_y_deg) if weight is None else weight
    valid = torch.isfinite(depth_m)
    target = depth_m.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()
    error = torch.where(valid, prediction.log_depth - target, torch.zeros_like(target))
    scaled = error / LOG_DEPTH_STD
    log_depth = (weight * mean_over(scaled.square(), valid)).mean()
    differences = (weight * difference_loss(scaled, valid)).mean()
    validity = F.binary_cross_entropy_with_logits(prediction.validity_logit, valid.float(), reduction="none")
    validity = (weight * validity.mean(dim=(1, 2))).mean()
    confidence = confidence_loss(prediction, error, valid, is_given)
    fov = ((prediction.fov_y_deg - fov_y_deg) / fov_y_deg).square().mean()
    total = (
        log_depth
        + DIFFERENCE_WEIGHT * differences
        + VALIDITY_WEIGHT * validity
        + CONFIDENCE_WEIGHT * confidence
        + FOV_WEIGHT * fov
    )
    parts = {"log_depth": log_depth, "differences": differences, "validity": validity, "confidence": confidence}
    return parts | {"fov": fov, "depth": total}


def confidence_loss(
    prediction: DepthPrediction, error: torch.Tensor, valid: torch.Tensor, is_given: torch.Tensor | None
) -> torch.Tensor:
    """Its optimum is c = min(1, CONFIDENT_ERROR / |error|). The error is detached, so it never softens the L2.

    On sky the error is the predicted probability of a surface. Images whose depth was given are left out: their error
    is as small as their noise. It says nothing about a depth that is drawn from noise alone.
    """
    error = torch.where(valid, error.abs(), torch.sigmoid(prediction.validity_logit)).detach() / CONFIDENT_ERROR
    log_confidence = F.logsigmoid(prediction.confidence_logit)
    each = (log_confidence.exp() * error - log_confidence).mean(dim=(1, 2))
    return each.mean() if is_given is None else (each * ~is_given).mean()


def mean_over(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B,) means of (B, H, W) over the pixels of a mask; 0 for an image without any."""
    return (values * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)


def difference_loss(error: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(B,) squared differences of the error between pixels a few apart, horizontally and vertically.

    Both pixels must have a surface. The mean over an image's pixels with a surface is summed over `DIFFERENCE_STRIDES`:
    an L2 form of the gradient loss of arXiv 1907.01341. error: (B, H, W), zero where not valid. valid: (B, H, W) bool.
    """
    count = valid.sum(dim=(1, 2)).clamp_min(1)
    total = error.new_zeros(len(error))
    for stride in DIFFERENCE_STRIDES:
        for axis in (1, 2):
            length = error.shape[axis] - stride
            if length <= 0:
                continue
            both = valid.narrow(axis, 0, length) & valid.narrow(axis, stride, length)
            difference = error.narrow(axis, stride, length) - error.narrow(axis, 0, length)
            total = total + (difference * both).square().sum(dim=(1, 2)) / count
    return total


def language_loss(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Next-token cross entropy; logits (B, T, V), ids (B, T), mask (B, T) bool. Every document counts alike."""
    targets, seen = ids[:, 1:], mask[:, 1:]
    each = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(seen)
    return ((each * seen).sum(dim=1) / seen.sum(dim=1).clamp_min(1)).mean()
