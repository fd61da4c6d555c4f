"""Captions -> token ids, in a base's templates. It needs no weights, so that worker processes can use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2TokenizerFast


@dataclass(frozen=True)
class PromptTokens:
    """`template` has one {} for the caption. `edit_template` is for edits whose source image the MLLM sees."""

    tokenizer: Qwen2TokenizerFast
    template: str
    edit_template: str | None

    def ids(self, text: str, is_edit: bool) -> list[int]:
        """Token ids of one prompt. A source image is one placeholder token."""
        template = self.edit_template if is_edit and self.edit_template is not None else self.template
        return self.tokenizer(template.replace("{}", text))["input_ids"]

    def batch(self, texts: Sequence[str], is_edit: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids (B, S) and mask (B, S) bool of the texts, padded on the right."""
        rows = [torch.tensor(self.ids(text, is_edit)) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad_sequence(rows, batch_first=True)
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]


def load_tokenizer(folder: Path) -> Qwen2TokenizerFast:
    return Qwen2TokenizerFast.from_pretrained(str(folder), local_files_only=True)
