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

from ..sf_model.depth_editing import ASPECT_TOLERANCE
from ..sf_model.metric_depth import MetricDepth

KEY = "spatialfusion"
# In transformer_options: the MODEL's injections, and the conditions (as `cond_or_uncond` numbers them) without depth.
INJECTIONS_KEY = "spatialfusion_injections"
WITHOUT_DEPTH_KEY = "spatialfusion_without_depth"
# The patch embedder of every diffusion model that injection "token" knows: a linear layer over image tokens, the noisy
# image's first, in rows.
PATCH_EMBEDDERS = {
    "OmniGen2Transformer2DModel": "x_embedder",
    "NextDiT": "x_embedder",
    "QwenImageTransformer2DModel": "img_in",
}


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


def patch_embedder_name(diffusion_model: torch.nn.Module) -> str:
    """The attribute that holds the patch embedder. ValueError for a model that injection "token" does not know."""
    for cls in type(diffusion_model).__mro__:
        if cls.__name__ in PATCH_EMBEDDERS:
            return PATCH_EMBEDDERS[cls.__name__]
    raise ValueError(
        f"this checkpoint adds depth to the image tokens, which is known for {', '.join(PATCH_EMBEDDERS)}, not for "
        f"this MODEL's {type(diffusion_model).__name__}; load the diffusion model that the checkpoint was trained with"
    )


def inject(
    model: comfy.model_patcher.ModelPatcher, adapter: comfy.model_patcher.ModelPatcher, control: DepthControl
) -> comfy.model_patcher.ModelPatcher:
    """A clone of `model` that samples with the depth; `model` and its weights' names are not changed."""
    patched = model.clone()
    if adapter.model.config.injection == "token":
        path = f"diffusion_model.{patch_embedder_name(patched.get_model_object('diffusion_model'))}.forward"
        embedder = TokenEmbedder(patched.get_model_object(path))
        patched.add_object_patch(path, embedder)
        injection: DepthInjection = TokenInjection(adapter.model, control, embedder)
    else:
        injection = LatentInjection(adapter.model, control)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, injection.outer_sample)
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
            self._features = None

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
        features = self._run_features(executor.class_obj.diffusion_model, x)
        parts = [torch.zeros_like(features) if condition in without_depth else features for condition in batched]
        return self.add(run, x, torch.cat(parts))

    def grid(self, diffusion_model: torch.nn.Module, rows: int, columns: int) -> tuple[int, int]:
        """F's size for a latent of rows x columns."""
        raise NotImplementedError

    def add(self, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """`run(x)` with `features` (B, channels, rows, columns) added."""
        raise NotImplementedError

    def _run_features(self, diffusion_model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """F (B, channels, rows, columns) of this run, for each latent of the batch."""
        assert self._latent_shape is not None
        if x.shape[-2:] != self._latent_shape[-2:]:
            raise ValueError(
                "Depth Adapter Apply cannot be combined with conditioning for an area or with tiled sampling: restrict "
                "the conditioning with a mask (Conditioning (Set Mask)) instead"
            )
        if self._features is None:
            rows, columns = self.grid(diffusion_model, *x.shape[-2:])
            features = self._compute(rows, columns, x.device)
            self._features = features.expand(self._latent_shape[0], -1, -1, -1)
        return self._features

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

    def add(self, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        if x.ndim == 5:  # an image as a video of one frame
            features = features.unsqueeze(2)
        return run(x + features) - features


class TokenEmbedder:
    """Stands in for the patch embedder's forward: adds `tokens` (B, N, channels), where set, to its first N tokens."""

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self._forward = forward
        self.tokens: torch.Tensor | None = None

    def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
        embedded = self._forward(*arguments, **options)
        if self.tokens is None:
            return embedded
        count = self.tokens.shape[1]
        return torch.cat([embedded[:, :count] + self.tokens.to(embedded), embedded[:, count:]], dim=1)


class TokenInjection(DepthInjection):
    """F is added to the noisy image's tokens, after the patch embedding."""

    def __init__(self, adapter: torch.nn.Module, control: DepthControl, embedder: TokenEmbedder) -> None:
        super().__init__(adapter, control)
        self._embedder = embedder

    def grid(self, diffusion_model: torch.nn.Module, rows: int, columns: int) -> tuple[int, int]:
        patch = diffusion_model.patch_size
        return -(-rows // patch), -(-columns // patch)  # the host pads to whole patches

    def add(self, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        self._embedder.tokens = features.flatten(2).transpose(1, 2)
        try:
            return run(x)
        finally:
            self._embedder.tokens = None


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
    (height, width), (rows, columns) = control.depth.depth.shape[-2:], noise.shape[-2:]
    if abs((width / height) / (columns / rows) - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"the geometry is {width}x{height} (aspect ratio {width / height:.3f}) and the latent {columns}x{rows} "
            f"(aspect ratio {columns / rows:.3f}); set width and height of Predict Metric Depth to the image's, or "
            "crop the picture that the geometry was measured from"
        )


def _batch(mask: torch.Tensor | None) -> int:
    return 1 if mask is None else mask.shape[0]
