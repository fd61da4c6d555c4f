"""The state of one Depth Adapter Apply in one sampling run. It exists only during the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import comfy.model_patcher
import torch
import torch.nn.functional as F

from .depth_control import DepthControl

# In transformer_options: the conditions (as `cond_or_uncond` numbers them) that get no depth.
WITHOUT_DEPTH_KEY = "spatialfusion_without_depth"

# (rows, columns, top, left) in latent cells.
Area = tuple[int, int, int, int]


class InjectionRun:
    """The noise levels with depth, the latent's size, and F (B, channels, rows, columns) for every device."""

    def __init__(
        self,
        adapter: comfy.model_patcher.ModelPatcher,
        control: DepthControl,
        grid: Callable[[int, int], tuple[int, int]],
        percent_to_sigma: Callable[[float], Any],
        latent_shape: torch.Size,
    ) -> None:
        """grid: the size of F for a latent of (rows, columns)."""
        self._adapter, self._control, self._grid = adapter, control, grid
        self._batch, self._latent_size = latent_shape[0], latent_shape[-2:]
        self._highest_sigma = float(percent_to_sigma(control.start_percent))
        self._lowest_sigma = float(percent_to_sigma(control.end_percent))
        masks = 1 if control.mask is None else len(control.mask)
        self._is_one_for_all = masks == len(control.depth.depth) == 1
        # Of the step in progress: the conditions that are for an area, by their uuid.
        self._areas: dict[Any, Area] = {}
        self._features: dict[torch.device, torch.Tensor] = {}
        # MultiGPU CFG Split calls the model in several threads at once.
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> InjectionRun:
        """Options that an extension copied belong to the same run."""
        return self

    def active(self, sigma: float) -> bool:
        """Whether the depth is used at this noise level."""
        return self._lowest_sigma <= sigma <= self._highest_sigma

    def begin_step(self, sigma: float, conditions: Iterable[dict[str, Any]], latent_size: torch.Size) -> None:
        """Note which conditions of a step are for an area: the model is called with a crop for them.

        F is computed here, before the host shares the step out to threads: each of them sets another current device.
        """
        if self.active(sigma):
            self._features_on(self._adapter.load_device)
        self._areas = {
            condition["uuid"]: _clamped_area(condition["area"], *latent_size)
            for condition in conditions
            if "area" in condition
        }

    def features_for(self, sigma: float, x: torch.Tensor, transformer_options: dict[str, Any]) -> torch.Tensor | None:
        """F for one call of the model: a part for each condition that the host has batched. None without depth."""
        # Loops of other extensions may give neither these nor uuids. Then every condition is like the others.
        batched = transformer_options.get("cond_or_uncond")
        if batched is None:
            batched = [None] * max(1, x.shape[0] // self._batch)
        without_depth = transformer_options.get(WITHOUT_DEPTH_KEY, ())
        if not self.active(sigma) or all(condition in without_depth for condition in batched):
            return None
        features = self._rows(self._features_on(x.device), x.shape[0], len(batched))
        parts = []
        uuids = transformer_options.get("uuids") or [None] * len(batched)
        for condition, uuid in zip(batched, uuids):
            part = self._crop(features, x.shape[-2:], self._areas.get(uuid))
            parts.append(torch.zeros_like(part) if condition in without_depth else part)
        return torch.cat(parts)

    def _rows(self, features: torch.Tensor, rows: int, conditions: int) -> torch.Tensor:
        """F for each condition's share of the model's `rows`. That is the batch, except in loops that take parts of it.

        ValueError where these would need parts of F, and nothing tells which.
        """
        if rows == conditions * self._batch:
            return features
        if self._is_one_for_all and rows % conditions == 0:
            return features[:1].expand(rows // conditions, -1, -1, -1)
        raise ValueError(
            "connect one geometry (and one mask) for all images, or sample the batch at once: the sampler calls the "
            f"model with {rows} images for {conditions} condition(s), where the latent has a batch of {self._batch}, "
            "and does not tell which they are"
        )

    def _features_on(self, device: torch.device) -> torch.Tensor:
        """F for every latent of the batch. The adapter computes it once, on its own device."""
        own_device = self._adapter.load_device
        with self._lock:
            if own_device not in self._features:
                self._features[own_device] = self._compute(own_device).expand(self._batch, -1, -1, -1)
            if device not in self._features:
                self._features[device] = self._features[own_device].to(device)
            return self._features[device]

    def _compute(self, device: torch.device) -> torch.Tensor:
        rows, columns = self._grid(*self._latent_size)
        # Resized on the CPU: Apple's MPS has no antialiased resizing, and area resizing only for sizes that divide.
        depth = self._control.depth.to("cpu")
        features = self._adapter.model.infer(depth, rows, columns, torch.float32, device) * self._control.strength
        if self._control.mask is None:
            return features
        mask = self._control.mask.cpu().float().unsqueeze(1)
        return features * F.interpolate(mask, size=(rows, columns), mode="area").to(features)

    def _crop(self, features: torch.Tensor, size: torch.Size, area: Area | None) -> torch.Tensor:
        """F for a call of the model with `size` cells: the whole latent, or the area of a condition.

        An area that does not begin at a whole patch takes the tokens of the nearest one.
        """
        latent = self._latent_size
        if area is None and size == latent:
            return features
        if area is None or tuple(size) != area[:2]:
            raise ValueError(
                "sample the whole latent at once, or leave Depth Adapter Apply out of the tiled pass: the latent is "
                f"{latent[1]}x{latent[0]}, but the model is called with {size[1]}x{size[0]} of it, and tiled sampling "
                "does not tell which part that is"
            )
        rows, columns = self._grid(*size)
        top, left = (
            min(round(start * total / cells), total - length)
            for start, total, cells, length in zip(area[2:], features.shape[-2:], latent, (rows, columns))
        )
        return features[..., top : top + rows, left : left + columns]


def _clamped_area(area: tuple[int, ...], rows: int, columns: int) -> Area:
    """The area of a condition as the host cuts it out of a latent of rows x columns."""
    middle = len(area) // 2
    (height, width), (top, left) = area[middle - 2 : middle], area[-2:]
    return min(rows - top, height), min(columns - left, width), top, left
