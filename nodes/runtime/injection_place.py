"""Where F, the depth adapter's residual, is added to a diffusion model: to its noisy latent, or to its tokens.

F has the shape (B, channels, rows, columns).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ...sf_model.backbones import Backbone

# Calls the diffusion model on a latent. Everything else is given.
CallModel = Callable[[torch.Tensor], torch.Tensor]


class LatentPlace:
    """The published place: F is added to the noisy latent. Any flow-matching model takes it."""

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """The size of F for a latent of rows x columns cells."""
        return rows, columns

    def add(
        self,
        call_model: CallModel,
        diffusion_model: torch.nn.Module,
        x: torch.Tensor,
        features: torch.Tensor | None,
        references: int,
    ) -> torch.Tensor:
        """`call_model(x)` with `features` added, if there are any. references: how many reference images go with x.

        The host computes denoised = x - sigma * velocity from the x that it is given. So F is subtracted again.
        """
        if features is None:
            return call_model(x)
        if x.ndim == 5:  # an image as a video of one frame
            features = features.unsqueeze(2)
        return call_model(x + features) - features


class TokenPlace:
    """F is added to the tokens of the noisy image, after the patch embedding."""

    def __init__(self, backbone: Backbone, patch_size: int, embedder: TokenEmbedder) -> None:
        """patch_size: latent cells along a patch's side."""
        self._backbone, self._patch_size, self._embedder = backbone, patch_size, embedder

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """As in LatentPlace. The host pads the latent to whole patches."""
        patch = self._patch_size
        return -(-rows // patch), -(-columns // patch)

    def add(
        self,
        call_model: CallModel,
        diffusion_model: torch.nn.Module,
        x: torch.Tensor,
        features: torch.Tensor | None,
        references: int,
    ) -> torch.Tensor:
        """As in LatentPlace."""
        tokens = None if features is None else features.flatten(2).transpose(1, 2)
        skipped = references if self._backbone.references_before else 0
        # A guider may run a second model with this one's options. It has no stand-in, and perhaps no such layer.
        module = getattr(diffusion_model, self._backbone.patch_embedder, None)
        with self._embedder.call(EmbedderCall(module, tokens, skipped)):
            return call_model(x)


@dataclass
class EmbedderCall:
    """One call of the diffusion model, for the stand-in of the patch embedder."""

    # The patch embedder of the model that runs. MultiGPU CFG Split runs copies of the model, each with its own.
    module: torch.nn.Module | None
    # (B, N, channels), added to the first N tokens. None adds nothing.
    tokens: torch.Tensor | None
    # How many calls of the embedder are still to come before the noisy image: one for each reference image.
    skipped: int


class TokenEmbedder:
    """Stands in for the forward of the patch embedder.

    The patch embedder gets nothing of the host's options. So the call of the diffusion model is kept here while it
    runs, for each thread by itself: threads that share a MODEL never see each other's.
    """

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        """forward: what this takes the place of, the module's own or another stand-in."""
        self._forward = forward
        # The module's own forward without the module, for copies of the model.
        self._function = forward.__func__ if inspect.ismethod(forward) else None
        self._thread = threading.local()

    @contextmanager
    def call(self, call: EmbedderCall) -> Iterator[None]:
        """Within it, the diffusion model is called in this thread as `call` says."""
        outer = getattr(self._thread, "call", None)
        self._thread.call = call
        try:
            yield
        finally:
            self._thread.call = outer

    def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
        call = getattr(self._thread, "call", None)
        if call is None:
            return self._forward(*arguments, **options)
        if self._function is None:
            embedded = self._forward(*arguments, **options)
        else:
            embedded = self._function(call.module, *arguments, **options)
        if call.tokens is None:
            return embedded
        if call.skipped:
            call.skipped -= 1
            return embedded
        count = call.tokens.shape[1]
        return torch.cat([embedded[:, :count] + call.tokens.to(embedded), embedded[:, count:]], dim=1)
