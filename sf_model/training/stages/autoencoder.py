"""The autoencoder of a base that is trained from scratch, on images alone.

Its losses are those of a small variational autoencoder (arXiv 1312.6114): error of the pixels, error of their
differences to their neighbours, which keeps edges sharp, and a weak KL divergence from a normal distribution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...models.autoencoder import Autoencoder
from ..batch import Batch, unit_image
from ..draws import seeded_generator
from ..losses import Losses
from ..sheets import Sheet
from .stage import Stage

# Each image gives so many crops of half its sides, and itself at half its size: what a small picture shows.
CROPS = 3
GRADIENT_WEIGHT = 0.5
SQUARE_WEIGHT = 0.5
KL_WEIGHT = 1e-3


class AutoencoderStage(Stage):
    """Images of any scene, without captions."""

    name = "autoencoder"
    learns = ("system.base.vae.",)
    built_from = ("autoencoder",)
    unused = ("transformer", "text_encoder")

    @property
    def _autoencoder(self) -> Autoencoder:
        return self.system.base.vae

    def losses(self, batch: Batch) -> Losses:
        image = crops(unit_image(batch["rgb"]) * 2 - 1, batch["noise_seed"])
        mean, log_variance = (value.float() for value in self._autoencoder.encoder(image))
        noise = torch.randn(mean.shape, generator=seeded_generator(batch["noise_seed"])).to(mean)
        error = self._autoencoder.decoder(mean + noise * (0.5 * log_variance).exp()).float() - image
        pixels = error.abs().mean() + SQUARE_WEIGHT * error.square().mean()
        gradients = sum(error.diff(dim=axis).abs().mean() for axis in (2, 3))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = pixels + GRADIENT_WEIGHT * gradients + KL_WEIGHT * kl
        return {"loss": loss, "pixels": pixels, "gradients": gradients, "kl": kl, "latent_std": mean.std()}

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """True image | decoded image. psnr in dB; latent_std over all cells, before the division by the config's."""
        true = unit_image(batch["rgb"])
        latent = self._autoencoder.encode(true * 2 - 1)
        decoded = ((self._autoencoder.decode(latent) + 1) / 2).clamp(0, 1)
        error = (decoded - true).float().square().mean(dim=(1, 2, 3))
        std = latent.float().std().item() * self._autoencoder.config.latent_std
        metrics = {"psnr": (-10 * error.log10()).mean().item(), "latent_std": std}
        columns = [true.float().cpu(), decoded.float().cpu()] if pictures else []
        return Sheet(columns, metrics, len(true))


def crops(image: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """((CROPS + 1) * B, 3, H / 2, W / 2) of images (B, 3, H, W): CROPS crops of each, and each at half its size.

    seeds: (B,), decide where the crops are.
    """
    height, width = (side // 2 for side in image.shape[-2:])
    generator = seeded_generator(seeds)
    starts = torch.rand(CROPS, len(image), 2, generator=generator)
    parts = [F.avg_pool2d(image, 2)]
    for start in starts:
        tops = (start[:, 0] * (image.shape[-2] - height + 1)).int().tolist()
        lefts = (start[:, 1] * (image.shape[-1] - width + 1)).int().tolist()
        cut = [one[:, y : y + height, x : x + width] for one, y, x in zip(image, tops, lefts)]
        parts.append(torch.stack(cut))
    return torch.cat(parts)
