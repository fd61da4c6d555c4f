"""Adds F, the depth adapter's residual, to a diffusion model's latent or tokens while it samples.

Everything hangs on a clone of MODEL: two wrappers, the adapter's patcher and, for injection "token", an object patch.
F does not depend on the timestep: it is computed at the first model call of a run, where the host has loaded the
adapter, and dropped when the run ends. Several injections on one MODEL add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrappersMP

from ...sf_model.backbones import BACKBONES, Backbone, backbone_of_transformer
from ...sf_model.depth.fitting import check_aspect
from ...sf_model.depth.metric_depth import MetricDepth

KEY = "spatialfusion"
# In transformer_options: the MODEL's injections, and the conditions (as `cond_or_uncond` numbers them) without depth.
INJECTIONS_KEY = "spatialfusion_injections"
WITHOUT_DEPTH_KEY = "spatialfusion_without_depth"


@dataclass(frozen=True)
class DepthControl:
    """What is injected, how strongly, and in which part of sampling. mask: (B, H, W) in [0, 1], 1 = use the depth.

    Percents, not noise levels: a node behind Depth Adapter Apply may still change the schedule.
    """

    depth: MetricDepth
    mask: torch.Tensor | None
    strength: float
    start_percent: float
    end_percent: float


def transformer_backbone(diffusion_model: torch.nn.Module, expected: Backbone | None = None) -> Backbone | None:
    """The base that this diffusion transformer belongs to, by its class; None for one that no base has.

    Some bases share a transformer: `expected` wins if it is one of them.
    """
    # A compiled module stands in for the one that it holds.
    module = getattr(diffusion_model, "_orig_mod", diffusion_model)
    return backbone_of_transformer([cls.__name__ for cls in type(module).__mro__], BACKBONES, expected)


def inject(
    model: comfy.model_patcher.ModelPatcher, adapter: comfy.model_patcher.ModelPatcher, control: DepthControl
) -> comfy.model_patcher.ModelPatcher:
    """A clone of `model` that samples with the depth; `model` and its weights' names are not changed."""
    patched = model.clone()
    if adapter.model.config.injection == "token":
        backbone = transformer_backbone(patched.get_model_object("diffusion_model"))
        assert backbone is not None
        path = f"diffusion_model.{backbone.patch_embedder}.forward"
        embedder = TokenEmbedder(patched.get_model_object(path))
        patched.add_object_patch(path, embedder)
        injection: DepthInjection = TokenInjection(adapter.model, control, embedder, backbone.references_before)
    else:
        injection = LatentInjection(adapter.model, control)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, injection.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, injection.calc_cond_batch)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, injection.apply_model)
    others = patched.get_additional_models_with_key(KEY)
    if not any(adapter.is_clone(other) for other in others):
        patched.set_additional_models(KEY, [*others, adapter])
    options = patched.model_options["transformer_options"]
    # A tuple: the host joins lists where it merges options.
    options[INJECTIONS_KEY] = (*options.get(INJECTIONS_KEY, ()), injection)
    return patched


