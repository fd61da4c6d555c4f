"""DPT head (arXiv 2103.13413): geometric states of four layers -> dense log depth, validity and confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..config import DepthHeadConfig
from ..depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD
from .depth_detail import DetailSkips
from .initialisation import start_from_zero
from .layers import ResidualConvUnit

NUM_TAPS = 4
# Output resolution relative to the query grid: the finest reassembled map has 4x, and the last fusion doubles it.
UPSCALE = 8
MIN_FOV_DEG, MAX_FOV_DEG = 5.0, 150.0
OUTPUTS = 3
LOG_DEPTH, VALIDITY, CONFIDENCE = range(OUTPUTS)


def tap_layers(num_layers: int) -> list[int]:
    """Indices of the four layers whose states are read: evenly spread up to the last. Fewer layers repeat."""
    return [max(0, -(-(i + 1) * num_layers // NUM_TAPS) - 1) for i in range(NUM_TAPS)]


class FusionBlock(nn.Module):
    """Adds the finer map to the coarser path, refines, and doubles the resolution."""

    def __init__(self, channels: int, has_skip: bool, operations: Any, dtype: Any, device: Any) -> None:
        super().__init__()
        self.skip_unit = ResidualConvUnit(channels, operations, dtype, device) if has_skip else None
        self.unit = ResidualConvUnit(channels, operations, dtype, device)
        self.out_conv = operations.Conv2d(channels, channels, 1, dtype=dtype, device=device)

    def forward(self, path: torch.Tensor, skip: torch.Tensor | None, size: tuple[int, int]) -> torch.Tensor:
        if self.skip_unit is not None:
            path = path + self.skip_unit(skip)
        path = F.interpolate(self.unit(path), size=size, mode="bilinear", align_corners=False)
        return self.out_conv(path)


class DepthHead(nn.Module):
    """Geometric states of every layer on a (rows, columns) grid -> dense maps, and the camera's field of view."""

    def __init__(
        self,
        config: DepthHeadConfig,
        hidden_size: int,
        num_layers: int,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        fine4, fine2, same, half = config.reassemble_channels
        fused = config.fusion_channels
        self.taps = tap_layers(num_layers)
        self.norms = nn.ModuleList(operations.LayerNorm(hidden_size, **factory) for _ in range(NUM_TAPS))
        self.projects = nn.ModuleList(
            operations.Conv2d(hidden_size, channels, 1, **factory) for channels in config.reassemble_channels
        )
        self.resizes = nn.ModuleList(
            [
                operations.ConvTranspose2d(fine4, fine4, 4, stride=4, **factory),
                operations.ConvTranspose2d(fine2, fine2, 2, stride=2, **factory),
                nn.Identity(),
                operations.Conv2d(half, half, 3, stride=2, padding=1, **factory),
            ]
        )
        self.scratch = nn.ModuleList(
            operations.Conv2d(channels, fused, 3, padding=1, bias=False, **factory)
            for channels in config.reassemble_channels
        )
        self.fusions = nn.ModuleList(
            FusionBlock(fused, has_skip=level < NUM_TAPS - 1, operations=operations, **factory)
            for level in range(NUM_TAPS)
        )
        # As in the paper, the first convolution after the fusion halves the channels.
        self.out_conv1 = operations.Conv2d(fused, fused // 2, 3, padding=1, **factory)
        self.out_conv2 = operations.Conv2d(fused // 2, OUTPUTS, 3, padding=1, **factory)
        self.patch_norm = self.patch_out = None
        if config.patch_output:
            # In an image encoder, early layers hold fine structure. Here they hold noise, and the last layer composes
            # the scene. So its states also reach the pixels directly.
            self.patch_norm = operations.LayerNorm(hidden_size, **factory)
            self.patch_out = operations.Linear(hidden_size, OUTPUTS * UPSCALE**2, **factory)
            start_from_zero(self.patch_out)
        self.fov_norm = operations.LayerNorm(hidden_size, **factory)
        self.fov = operations.Linear(hidden_size, 1, **factory)

    def fuse(
        self, states: Sequence[torch.Tensor], rows: int, columns: int, skips: DetailSkips | None = None
    ) -> torch.Tensor:
        """States (B, rows * columns, D) of every layer -> (B, fusion_channels, 8 rows, 8 columns)."""
        maps = []
        for tap, norm, project, resize, scratch in zip(
            self.taps, self.norms, self.projects, self.resizes, self.scratch
        ):
            x = norm(states[tap]).transpose(1, 2).unflatten(2, (rows, columns))
            maps.append(scratch(resize(project(x))))
        if skips is not None:
            maps[0], maps[1] = maps[0] + skips.half, maps[1] + skips.quarter
        path = maps[-1]
        for level in reversed(range(NUM_TAPS)):
            finer = maps[level - 1] if level > 0 else None
            size = finer.shape[-2:] if finer is not None else (UPSCALE * rows, UPSCALE * columns)
            path = self.fusions[level](path, maps[level] if level < NUM_TAPS - 1 else None, size)
        return path

    def output(self, path: torch.Tensor, last_state: torch.Tensor, refinement: torch.Tensor | None) -> torch.Tensor:
        """(B, 3, 8 rows, 8 columns) float32: log metres, validity logit, confidence logit.

        path: from `fuse`. last_state: (B, rows * columns, D) of the last layer. refinement: from `DepthDetail.refine`.
        """
        last = self.out_conv1(path)
        if refinement is not None:
            last = last + refinement
        out = self.out_conv2(F.relu(last)).float()
        if self.patch_out is not None:
            rows, columns = (side // UPSCALE for side in path.shape[-2:])
            pixels = self.patch_out(self.patch_norm(last_state.to(path.dtype)))
            pixels = pixels.transpose(1, 2).unflatten(2, (rows, columns))
            out = out + F.pixel_shuffle(pixels, UPSCALE).float()
        log_depth = out[:, LOG_DEPTH] * LOG_DEPTH_STD + LOG_DEPTH_MEAN
        return torch.stack([log_depth, out[:, VALIDITY], out[:, CONFIDENCE]], dim=1)

    def field_of_view(self, camera_state: torch.Tensor) -> torch.Tensor:
        """Camera token's last state (B, D) -> vertical field of view (B,) float32 in degrees."""
        logit = self.fov(self.fov_norm(camera_state)).squeeze(-1).float()
        return MIN_FOV_DEG + (MAX_FOV_DEG - MIN_FOV_DEG) * torch.sigmoid(logit)
