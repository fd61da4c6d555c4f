"""Stage 1: the spatial transformer and its head. The base and the adapter are frozen."""

from __future__ import annotations

import torch

from ...depth.colours import depth_picture
from ..batch import Batch, repeated
from ..losses import Losses
from ..sheets import SHEET_DEPTH_SEED, Sheet, depth_figures
from .stage import Stage


class DepthStage(Stage):
    """Masked L2 to the depth of the target image, and the other parts of `losses.depth_losses`."""

    name = "stage1"
    learns = ("system.predictor.",)
    unused = ("transformer",)

    def losses(self, batch: Batch) -> Losses:
        with torch.no_grad():
            prompt = self.prompt(batch)
        draws = self.settings.depth.draws
        if draws > 1:
            batch, prompt = repeated(batch, draws), prompt.repeated(draws)
        _, losses, _ = self.predicted(batch, prompt)
        return {"loss": losses["depth"], **losses}

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """True image | (source) | true depth | mean depth | (with a depth flow) one sampled depth."""
        prompt = self.prompt(batch)
        inputs = self.system.inputs(prompt, *batch["depth_m"].shape[-2:], self.source(batch))
        mean = self.system.mean_depth(inputs)
        metrics, shown = depth_figures(mean, batch), [mean]
        if self.settings.depth.flow > 0:
            shown.append(self.system.sampled_depth(inputs, SHEET_DEPTH_SEED))
            metrics |= depth_figures(shown[-1], batch, "_sampled")
        columns = [depth_picture(prediction.to_metric_depth()) for prediction in shown] if pictures else []
        columns = [*self.known_columns(batch), *columns] if pictures else []
        return Sheet([column.float().cpu() for column in columns], metrics, len(batch["depth_m"]))
