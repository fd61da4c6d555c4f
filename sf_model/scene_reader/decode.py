"""From the network's dense output to objects in metres, and to the depth that an image shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..depth.metric_depth import MetricDepth
from ..world import CATEGORY_NAMES, COLORS
from .data import MAX_OBJECTS
from .losses import HEADING_BIN_DEG, MEAN_LOG_SIZE, cell_middles, unproject
from .network import HEADING_BINS, DenseReading, SceneReader
from .reading import CameraReading, FoundObject, SceneReading

MIN_CONFIDENCE = 0.3


def decode_heading(logits: torch.Tensor) -> torch.Tensor:
    """(...) degrees in [0, 360): the mean of the most likely bin and its two neighbours, weighted by probability."""
    probability = logits.softmax(dim=-1)
    best = probability.argmax(dim=-1, keepdim=True)
    steps = torch.tensor([-1, 0, 1], device=logits.device)
    near = probability.gather(-1, (best + steps) % HEADING_BINS)
    shift = (near * steps).sum(dim=-1) / near.sum(dim=-1)
    return (best.squeeze(-1) + shift) * HEADING_BIN_DEG % 360.0


def decode(reading: DenseReading, min_confidence: float = MIN_CONFIDENCE) -> list[SceneReading]:
    """The objects at the local maxima of objectness, at most MAX_OBJECTS an image, and the cameras."""
    confidence = torch.sigmoid(reading.objectness)
    peaks = confidence * (F.max_pool2d(confidence, 3, stride=1, padding=1) == confidence)
    rows = confidence.shape[-1]
    scores, index = peaks.flatten(1).topk(MAX_OBJECTS)
    axis = cell_middles(rows, confidence.device)
    image = torch.arange(len(index), device=index.device)[:, None]

    def at(values: torch.Tensor) -> torch.Tensor:
        return values.flatten(1, 2)[image, index]

    offset = at(reading.offset)
    u, v = axis[index % rows] + offset[..., 0], axis[index // rows] + offset[..., 1]
    position = unproject(u, v, at(reading.log_depth).clamp(-2.5, 7).exp(), reading.fov_y_deg[:, None])
    category = at(reading.category).argmax(dim=-1)
    size = (at(reading.log_size) + MEAN_LOG_SIZE.to(index.device)[category]).exp()
    columns = [t.tolist() for t in (scores, category, at(reading.color).argmax(dim=-1), position, size)]
    headings = decode_heading(at(reading.heading)).tolist()
    pitch, fov = reading.pitch_deg.tolist(), reading.fov_y_deg.tolist()
    return [
        SceneReading(
            tuple(
                FoundObject(CATEGORY_NAMES[kind], COLORS[color], tuple(place), tuple(extent), heading, score)
                for score, kind, color, place, extent, heading in zip(*(c[b] for c in columns), headings[b])
                if score >= min_confidence
            ),
            CameraReading(pitch[b], fov[b]),
        )
        for b in range(len(index))
    ]


def decode_depth(reading: DenseReading) -> MetricDepth:
    """The depth that the image shows, at the reader's resolution; inf for sky."""
    depth = reading.map_log_depth.clamp(-2, 6).exp()
    surface = reading.surface_logit > 0
    depth = torch.where(surface, depth, torch.full_like(depth, torch.inf))
    return MetricDepth(depth, torch.sigmoid(reading.surface_logit.abs()), reading.fov_y_deg)


@torch.no_grad()
def read(reader: SceneReader, images: torch.Tensor) -> DenseReading:
    """Dense readings of images (B, 3, H, W) in [0, 1], resized to the reader's own size."""
    size = reader.config.image_size
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return reader(images * 2 - 1)
