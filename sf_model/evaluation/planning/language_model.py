"""A language model from a folder of transformers, with the sampling of Plan Scene Layout. It never uses the network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...scaffold.layout_reading import excerpt
from ...scaffold.planning import MAX_TOKENS, SAMPLING

DTYPES = {"own": "auto", "fp32": torch.float32, "bf16": torch.bfloat16}


def check_folder(folder: Path) -> None:
    """ValueError for a folder without the files of a language model in safetensors."""
    needed = {"config.json": "config.json", "tokenizer.json": "tokenizer.json", "*.safetensors": "weights"}
    for pattern, what in needed.items():
        if not any(folder.glob(pattern)):
            raise ValueError(
                f"give a folder of a language model that transformers can load (config.json, tokenizer.json, "
                f"*.safetensors): {folder} has no {what}"
            )


class FolderModel:
    """Answers requests in batches. ValueError for a folder that transformers cannot load.

    A request is one turn of the user in the chat template of the folder, without thinking aloud where the template can
    leave it out. A model without a chat template continues the request. The same seed, batch and machine give the same
    answers.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        max_tokens: int = MAX_TOKENS,
        batch: int = 8,
        device: str | None = None,
        precision: str = "own",
    ) -> None:
        """max_tokens: the longest answer. precision: a key of DTYPES. device: None for an accelerator if any."""
        from transformers import AutoModelForCausalLM, AutoTokenizer  # slow to import, and only used here

        check_folder(folder)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.seed, self.max_tokens, self.batch = seed, max_tokens, batch
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
            model = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=DTYPES[precision], **options
            )
        except (OSError, KeyError, ValueError) as error:
            reason = excerpt(str(error), 300)
            raise ValueError(f"give a folder that transformers can load as a language model: {reason}") from error
        self.model = model.to(self.device).eval()
        if self.tokenizer.pad_token is None:
            # The attention mask hides it.
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.convert_ids_to_tokens(0)

    def __call__(self, requests: Sequence[str], attempt: int) -> list[str]:
        """The answers. attempt: from 0 on; each has its own seed."""
        answers: list[str] = []
        for start in range(0, len(requests), self.batch):
            answers += self._answer(requests[start : start + self.batch], self.seed + attempt + 1000 * start)
            print(f"attempt {attempt + 1}: {len(answers)} of {len(requests)} answers", file=sys.stderr, flush=True)
        return answers

    def _prompt(self, request: str) -> str:
        if self.tokenizer.chat_template is None:
            return request
        turn = [{"role": "user", "content": request}]
        return self.tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    @torch.no_grad()
    def _answer(self, requests: Sequence[str], seed: int) -> list[str]:
        has_template = self.tokenizer.chat_template is not None
        tokens = self.tokenizer(
            [self._prompt(request) for request in requests],
            return_tensors="pt",
            padding=True,
            add_special_tokens=not has_template,
        ).to(self.device)
        length = tokens["input_ids"].shape[1]
        with torch.random.fork_rng(devices=[] if self.device == "cpu" else None):
            torch.manual_seed(seed)
            written = self.model.generate(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                max_new_tokens=self._room(length),
                pad_token_id=self.tokenizer.pad_token_id,
                **SAMPLING,
            )
        return self.tokenizer.batch_decode(written[:, length:], skip_special_tokens=True)

    def _room(self, length: int) -> int:
        """How many tokens an answer can have. ValueError where the request leaves no room."""
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or length + self.max_tokens
        room = min(self.max_tokens, limit - length)
        if room < 1:
            raise ValueError(
                f"use a language model with a longer context: a request has {length} tokens, and this one reads {limit}"
            )
        return room
