"""The diffusion transformer of a base that is trained from scratch, on captions alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.distributed
import torch.nn.functional as F
from torch.distributed.tensor import DTensor

from ..bases.base import DepthFeatures, Prompt
from ..batch import Batch, repeated
from ..draws import DiffusionDraws, draw_diffusion
from ..flow import interpolate
from ..losses import Losses
from ..sheets import Sheet
from ..system import ImageSampling
from .stage import Stage


@dataclass(frozen=True)
class KnownImage:
    """A batch, encoded by the frozen parts of a base."""

    # (B, C, h, w).
    latent: torch.Tensor
    # Latent of the source image of an edit.
    reference: torch.Tensor | None
    prompt: Prompt


class ImageStage(Stage):
    """Flow matching. The MLLM and the depth networks are frozen."""

    name = "image"
    learns = ("system.base.transformer.",)
    # Only edits use these.
    waits = ("system.base.transformer.ref_image_", "system.base.transformer.image_index_embedding")

    def losses(self, batch: Batch) -> Losses:
        batch, known = self.repeated(batch, self.known(batch))
        drawn = self.drawn(batch, known)
        flow = self.flow_loss(self.with_dropped_captions(batch, known, drawn), drawn, None)
        return {"loss": flow, "flow": flow}

    def repeated(self, batch: Batch, known: KnownImage) -> tuple[Batch, KnownImage]:
        """Every sample as often as noise is drawn for it, one copy after another."""
        count = self.settings.diffusion.draws
        if count == 1:
            return batch, known
        reference = None if known.reference is None else known.reference.repeat_interleave(count, dim=0)
        latent = known.latent.repeat_interleave(count, dim=0)
        return repeated(batch, count), KnownImage(latent, reference, known.prompt.repeated(count))

    @torch.no_grad()
    def known(self, batch: Batch) -> KnownImage:
        """Encode a batch with the frozen parts of the base."""
        return KnownImage(self.latent(batch), self.reference(batch), self.prompt(batch))

    @torch.no_grad()
    def with_dropped_captions(self, batch: Batch, known: KnownImage, drawn: DiffusionDraws) -> KnownImage:
        """With the hidden states of the empty caption where the caption is dropped. The MLLM reads it only then."""
        if not self._is_dropped(drawn.no_caption):
            return known
        return replace(known, prompt=known.prompt.with_hidden_of(self.empty_prompt(batch), drawn.no_caption))

    def _is_dropped(self, no_caption: torch.Tensor) -> bool:
        """Whether this process drops a caption; with a sharded MLLM, which all must run together, whether any does."""
        found, encoder = no_caption.any(), self.system.base.text_encoder
        if encoder is not None and isinstance(next(encoder.parameters()), DTensor):
            found = found.int()
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return bool(found)

    def drawn(self, batch: Batch, known: KnownImage) -> DiffusionDraws:
        return draw_diffusion(batch["noise_seed"], known.latent, self.settings.diffusion)

    def flow_loss(self, known: KnownImage, drawn: DiffusionDraws, features: DepthFeatures | None) -> torch.Tensor:
        """L_diffusion: mean squared error of the velocity."""
        base = self.system.base
        x = interpolate(known.latent, drawn.noise, drawn.time)
        velocity = base.velocity(x, drawn.time, known.prompt, known.reference, features)
        return F.mse_loss(velocity, base.target_velocity(x, known.latent, drawn.noise, drawn.time))

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """True image | true depth | image from the caption alone. The flow loss is at `sheet_time` (B,)."""
        known = self.known(batch)
        drawn = self.sheet_draws(batch, known)
        metrics = {"flow_without_depth": self.flow_loss(known, drawn, None).item()}
        columns = [*self.known_columns(batch), self.drawn_image(batch, known, drawn, None)] if pictures else []
        return Sheet([column.float().cpu() for column in columns], metrics, len(drawn.time))

    def sheet_draws(self, batch: Batch, known: KnownImage) -> DiffusionDraws:
        """The batch's own noise, at `sheet_time`, with nothing dropped."""
        noise = self.drawn(batch, known).noise
        none = torch.zeros(len(noise), dtype=torch.bool, device=noise.device)
        return DiffusionDraws(noise, batch["sheet_time"].to(noise.device), none, none)

    def drawn_image(
        self, batch: Batch, known: KnownImage, drawn: DiffusionDraws, features: DepthFeatures | None
    ) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1], from the noise of `drawn`."""
        references = known.reference, known.reference
        empty = self.empty_prompt(batch)
        latent = self.system.draw(known.prompt, empty, features, drawn.noise, ImageSampling(), *references)
        return self.system.base.decode_latent(latent)
