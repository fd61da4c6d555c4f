"""The progress bar of a prediction, with the depth as it forms."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from PIL import Image

from ...sf_model.models.depth_prediction import DepthPrediction
from .images import depth_colours

# The host makes the picture smaller, not larger.
PREVIEW_SIDE_PX = 512


class LiveDepth:
    """Moves the node's progress bar layer by layer, shows the depth of each step on it, and stops on a cancel."""

    def __init__(self, layers: int, shows_pictures: bool) -> None:
        """layers: of all passes of all scenes together."""
        self._bar = comfy.utils.ProgressBar(layers)
        self._shows_pictures = shows_pictures

    def on_layer(self) -> None:
        """After each layer."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.update(1)

    def on_prediction(self, prediction: DepthPrediction) -> None:
        """After each step: shows its first scene, as Predict Metric Depth shows the result."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._shows_pictures:
            colours = depth_colours(prediction.to_metric_depth()[:1])[0]
            picture = Image.fromarray((255 * colours).round().to("cpu", torch.uint8).numpy())
            self._bar.update_absolute(self._bar.current, preview=("JPEG", picture, PREVIEW_SIDE_PX))
