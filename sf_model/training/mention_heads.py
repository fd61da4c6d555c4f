"""Heads that the language model's stage trains beside the MLLM: what a caption says, and what its picture shows.

Registers are read at the values of the last layer, which other experts attend to, and at the final states, which the
diffusion model reads. Numbers are classified into bins, softly: neighbours share the probability. Nothing of this is
exported. Every loss is a mean over the documents, so that it is the same however a step's documents are split.

Shapes: B documents, T tokens, N objects, M what is read in a document: registers or tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..world import CATEGORY_NAMES, COLORS
from ..world.caption_free import OCTANTS
from ..world.palette import GROUND_NAMES, SKY_NAMES
from .batch import Batch
from .data.documents import UNKNOWN_OWNER
from .losses import Losses

# Metres away by their logarithm, metres aside by an inverse hyperbolic sine.
DISTANCE_BINS, ASIDE_BINS = (math.log(0.3), math.log(40), 80), (-2.6, 2.6, 81)
CAMERA_BINS = ((0.5, 3.0, 26), (-3.0, 25.0, 29), (35.0, 75.0, 41))
SMALLEST_DISTANCE_M = 0.3
# Of the probability of a number that lies on a bin, in bins.
BIN_WIDTH = 0.7
SAID_SIZES = (len(CATEGORY_NAMES), len(COLORS), DISTANCE_BINS[2], ASIDE_BINS[2], len(OCTANTS))
CAMERA_SIZES = tuple(bins[2] for bins in CAMERA_BINS)
LOOK_SIZES = (len(GROUND_NAMES), len(SKY_NAMES))
SHOWN_WEIGHTS = (3.0, 3.0, 1.5, 1.5, 1.0, 1.0, 1.0, 0.3, 0.3)
SHOWN_SCALE, SHOWN_BETA = 30.0, 0.05
# Weight of the picture where the caption leaves it open.
OPEN_WEIGHT = 0.25
LOOK_WEIGHT = 0.3


class RegisterHeads(nn.Module):
    """Reads the registers' states (B, 1 + N, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(channels)
        self.camera = nn.Linear(channels, sum(CAMERA_SIZES) + sum(LOOK_SIZES))
        self.said = nn.Linear(channels, sum(SAID_SIZES) + 1)
        self.shown = nn.Sequential(nn.Linear(channels, 256), nn.SiLU(), nn.Linear(256, len(SHOWN_WEIGHTS)))

    def losses(self, states: torch.Tensor, batch: Batch) -> Losses:
        """Its parts. An instruction describes no scene: of it only what is named counts."""
        states = self.norm(states.float())
        camera, look = self.camera(states[:, 0]).split((sum(CAMERA_SIZES), sum(LOOK_SIZES)), dim=-1)
        said, present = self.said(states[:, 1:]).split((sum(SAID_SIZES), 1), dim=-1)
        mentioned = ~batch["said"][..., 0].isnan()
        losses = {
            "present": F.binary_cross_entropy_with_logits(present[..., 0], mentioned.float()),
            "said": said_loss(said, batch["said"]),
        }
        if "camera" not in batch:
            return losses
        ground, sky = (F.cross_entropy(part, true) for part, true in zip(look.split(LOOK_SIZES, -1), batch["look"].T))
        return losses | {
            "camera": camera_loss(camera[:, None], batch["camera"][:, None]),
            "look": LOOK_WEIGHT * (ground + sky),
            "shown": shown_loss(self.shown(states[:, 1:]), batch["shown"], batch["is_fixed"]),
        }


class TokenHeads(nn.Module):
    """Reads the states (B, T, D) of all tokens after a middle layer: whose they are, and what has been said so far."""

    def __init__(self, channels: int, objects: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(channels)
        self.sizes = (objects + 2, sum(SAID_SIZES), sum(CAMERA_SIZES))
        self.labels = nn.Linear(channels, sum(self.sizes))

    def losses(self, states: torch.Tensor, batch: Batch) -> Losses:
        owner, said, camera = self.labels(self.norm(states.float())).split(self.sizes, dim=-1)
        true = batch["token_owner"]
        each = F.cross_entropy(owner.flatten(0, 1), true.clamp_min(0).flatten(), reduction="none").view_as(true)
        return {
            "token_owner": mean_over_known(each, true != UNKNOWN_OWNER),
            "token_said": said_loss(said, batch["token_said"]),
            "token_camera": camera_loss(camera, batch["token_camera"]),
        }


def mean_over_known(each: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The mean over documents of each one's mean over what is known of it; 0 for a document of which nothing is.

    each, known: (B, M).
    """
    return ((each * known).sum(dim=1) / known.sum(dim=1).clamp_min(1)).mean()


def said_loss(logits: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Sum over the five fields. logits: (B, M, sum(SAID_SIZES)), said: (B, M, 5) with NaN where nothing is said."""
    total = logits.new_zeros(())
    for field, part in enumerate(logits.split(SAID_SIZES, dim=-1)):
        known, value = ~said[..., field].isnan(), said[..., field].nan_to_num(0.0)
        if field == 2:
            each = bin_loss(part, value.clamp_min(SMALLEST_DISTANCE_M).log(), DISTANCE_BINS)
        elif field == 3:
            each = bin_loss(part, aside_code(value), ASIDE_BINS)
        else:
            each = F.cross_entropy(part.flatten(0, 1), value.long().flatten(), reduction="none").view_as(value)
        total = total + mean_over_known(each, known)
    return total


def camera_loss(logits: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Mean over height, pitch and field of view. logits: (B, M, sum(CAMERA_SIZES)), camera: (B, M, 3) or NaN."""
    total = logits.new_zeros(())
    for field, (part, bins) in enumerate(zip(logits.split(CAMERA_SIZES, dim=-1), CAMERA_BINS)):
        known, value = ~camera[..., field].isnan(), camera[..., field].nan_to_num(0.0)
        total = total + mean_over_known(bin_loss(part, value, bins), known) / len(CAMERA_BINS)
    return total


def shown_loss(predicted: torch.Tensor, true: torch.Tensor, is_fixed: torch.Tensor) -> torch.Tensor:
    """Of what the picture shows (B, N, 9), with NaN for objects that are not mentioned. is_fixed: (B,) bool.

    A likelihood would widen instead of learning; this does not.
    """
    weight = torch.tensor(SHOWN_WEIGHTS, device=predicted.device)
    known = ~true[..., 0].isnan()
    error = F.smooth_l1_loss(predicted, true.nan_to_num(0.0), beta=SHOWN_BETA, reduction="none") * weight
    share = OPEN_WEIGHT + (1 - OPEN_WEIGHT) * is_fixed.float()
    return SHOWN_SCALE * mean_over_known(error.mean(dim=-1) * share[:, None], known)


def aside_code(metres: torch.Tensor) -> torch.Tensor:
    return 0.6 * torch.asinh(metres / 0.5)


def bin_loss(logits: torch.Tensor, value: torch.Tensor, bins: tuple[float, float, int]) -> torch.Tensor:
    """(...) cross entropies of logits (..., bins) against values (...), each shared by the bins near it."""
    grid = torch.linspace(*bins, device=value.device)
    target = torch.softmax(-0.5 * ((value[..., None] - grid) / (BIN_WIDTH * (grid[1] - grid[0]))) ** 2, dim=-1)
    return -(target * logits.log_softmax(dim=-1)).sum(dim=-1)
