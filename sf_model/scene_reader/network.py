"""The scene reader's network: convolutions, a small transformer over the whole image, and dense heads.

Shapes: B images, R = image_size / 4 rows and columns of cells, K object slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD
from ..world import CATEGORY_NAMES, COLORS

CELL_PIXELS = 4
HEADING_BINS = 24
FOV_MEAN_DEG = 55.0


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of the network."""

    # Pixels of a side, a multiple of 8.
    image_size: int
    # At 1/2 and 1/4 of the resolution.
    channels: tuple[int, int]
    # Of the transformer at 1/8 of the resolution.
    width: int
    num_layers: int
    num_heads: int


READER = ReaderConfig(image_size=64, channels=(32, 64), width=128, num_layers=3, num_heads=4)


@dataclass(frozen=True)
class DenseReading:
    """The network's output, before it is a SceneReading."""

    # (B, R, R): logit that a cell holds the centre of an object.
    objectness: torch.Tensor
    # (B, R, R, 2), in image widths: from the cell's middle to the projected centre of the footprint.
    offset: torch.Tensor
    # (B, R, R): log metres of that centre.
    log_depth: torch.Tensor
    # (B, R, R, 3): log of the size over the mean size of the category.
    log_size: torch.Tensor
    # (B, R, R, classes) logits.
    category: torch.Tensor
    color: torch.Tensor
    # (B, R, R, HEADING_BINS) logits of bins around the circle, starting at 0 degrees.
    heading: torch.Tensor
    # (B,).
    pitch_deg: torch.Tensor
    fov_y_deg: torch.Tensor
    # (B, S, S): depth of the image in log metres, and the logit of a surface.
    map_log_depth: torch.Tensor
    surface_logit: torch.Tensor


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class SceneReader(nn.Module):
    """forward: images (B, 3, S, S) in [-1, 1] -> DenseReading."""

    SIZES = (1, 2, 1, 3, len(CATEGORY_NAMES), len(COLORS), HEADING_BINS)

    def __init__(self, config: ReaderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        half, quarter = config.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(3, half, 4, stride=2, padding=1)
            self.fine = ResidualBlock(half)
            self.down = nn.Conv2d(half, quarter, 4, stride=2, padding=1)
            self.middle = nn.Sequential(ResidualBlock(quarter), ResidualBlock(quarter))
            self.tokens = nn.Conv2d(quarter, config.width, 4, stride=2, padding=1)
            self.position = nn.Parameter(0.02 * torch.randn(1, (config.image_size // 8) ** 2 + 1, config.width))
            layer = nn.TransformerEncoderLayer(
                config.width, config.num_heads, 4 * config.width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.transformer = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(config.width)
            self.widen = nn.Conv2d(config.width, quarter, 1)
            self.fuse = nn.Sequential(
                nn.GroupNorm(8, quarter), nn.SiLU(), nn.Conv2d(quarter, 2 * quarter, 3, padding=1), nn.SiLU()
            )
            self.cells = nn.Conv2d(2 * quarter, sum(self.SIZES), 1)
            self.depth = nn.Conv2d(2 * quarter, 2 * CELL_PIXELS**2, 1)
            self.camera = nn.Linear(config.width, 2)
            nn.init.constant_(self.cells.bias[:1], -4.0)

    def forward(self, images: torch.Tensor) -> DenseReading:
        x = self.middle(self.down(self.fine(self.stem(images))))
        tokens = self.tokens(x)
        rows = tokens.shape[-1]
        tokens = F.pad(tokens.flatten(2).transpose(1, 2), (0, 0, 1, 0)) + self.position
        tokens = self.norm(self.transformer(tokens))
        context = self.widen(tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, rows)))
        x = self.fuse(x + F.interpolate(context, scale_factor=2, mode="nearest"))
        return self._split(self.cells(x), self.depth(x), self.camera(tokens[:, 0]))

    def _split(self, cells: torch.Tensor, depth: torch.Tensor, camera: torch.Tensor) -> DenseReading:
        parts = cells.float().permute(0, 2, 3, 1).split(self.SIZES, dim=-1)
        objectness, offset, log_depth, log_size, category, color, heading = parts
        maps = F.pixel_shuffle(depth.float(), CELL_PIXELS)
        camera = camera.float()
        return DenseReading(
            objectness=objectness.squeeze(-1),
            offset=0.2 * offset,
            log_depth=LOG_DEPTH_MEAN + LOG_DEPTH_STD * log_depth.squeeze(-1),
            log_size=0.2 * log_size,
            category=category,
            color=color,
            heading=heading,
            pitch_deg=10.0 + 10.0 * camera[:, 0],
            fov_y_deg=FOV_MEAN_DEG * torch.exp(0.25 * camera[:, 1]),
            map_log_depth=LOG_DEPTH_MEAN + LOG_DEPTH_STD * maps[:, 0],
            surface_logit=maps[:, 1],
        )
