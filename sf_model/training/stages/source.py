"""Trains the encoder of source images to see their depth, their objects and their layout, before any edit.

An edit's instruction names an object by category and colour, which DINOv2's features contain. So the first channels of
each cell are trained as logits of category and colour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...depth.colours import depth_picture
from ...depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD
from ...models.depth_flow import depth_state
from ...models.depth_prediction import DepthPrediction
from ...models.layout import layout_of, state_weight
from ...models.pixel_encoder import PixelEncoder, ReadDepth
from ...world import CATEGORY_NAMES, COLORS
from ..batch import Batch, unit_image
from ..layout_figures import layout_figures
from ..losses import DIFFERENCE_WEIGHT, Losses, difference_loss
from ..sheets import Sheet, depth_figures
from .stage import SEES_SOURCES, Stage

# Logits of the category and of the colour of the object in a cell. The last of each means no object.
LABEL_CHANNELS = (len(CATEGORY_NAMES) + 1, len(COLORS) + 1)
LABEL_WEIGHT = 0.2


class SourceStage(Stage):
    """Images of any scene, their depth, and the object in each cell. Prompts are not read."""

    name = "source"
    learns = SEES_SOURCES
    waits = ()
    independent_of = ("autoencoder", "language", "image")
    unused = ("transformer", "text_encoder")

    @property
    def _encoder(self) -> PixelEncoder:
        encoder = self.system.predictor.source_encoder
        if not isinstance(encoder, PixelEncoder):
            raise ValueError("the stage 'source' is for a spatial transformer that reads the source's own pixels")
        return encoder

    def _read(self, batch: Batch) -> ReadDepth:
        return self._encoder.read(self.system.base.source_features(unit_image(batch["rgb"])))

    def losses(self, batch: Batch) -> Losses:
        read = self._read(batch)
        grid = self.system.predictor.grid(*batch["depth_m"].shape[-2:])
        true = depth_state(batch["depth_m"], *grid)
        error, valid = read.state.float() - true, true[:, 1] > 0
        state = error.square().mean()
        differences = difference_loss(torch.where(valid, error[:, 0], torch.zeros_like(error[:, 0])), valid).mean()
        category, color = _label_logits(read)
        labels = F.cross_entropy(category, batch["category"]) + F.cross_entropy(color, batch["color"])
        loss = state + DIFFERENCE_WEIGHT * differences + LABEL_WEIGHT * labels
        losses = {"state": state, "differences": differences, "labels": labels}
        layout = self._encoder.read_layout(read)
        if layout is not None:
            losses["layout"] = self._layout_loss(layout, batch)
            loss = loss + losses["layout"]
        return {"loss": loss, **losses}

    def _layout_loss(self, read: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Weighted squared error of the layout's state; every image counts alike."""
        config, true = self.system.config.layout, batch["layout_state"]
        present = true[:, 1:, 0] > 0
        weight = state_weight(present, len(config.categories), len(config.colors))
        return ((weight * (read - true).square()).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))).mean()

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """True image | true depth | predicted depth.

        recognised: among the cells with a true or predicted object, the share with the right category and colour.
        """
        read = self._read(batch)
        log_depth, surface = read.state.float().unbind(1)
        log_depth = log_depth * LOG_DEPTH_STD + LOG_DEPTH_MEAN
        seen = DepthPrediction(log_depth, surface, torch.zeros_like(log_depth), batch["fov_y_deg"])
        seen = seen.resized(*batch["depth_m"].shape[-2:])
        category, color = (logits.argmax(dim=1) for logits in _label_logits(read))
        right = (category == batch["category"]) & (color == batch["color"])
        nothing = LABEL_CHANNELS[0] - 1
        recognised = right[(batch["category"] < nothing) | (category < nothing)].float().mean().item()
        columns = [*self.known_columns(batch), depth_picture(seen.to_metric_depth())] if pictures else []
        metrics = {**depth_figures(seen, batch), "recognised": recognised}
        layout = self._encoder.read_layout(read)
        if layout is not None:
            categories = len(self.system.config.layout.categories)
            found, true = (layout_of(state, categories) for state in (layout, batch["layout_state"]))
            metrics |= layout_figures(found, true, true.present > 0.5)
        return Sheet([column.float().cpu() for column in columns], metrics, len(log_depth))


def _label_logits(read: ReadDepth) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, LABEL_CHANNELS[i], rows, columns) of category and colour."""
    category, color = read.cells[:, : sum(LABEL_CHANNELS)].float().split(LABEL_CHANNELS, dim=1)
    return category, color
