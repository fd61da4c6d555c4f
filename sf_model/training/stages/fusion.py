"""Stage 2: the adapter, the spatial transformer, and the diffusion transformer in full or as a LoRA."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...depth.colours import depth_picture
from ...depth.metric_depth import MetricDepth
from ...models.depth_prediction import DepthPrediction
from ...models.expert_inputs import ExpertInputs
from ..bases.base import Prompt
from ..bases.lora import add_lora, is_lora
from ..batch import Batch, true_depth
from ..draws import SCAFFOLD_SEED, draw_share
from ..losses import Losses
from ..settings import StageSettings
from ..sheets import Sheet
from ..system import System
from .image import ImageStage, KnownImage
from .stage import LAYOUT, SEES_SOURCES


class FusionStage(ImageStage):
    """L_diffusion + depth_weight * L_depth. The adapter's depth (the scaffold) is predicted in every step."""

    name = "stage2"
    learns = ("system.predictor.", "system.adapter.", "system.base.transformer.")
    waits = (*SEES_SOURCES, LAYOUT)

    def __init__(self, system: System, settings: StageSettings) -> None:
        fusion = settings.fusion
        if fusion.lora_rank is None:
            system.base.transformer.float()
        else:
            rank_and_alpha = fusion.lora_rank, fusion.lora_alpha
            add_lora(system.base.transformer, system.base.lora_targets, *rank_and_alpha, settings.loop.seed)
        super().__init__(system, settings)

    def _freeze(self) -> None:
        super()._freeze()
        fusion = self.settings.fusion
        for name, value in self.named_parameters():
            if fusion.freeze_predictor and name.startswith("system.predictor."):
                value.requires_grad_(False)
            if fusion.lora_rank is not None and name.startswith("system.base.") and not is_lora(name):
                value.requires_grad_(False)

    def losses(self, batch: Batch) -> Losses:
        known = self.known(batch)
        scaffold, losses = self._scaffold(batch, known)
        features = self.system.features(scaffold, known.latent).repeated(self.settings.diffusion.draws)
        batch, known = self.repeated(batch, known)
        drawn = self.drawn(batch, known)
        known = self.with_dropped_captions(batch, known, drawn)
        features = features.where(~drawn.no_depth)
        flow = self.flow_loss(known, drawn, features)
        loss = flow + self.settings.fusion.depth_weight * losses.get("depth", 0.0)
        return {"loss": loss, "flow": flow, **losses}

    def _scaffold(self, batch: Batch, known: KnownImage) -> tuple[MetricDepth, Losses]:
        """The adapter's depth, and the losses of its prediction (none if the predictor does not learn)."""
        fusion, truth = self.settings.fusion, true_depth(batch)
        is_true = draw_share(batch["noise_seed"], fusion.true_depth, SCAFFOLD_SEED).to(truth.depth.device)
        if fusion.freeze_predictor:
            # Only those that are used: the predictor takes as long as the diffusion transformer.
            rows = (~is_true).nonzero()[:, 0]
            if not len(rows):
                return truth, {}
            chosen = {name: value[rows] for name, value in batch.items()}
            with torch.no_grad():
                predicted, _ = self._predicted_depth(chosen, known.prompt.rows(rows))
            return truth.with_rows(rows, predicted), {}
        predicted, losses = self._predicted_depth(batch, known.prompt)
        rows = is_true.nonzero()[:, 0]
        return (predicted.with_rows(rows, truth[rows]) if len(rows) else predicted), losses

    def _predicted_depth(self, batch: Batch, prompt: Prompt) -> tuple[MetricDepth, Losses]:
        inputs = self.inputs(batch, prompt)
        prediction, losses, is_given = self.predicted(batch, inputs)
        if is_given is not None and self.system.config.depth_flow.mean_first:
            prediction = self._with_mean_confidence(inputs, prediction, is_given)
        return prediction.to_metric_depth(), losses

    def _with_mean_confidence(
        self, inputs: ExpertInputs, prediction: DepthPrediction, is_given: torch.Tensor
    ) -> DepthPrediction:
        """What the adapter gets in use: beside a given depth (B,) bool, the confidence of the mean."""
        with torch.no_grad():
            confidence = self.system.mean_depth(inputs).confidence_logit
        confidence = torch.where(is_given[:, None, None], confidence, prediction.confidence_logit)
        return replace(prediction, confidence_logit=confidence)

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """True image | (source) | true depth | mean depth | (with a depth flow) sampled depth | image from the last.

        The flow loss is measured with the mean depth, with another sample's depth, and without depth. If the three
        differ, the adapter is used.
        """
        known = self.known(batch)
        drawn = self.sheet_draws(batch, known)
        shown, metrics = self.sheet_depths(batch, known.prompt)
        depths = [prediction.to_metric_depth() for prediction in shown]
        features = self.system.features(depths[0], known.latent)
        variants = {"flow": features, "flow_shuffled_depth": features.rolled(), "flow_without_depth": None}
        for name, variant in variants.items():
            metrics[name] = self.flow_loss(known, drawn, variant).item()
        columns = []
        if pictures:
            image = self.drawn_image(batch, known, drawn, self.system.features(depths[-1], known.latent))
            columns = [*self.known_columns(batch), *(depth_picture(depth) for depth in depths), image]
        return Sheet([column.float().cpu() for column in columns], metrics, len(drawn.time))