class DepthInjection:
    """One Depth Adapter Apply. Subclasses say on which grid F lives and where it is added."""

    def __init__(self, adapter: torch.nn.Module, control: DepthControl) -> None:
        self.adapter, self.control = adapter, control
        # Of the run in progress: the highest and the lowest noise level with depth, the latent's shape, and F.
        self._sigmas: tuple[float, float] | None = None
        self._latent_shape: torch.Size | None = None
        self._features: torch.Tensor | None = None
        # Conditions of this step that are for an area: their `uuid` and (rows, columns, top, left) in latent cells.
        self._areas: dict[Any, tuple[int, int, int, int]] = {}

    def active(self, sigma: float) -> bool:
        """Whether the depth is used at this noise level of the run in progress."""
        assert self._sigmas is not None
        highest, lowest = self._sigmas
        return lowest <= sigma <= highest

    def outer_sample(self, executor: Any, noise: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        """Wraps a whole run: checks the latent, reads the schedule, and forgets F before and after it."""
        _check_latent(noise, self.control)
        sampling = executor.class_obj.model_patcher.get_model_object("model_sampling")
        percents = self.control.start_percent, self.control.end_percent
        start_sigma, end_sigma = (float(sampling.percent_to_sigma(percent)) for percent in percents)
        self._sigmas = start_sigma, end_sigma
        self._latent_shape = noise.shape
        self._features = None
        try:
            return executor(noise, *arguments, **options)
        finally:
            self._features, self._areas = None, {}

    def calc_cond_batch(
        self, executor: Any, model: Any, conds: list[Any], x: torch.Tensor, *arguments: Any
    ) -> list[torch.Tensor]:
        """Wraps one step's conditions, to learn which of them are for an area: the model is called with a crop."""
        self._areas = {
            condition["uuid"]: _clamped_area(condition["area"], *x.shape[-2:])
            for group in conds
            for condition in group or ()
            if "area" in condition
        }
        return executor(model, conds, x, *arguments)

    def apply_model(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any,
        c_crossattn: Any,
        control: Any,
        transformer_options: dict[str, Any],
        **conditions: Any,
    ) -> torch.Tensor:
        """Wraps one call of the diffusion model, on the conditions that the host has batched together."""

        def run(x: torch.Tensor) -> torch.Tensor:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conditions)

        if not self.active(float(t[0])):
            return run(x)
        batched = transformer_options["cond_or_uncond"]
        without_depth = transformer_options.get(WITHOUT_DEPTH_KEY, ())
        if all(condition in without_depth for condition in batched):
            return run(x)
        diffusion_model = executor.class_obj.diffusion_model
        features = self._run_features(diffusion_model, x.device)
        parts = []
        uuids = transformer_options.get("uuids", [None] * len(batched))  # another extension's loop may not tell them
        for condition, uuid in zip(batched, uuids):
            part = self._crop(features, diffusion_model, x.shape[-2:], self._areas.get(uuid))
            parts.append(torch.zeros_like(part) if condition in without_depth else part)
        return self.add(run, x, torch.cat(parts), len(conditions.get("ref_latents") or ()))

    def grid(self, diffusion_model: torch.nn.Module, rows: int, columns: int) -> tuple[int, int]:
        """F's size for a latent of rows x columns."""
        raise NotImplementedError

    def add(
        self, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, features: torch.Tensor, references: int
    ) -> torch.Tensor:
        """`run(x)` with `features` (B, channels, rows, columns) added; `references` images go with it."""
        raise NotImplementedError

    def _run_features(self, diffusion_model: torch.nn.Module, device: torch.device) -> torch.Tensor:
        """F (B, channels, rows, columns) of this run, for each latent of the batch."""
        assert self._latent_shape is not None
        if self._features is None:
            rows, columns = self.grid(diffusion_model, *self._latent_shape[-2:])
            features = self._compute(rows, columns, device)
            self._features = features.expand(self._latent_shape[0], -1, -1, -1)
        return self._features

    def _crop(
        self,
        features: torch.Tensor,
        diffusion_model: torch.nn.Module,
        shape: torch.Size,
        area: tuple[int, int, int, int] | None,
    ) -> torch.Tensor:
        """F for what the model is called with: all of the latent, or the area of a condition.

        An area that does not begin at a whole patch takes the tokens of the nearest one.
        """
        assert self._latent_shape is not None
        whole = self._latent_shape[-2:]
        if area is None and shape == whole:
            return features
        if area is None or tuple(shape) != area[:2]:
            raise ValueError(
                f"Depth Adapter Apply was made for a latent of {whole[1]}x{whole[0]}, but the model is called with "
                f"{shape[1]}x{shape[0]} of it: tiled sampling does not tell which part that is. Sample the whole "
                "latent at once, or take the node out of the tiled pass"
            )
        crop = self.grid(diffusion_model, *shape)
        starts = (
            min(round(start * total / cells), total - length)
            for start, total, cells, length in zip(area[2:], features.shape[-2:], whole, crop)
        )
        top, left = starts
        return features[..., top : top + crop[0], left : left + crop[1]]

    def _compute(self, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        # Resized on the CPU: Apple's MPS has neither antialiased nor, for sizes that do not divide, area resizing.
        depth = self.control.depth.to("cpu")
        features = self.adapter.infer(depth, rows, columns, torch.float32, device) * self.control.strength
        if self.control.mask is None:
            return features
        mask = self.control.mask.cpu().float().unsqueeze(1)
        return features * F.interpolate(mask, size=(rows, columns), mode="area").to(features)


class LatentInjection(DepthInjection):
    """The published one: F is added to the noisy latent. Any flow-matching model takes it.

    The host gives denoised = x - sigma * velocity of the x that it is handed, hence the subtraction.
    """

    def grid(self, diffusion_model: torch.nn.Module, rows: int, columns: int) -> tuple[int, int]:
        return rows, columns

    def add(
        self, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, features: torch.Tensor, references: int
    ) -> torch.Tensor:
        if x.ndim == 5:  # an image as a video of one frame
            features = features.unsqueeze(2)
        return run(x + features) - features


class TokenEmbedder:
    """Stands in for the patch embedder's forward: adds `tokens` (B, N, channels), where set, to its first N tokens.

    skip: how many calls go by before, each with a reference image.
    """

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self._forward = forward
        self.tokens: torch.Tensor | None = None
        self.skip = 0

    def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
        embedded = self._forward(*arguments, **options)
        if self.tokens is None:
            return embedded
        if self.skip:
            self.skip -= 1
            return embedded
        count = self.tokens.shape[1]
        return torch.cat([embedded[:, :count] + self.tokens.to(embedded), embedded[:, count:]], dim=1)


class TokenInjection(DepthInjection):
    """F is added to the noisy image's tokens, after the patch embedding."""

    def __init__(
        self, adapter: torch.nn.Module, control: DepthControl, embedder: TokenEmbedder, references_before: bool
    ) -> None:
        super().__init__(adapter, control)
        self._embedder, self._references_before = embedder, references_before

    def grid(self, diffusion_model: torch.nn.Module, rows: int, columns: int) -> tuple[int, int]:
        patch = diffusion_model.patch_size
        return -(-rows // patch), -(-columns // patch)  # the host pads to whole patches

    def add(
        self, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, features: torch.Tensor, references: int
    ) -> torch.Tensor:
        self._embedder.tokens = features.flatten(2).transpose(1, 2)
        self._embedder.skip = references if self._references_before else 0
        try:
            return run(x)
        finally:
            self._embedder.tokens = None


def _clamped_area(area: tuple[int, ...], rows: int, columns: int) -> tuple[int, int, int, int]:
    """(rows, columns, top, left) of a condition's area, as the host cuts it out of a latent of rows x columns."""
    middle = len(area) // 2
    (height, width), (top, left) = area[middle - 2 : middle], area[-2:]
    return min(rows - top, height), min(columns - left, width), top, left


def _check_latent(noise: torch.Tensor, control: DepthControl) -> None:
    """ValueError, with the remedy, where the latent's batch, size or kind does not fit the depth."""
    if noise.ndim not in (4, 5) or (noise.ndim == 5 and noise.shape[2] != 1):
        raise ValueError(
            f"Depth Adapter Apply works on images, but this latent has the shape {tuple(noise.shape)}; use an image's "
            "latent"
        )
    for name, batch in (("geometry", control.depth.depth.shape[0]), ("mask", _batch(control.mask))):
        if batch not in (1, noise.shape[0]):
            raise ValueError(
                f"the {name} has a batch of {batch} and the latent a batch of {noise.shape[0]}; give one {name} for "
                "all images, or as many as the latent has (Repeat Latent Batch, batch_size of the empty latent)"
            )
    check_aspect(
        "the geometry",
        control.depth.depth.shape[-2:],
        "the latent",
        noise.shape[-2:],
        "set width and height of Predict Metric Depth to the image's, or crop the picture that the geometry was "
        "measured from",
    )


def _batch(mask: torch.Tensor | None) -> int:
    return 1 if mask is None else mask.shape[0]
