"""Heads that the language model's stage trains beside the MLLM: what a caption says, and what its picture shows.

Registers are read at the values of the last layer, which other experts attend to, and at the final states, which the
diffusion model reads. Numbers are classified into bins, softly: neighbours share the probability. Nothing of this is
exported. Shapes: B documents, T tokens, N objects.
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
        """Parts, each a mean. `shown` weighs 1, as the others do."""
        states = self.norm(states.float())
        camera, look = self.camera(states[:, 0]).split((sum(CAMERA_SIZES), sum(LOOK_SIZES)), dim=-1)
        said, present = self.said(states[:, 1:]).split((sum(SAID_SIZES), 1), dim=-1)
        mentioned = ~batch["said"][..., 0].isnan()
        losses = {
            "present": F.binary_cross_entropy_with_logits(present[..., 0], mentioned.float()),
            "said": said_loss(said[mentioned], batch["said"][mentioned]),
        }
        if "camera" not in batch:
            # An instruction describes no scene.
            return losses
        ground, sky = (F.cross_entropy(part, true) for part, true in zip(look.split(LOOK_SIZES, -1), batch["look"].T))
        shown = self.shown(states[:, 1:])[mentioned]
        fixed = batch["is_fixed"][:, None].expand_as(mentioned)[mentioned]
        return losses | {
            "camera": camera_loss(camera, batch["camera"]),
            "look": LOOK_WEIGHT * (ground + sky),
            "shown": shown_loss(shown, batch["shown"][mentioned], fixed),
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
        is_said, is_seen = ~batch["token_said"].isnan().all(-1), ~batch["token_camera"].isnan().all(-1)
        owners = batch["token_owner"].flatten()
        owner_loss = F.cross_entropy(owner.flatten(0, 1), owners, ignore_index=UNKNOWN_OWNER, reduction="sum")
        return {
            "token_owner": owner_loss / (owners != UNKNOWN_OWNER).sum().clamp_min(1),
            "token_said": said_loss(said[is_said], batch["token_said"][is_said]),
            "token_camera": camera_loss(camera[is_seen], batch["token_camera"][is_seen]),
        }


def said_loss(logits: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Sum over the five fields of the mean over where each is said. logits: (M, sum(SAID_SIZES)), said: (M, 5)."""
    total = logits.sum() * 0
    for field, part in enumerate(logits.split(SAID_SIZES, dim=-1)):
        known = ~said[:, field].isnan()
        value, part = said[known, field], part[known]
        if not len(value):
            continue
        if field == 2:
            total = total + bin_loss(part, value.clamp_min(SMALLEST_DISTANCE_M).log(), DISTANCE_BINS)
        elif field == 3:
            total = total + bin_loss(part, aside_code(value), ASIDE_BINS)
        else:
            total = total + F.cross_entropy(part, value.long())
    return total


def camera_loss(logits: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Mean over height, pitch and field of view, where they are known. logits: (M, sum(CAMERA_SIZES))."""
    total = logits.sum() * 0
    for field, (part, bins) in enumerate(zip(logits.split(CAMERA_SIZES, dim=-1), CAMERA_BINS)):
        known = ~camera[:, field].isnan()
        if bool(known.any()):
            total = total + bin_loss(part[known], camera[known, field], bins) / len(CAMERA_BINS)
    return total


def shown_loss(predicted: torch.Tensor, true: torch.Tensor, is_fixed: torch.Tensor) -> torch.Tensor:
    """Of what the picture shows (M, 9). A likelihood would widen instead of learning; this does not."""
    weight = torch.tensor(SHOWN_WEIGHTS, device=predicted.device)
    error = F.smooth_l1_loss(predicted, true, beta=SHOWN_BETA, reduction="none") * weight
    return SHOWN_SCALE * (error * (OPEN_WEIGHT + (1 - OPEN_WEIGHT) * is_fixed.float())[:, None]).mean()


def aside_code(metres: torch.Tensor) -> torch.Tensor:
    return 0.6 * torch.asinh(metres / 0.5)


def bin_loss(logits: torch.Tensor, value: torch.Tensor, bins: tuple[float, float, int]) -> torch.Tensor:
    """Cross entropy of logits (M, bins) against values (M,), each shared by the bins near it."""
    grid = torch.linspace(*bins, device=value.device)
    target = torch.softmax(-0.5 * ((value[:, None] - grid) / (BIN_WIDTH * (grid[1] - grid[0]))) ** 2, dim=-1)
    return -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
