"""The MLLM of a base that is trained from scratch. It learns spatial language, which a pretrained MLLM knows."""

from __future__ import annotations

from ..batch import Batch
from ..losses import Losses, language_loss
from ..sheets import Sheet
from .stage import Stage


class LanguageStage(Stage):
    """Next-token loss on documents without images (`data.world.DocumentBatches`)."""

    name = "language"
    learns = ("system.base.text_encoder.",)
    unused = ("transformer",)

    def losses(self, batch: Batch) -> Losses:
        logits = self.system.base.text_encoder(input_ids=batch["language_ids"], use_cache=False).logits
        return {"loss": language_loss(logits, batch["language_ids"], batch["language_mask"])}

    def sheet(self, batch: Batch, pictures: bool) -> Sheet:
        return Sheet([], {"language": self.losses(batch)["loss"].item()}, len(batch["language_ids"]))
