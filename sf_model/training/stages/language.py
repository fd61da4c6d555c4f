"""The MLLM of a base that is trained from scratch, and the layout's expert beside it, on text alone.

The expert reads the MLLM's keys and values, and its loss trains both: so the prompt's keys and values carry the layout
before anything is drawn. Heads on single tokens and on the registers say what the caption says, which is learned first.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from ...models.expert_inputs import ExpertInputs
from ...models.layout import layout_of, state_weight
from ...models.layout_predictor import LayoutSampling, layout_loss_weight, layout_noise
from ..bases.qwen2 import decoder_states
from ..batch import Batch, repeated
from ..draws import draw_layout
from ..flow import interpolate
from ..layout_figures import layout_figures
from ..losses import Losses
from ..mention_heads import RegisterHeads, TokenHeads
from ..settings import StageSettings
from ..sheets import Sheet
from ..system import System
from .stage import Stage

# Tokens are labelled after so many of the MLLM's layers.
LABELLED_LAYERS = 3
ANSWER_WEIGHT = 0.3
LAYOUT_WEIGHT = 10.0
SHEET_LAYOUT_SEED = 0


class LanguageStage(Stage):
    """Documents of `data.documents`."""

    name = "language"
    learns = ("system.base.text_encoder.", "system.predictor.layout.", "heads.")
    waits = ()
    independent_of = ("autoencoder",)
    built_from = ("tokenizer_captions", "decoder", "layout")
    unused = ("transformer", "vae")

    def __init__(self, system: System, settings: StageSettings) -> None:
        if system.predictor.layout is None:
            raise ValueError("give system.spatialfusion a layout: the stage 'language' trains its expert")
        mllm, width = system.config.mllm, system.base.text_encoder.config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            heads = {
                "register_values": RegisterHeads(mllm.num_kv_heads * mllm.head_dim),
                "register_states": RegisterHeads(width),
                "tokens": TokenHeads(width, system.config.layout.objects),
            }
        super().__init__(system, settings)
        self.heads = nn.ModuleDict(heads)

    def losses(self, batch: Batch) -> Losses:
        read = decoder_states(self.system.base.text_encoder, batch["input_ids"])
        values = read.keys_values[-1][1].transpose(1, 2).flatten(2)
        losses: Losses = {}
        for name, states in (("register_values", values), ("register_states", read.last)):
            parts = self.heads[name].losses(_at(states, batch["registers"]), batch)
            losses |= {f"{name}_{part}": value for part, value in parts.items()}
        middle = min(LABELLED_LAYERS, len(read.keys_values) - 1)
        losses |= self.heads["tokens"].losses(read.after[middle], batch)
        losses["layout"] = LAYOUT_WEIGHT * self._layout_loss(batch, read.keys_values)
        if bool(batch["answer_mask"].any()):
            losses["answer"] = ANSWER_WEIGHT * self._answer_loss(batch, read.last)
        return {"loss": sum(losses.values()), **losses}

    def _answer_loss(self, batch: Batch, states: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the layout's text, a mean over its tokens."""
        targets = batch["input_ids"][:, 1:].masked_fill(~batch["answer_mask"][:, 1:], -100)
        logits = self.system.base.text_encoder.lm_head(states[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)

    def _layout_loss(self, batch: Batch, keys_values: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Flow matching of the layout, with several draws for each caption."""
        settings, predictor = self.settings.documents, self.system.predictor.layout
        count = settings.draws
        inputs = self._inputs(batch, keys_values, count)
        names = ("layout_state", "present", "noise_seed", "source_state")
        known = repeated({name: batch[name] for name in names if name in batch}, count)
        state = known["layout_state"]
        drawn = draw_layout(known["noise_seed"], state, settings)
        noisy = interpolate(state, drawn.noise, drawn.time)
        clean = predictor(inputs.without_prompt(drawn.no_prompt), noisy, drawn.time, known.get("source_state"))
        weight = state_weight(known["present"], len(predictor.config.categories), len(predictor.config.colors))
        error = (weight * (clean - state).square()).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
        return (layout_loss_weight(drawn.time) * error).mean()

    def _inputs(
        self, batch: Batch, keys_values: list[tuple[torch.Tensor, torch.Tensor]], copies: int = 1
    ) -> ExpertInputs:
        """The prompts without their answers."""
        length = int(batch["registers"].max()) + 1
        pairs = [
            (key[:, :, :length].repeat_interleave(copies, dim=0), value[:, :, :length].repeat_interleave(copies, dim=0))
            for key, value in keys_values
        ]
        mask = batch["prompt_mask"][:, :length].repeat_interleave(copies, dim=0)
        return ExpertInputs(pairs, 1, 1, prompt_mask=mask)

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        """Losses of held-out documents, and how well a drawn layout agrees with the true one, object by object."""
        losses = self.losses(batch)
        metrics = {
            name: losses[name].item() for name in ("layout", "answer", "register_values_shown", "register_states_shown")
        }
        predictor = self.system.predictor.layout
        read = decoder_states(self.system.base.text_encoder, batch["input_ids"])
        noise = layout_noise(predictor.noise_shape(len(batch["present"])), SHEET_LAYOUT_SEED)
        sampling = LayoutSampling(noise.to(batch["present"].device), guidance=1.0)
        drawn = predictor.sample(self._inputs(batch, read.keys_values), sampling)
        true = layout_of(batch["layout_state"], len(predictor.config.categories))
        ending = "_fixed" if bool(batch["is_fixed"].all()) else ""
        metrics = {**metrics, **layout_figures(drawn, true, batch["present"])}
        return Sheet([], {f"{name}{ending}": value for name, value in metrics.items()}, len(batch["present"]))


def _at(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, 1 + N, D): the states (B, T, D) at places (B, 1 + N)."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
