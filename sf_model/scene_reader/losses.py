"""The scene reader's losses: where objects are (CornerNet's focal loss), and in their cells all their properties.

Shapes: B images, R rows and columns of cells, K object slots.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..depth.metric_depth import MAX_DEPTH_M, MIN_DEPTH_M
from ..world.categories import CATEGORIES
from .data import Batch, object_columns
from .network import HEADING_BINS, DenseReading

# Objectness falls off around an object's centre with this standard deviation, in cells.
PEAK_CELLS = 0.7
# An object is trained at a cell up to this far from its centre along one axis: the best cell may not be the nearest.
JITTER_CELLS = 0.75
# Errors that count as 1.
RELATIVE_ERROR = 0.1
PITCH_ERROR_DEG = 5.0
OFFSET_ERROR = 0.03
HEADING_BIN_DEG = 360.0 / HEADING_BINS
WEIGHTS = {
    "objectness": 1.0,
    "category": 0.5,
    "color": 0.5,
    "heading": 1.0,
    "offset": 0.2,
    "distance": 0.3,
    "position": 0.3,
    "between": 0.3,
    "size": 0.3,
    "pitch": 0.3,
    "fov": 0.3,
    "depth": 0.3,
    "surface": 0.3,
}

# (categories, 3): log of the middle of each category's length, width and height.
MEAN_LOG_SIZE = torch.tensor(
    [[math.log(sum(r) / 2) for r in (k.length_m, k.width_m, k.height_m)] for k in CATEGORIES.values()]
)


def unproject(u: torch.Tensor, v: torch.Tensor, depth_m: torch.Tensor, fov_y_deg: torch.Tensor) -> torch.Tensor:
    """(..., 3) metres in camera axes of normalised image coordinates in a square image at a depth."""
    slope = 2 * torch.tan(torch.deg2rad(fov_y_deg) / 2)
    return torch.stack([(u - 0.5) * slope * depth_m, (v - 0.5) * slope * depth_m, depth_m], dim=-1)


def cell_middles(rows: int, device: torch.device) -> torch.Tensor:
    """(R,) normalised coordinates of the cells' middles along one axis."""
    return (torch.arange(rows, device=device) + 0.5) / rows


