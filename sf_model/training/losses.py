"""Losses of the depth path (arXiv 2604.26341, section 4) and of the language model."""

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
# Small things are few pixels of little contrast: the plain L2 is ruled by the ground and the horizon. Differences of
# the error over these distances, in pixels, weigh edges and small things more. Wherever it is certain what has a
# surface, the conditional mean stays the optimum.
DIFFERENCE_STRIDES = (1, 2, 4, 8)
DIFFERENCE_WEIGHT = 1.0


def depth_losses(
    prediction: DepthPrediction, depth_m: torch.Tensor, fov_y_deg: torch.Tensor, weight: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Parts of L_depth, and their weighted sum under "depth".

    log_depth: L2 over pixels with a surface, in log metres over LOG_DEPTH_STD (the published masked L2, on log depth).
    differences: `difference_loss` of the same error.
    validity: cross entropy of surface against sky. fov: relative L2 of the field of view.
    confidence: its optimum is c = min(1, CONFIDENT_ERROR / |error|); the error is detached, so it never softens the L2.
    On sky the error is the probability of a surface.
    depth_m: (B, H, W), inf for sky. fov_y_deg: (B,). weight: (B,) of each image in the first three.
    """
    weight = torch.ones_like(fov_y_deg) if weight is None else weight
    pixel_weight = weight[:, None, None]
    valid = torch.isfinite(depth_m)
    target = depth_m.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()
    error = torch.where(valid, prediction.log_depth - target, torch.zeros_like(target))
    count = valid.sum().clamp_min(1)
    scaled = error / LOG_DEPTH_STD * pixel_weight.sqrt()
    log_depth = scaled.square().sum() / count
    differences = difference_loss(scaled, valid)
    validity = F.binary_cross_entropy_with_logits(
        prediction.validity_logit, valid.float(), pixel_weight.expand(valid.shape)
    )
    relative = torch.where(valid, error.abs(), torch.sigmoid(prediction.validity_logit)).detach() / CONFIDENT_ERROR
    log_confidence = F.logsigmoid(prediction.confidence_logit)
    confidence = (log_confidence.exp() * relative - log_confidence).mean()
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


def difference_loss(error: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Squared differences of the error between pixels a few apart, across and down, both with a surface; mean over the
    pixels with a surface, summed over `DIFFERENCE_STRIDES`. An L2 form of the gradient loss of arXiv 1907.01341.

    error: (B, H, W), zero where not valid. valid: (B, H, W) bool.
    """
    count = valid.sum().clamp_min(1)
    total = error.new_zeros(())
    for stride in DIFFERENCE_STRIDES:
        for axis in (1, 2):
            length = error.shape[axis] - stride
            if length <= 0:
                continue
            both = valid.narrow(axis, 0, length) & valid.narrow(axis, stride, length)
            difference = error.narrow(axis, stride, length) - error.narrow(axis, 0, length)
            total = total + (difference * both).square().sum() / count
    return total


def language_loss(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean next-token cross entropy; logits (B, T, V), ids (B, T), mask (B, T) bool."""
    targets = ids[:, 1:].masked_fill(~mask[:, 1:], -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=-100)
