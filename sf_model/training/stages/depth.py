"""Stage 1: the spatial transformer and its head. The base and the adapter are frozen."""

from __future__ import annotations

import torch

from ...depth.colours import depth_picture
from ..batch import Batch, repeated
from ..losses import Losses
from ..sheets import Sheet
from .stage import Stage


class DepthStage(Stage):
    """Masked L2 to the depth of the target image, and the other parts of `losses.depth_losses`."""

    name = "stage1"
    learns = ("system.predictor.",)
    independent_of = ("autoencoder", "image")
    unused = ("transformer", "vae")

    def losses(self, batch: Batch) -> Losses:
        with torch.no_grad():
            prompt = self.prompt(batch)
        draws = self.settings.depth.draws
        if draws > 1:
            batch, prompt = repeated(batch, draws), prompt.repeated(draws)
        _, losses, _ = self.predicted(batch, self.inputs(batch, prompt))
        return {"loss": losses["depth"], **losses}

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """True image | (source) | true depth | mean depth | (with a depth flow) one sampled depth."""
        shown, metrics = self.sheet_depths(batch, self.prompt(batch))
        columns = [depth_picture(prediction.to_metric_depth()) for prediction in shown] if pictures else []
        columns = [*self.known_columns(batch), *columns] if pictures else []
        return Sheet([column.float().cpu() for column in columns], metrics, len(batch["depth_m"]))