def objectness_loss(logits: torch.Tensor, middle: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss (arXiv 1808.01244) over the number of objects. logits (B, R, R), middle (B, K, 2)."""
    rows = logits.shape[-1]
    axis = cell_middles(rows, logits.device)
    across = (axis - middle[..., 0:1]).square()[:, :, None, :]
    down = (axis - middle[..., 1:2]).square()[:, :, :, None]
    heat = torch.exp(-(across + down) * rows**2 / (2 * PEAK_CELLS**2)) * present[:, :, None, None]
    target = heat.amax(dim=1)
    index = _cells(middle, rows)
    centre = torch.zeros_like(target).flatten(1).scatter_add(1, index, present).view_as(target) > 0
    probability = torch.sigmoid(logits)
    hit = (1 - probability).square() * F.logsigmoid(logits)
    miss = (1 - target) ** 4 * probability.square() * F.logsigmoid(-logits)
    return -torch.where(centre, hit, miss).sum() / present.sum().clamp_min(1)


def _cells(middle: torch.Tensor, rows: int) -> torch.Tensor:
    """(B, K) flat index of the cell at normalised coordinates (B, K, 2)."""
    place = (middle * rows).long().clamp(0, rows - 1)
    return place[..., 1] * rows + place[..., 0]


def _at(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(B, K, ...) of cell values (B, R, R, ...) at flat indices (B, K)."""
    flat = values.flatten(1, 2)
    rows = torch.arange(len(flat), device=flat.device)[:, None]
    return flat[rows, index]


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def heading_target(heading_deg: torch.Tensor) -> torch.Tensor:
    """(..., HEADING_BINS): weights of the two bins next to a heading."""
    place = heading_deg / HEADING_BIN_DEG
    low = place.floor()
    share = (place - low)[..., None]
    first = F.one_hot(low.long() % HEADING_BINS, HEADING_BINS)
    return first * (1 - share) + first.roll(1, dims=-1) * share


def reader_losses(reading: DenseReading, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """All parts by name, and their weighted sum under "loss"."""
    truth = object_columns(batch["objects"])
    present, middle = truth["present"], truth["middle"]
    rows = reading.objectness.shape[-1]
    jitter = (torch.rand(middle.shape, generator=generator).to(middle) * 2 - 1) * JITTER_CELLS / rows
    index = _cells(middle + jitter, rows)
    parts = {"objectness": objectness_loss(reading.objectness, middle, present)}
    parts |= _appearance_losses(reading, truth, index)
    parts |= _geometry_losses(reading, truth, index, batch["fov_y_deg"])
    parts |= _image_losses(reading, batch)
    return {"loss": sum(WEIGHTS[name] * value for name, value in parts.items()), **parts}


def _appearance_losses(
    reading: DenseReading, truth: dict[str, torch.Tensor], index: torch.Tensor
) -> dict[str, torch.Tensor]:
    present, category = truth["present"], truth["category"].long()
    heading = torch.log_softmax(_at(reading.heading, index), dim=-1)
    cross_entropy = {
        name: F.cross_entropy(_at(getattr(reading, name), index).flatten(0, 1), target.flatten(), reduction="none")
        for name, target in (("category", category), ("color", truth["color"].long()))
    }
    log_size = truth["size_m"].clamp_min(0.01).log() - MEAN_LOG_SIZE.to(present.device)[category]
    size = (_at(reading.log_size, index) - log_size).abs().mean(dim=-1) / RELATIVE_ERROR
    return {
        **{name: _mean(values.view_as(present), present) for name, values in cross_entropy.items()},
        "heading": _mean(-(heading_target(truth["view_heading_deg"]) * heading).sum(dim=-1), present),
        "size": _mean(size, present),
    }


def _geometry_losses(
    reading: DenseReading, truth: dict[str, torch.Tensor], index: torch.Tensor, fov_y_deg: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The losses of position.

    offset    in the image
    distance  along the optical axis
    position  in camera axes, with the predicted field of view
    between   between two objects; relations and gaps are read from it
    """
    present, position = truth["present"], truth["position_m"]
    rows = reading.objectness.shape[-1]
    axis = cell_middles(rows, present.device)
    cell = torch.stack([axis[index % rows], axis[index // rows]], dim=-1)
    depth = position[..., 2].clamp_min(MIN_DEPTH_M)
    focal = 0.5 / torch.tan(torch.deg2rad(fov_y_deg) / 2)
    image = 0.5 + focal[:, None, None] * position[..., :2] / depth[..., None]
    u, v = (cell + _at(reading.offset, index)).unbind(-1)
    log_depth = _at(reading.log_depth, index)
    read = unproject(u, v, log_depth.clamp(-2.5, 7).exp(), reading.fov_y_deg[:, None])
    far = position.norm(dim=-1).clamp_min(MIN_DEPTH_M)
    wrong = (read - position).norm(dim=-1) / far
    apart = position[:, :, None] - position[:, None]
    pair = present[:, :, None] * present[:, None] * (1 - torch.eye(present.shape[1], device=present.device))
    between = (read[:, :, None] - read[:, None] - apart).norm(dim=-1) / apart.norm(dim=-1).clamp_min(0.3)
    off = (torch.stack([u, v], dim=-1) - image).abs().mean(dim=-1)
    return {
        "offset": _mean(off / OFFSET_ERROR, present),
        "distance": _mean((log_depth - depth.log()).abs() / RELATIVE_ERROR, present),
        "position": _mean((wrong / RELATIVE_ERROR).clamp(max=20), present),
        "between": _mean((between / RELATIVE_ERROR).clamp(max=20), pair) / 2,
    }


def _image_losses(reading: DenseReading, batch: Batch) -> dict[str, torch.Tensor]:
    depth_m = batch["depth_m"]
    surface = torch.isfinite(depth_m)
    log_depth = depth_m.clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()
    return {
        "pitch": ((reading.pitch_deg - batch["pitch_deg"]).abs() / PITCH_ERROR_DEG).mean(),
        "fov": ((reading.fov_y_deg / batch["fov_y_deg"]).log().abs() / RELATIVE_ERROR).mean(),
        "depth": _mean((reading.map_log_depth - log_depth).abs() / RELATIVE_ERROR, surface.float()),
        "surface": F.binary_cross_entropy_with_logits(reading.surface_logit, surface.float()),
    }
