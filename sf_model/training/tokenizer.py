"""A small Qwen2-style byte-level BPE, learned from the world's captions, and its use on batches of prompts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from .. import world
from ..backbones.mini import END_TOKEN, PAD_TOKEN, PAD_TOKEN_ID, PROMPT_TEMPLATE, START_TOKEN

# Qwen2's own pre-tokenisation, so that the host's Qwen2Tokenizer splits text exactly as in training.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS_SIZE = 20_000


def corpus(seed: int, size: int = CORPUS_SIZE) -> Iterator[str]:
    """Captions of every kind in equal parts."""
    rng = random.Random(seed)
    for index in range(size):
        yield world.sample(rng, world.KINDS[index % len(world.KINDS)]).caption


def train_tokenizer(directory: Path, vocab_size: int, seed: int, size: int = CORPUS_SIZE) -> None:
    """Learn a vocabulary of at most `vocab_size` and write a Qwen2 tokenizer directory."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD_TOKEN, START_TOKEN, END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed, size), trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(directory))
    _write_config(directory)


def _write_config(directory: Path) -> None:
    """By hand: what transformers 5 saves, transformers 4 cannot read; both read this, and vocab.json and merges.txt."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    special = [PAD_TOKEN, START_TOKEN, END_TOKEN]
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(index): {"content": token, **flags} for index, token in enumerate(special)},
        "additional_special_tokens": [START_TOKEN, END_TOKEN],
        "pad_token": PAD_TOKEN,
        "eos_token": PAD_TOKEN,
        "unk_token": PAD_TOKEN,
        "bos_token": None,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def same_vocabulary(first: Path, second: Path) -> bool:
    """Whether two tokenizer directories give every text the same ids."""
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in ("vocab.json", "merges.txt"))


def load_tokenizer(directory: Path) -> Qwen2Tokenizer:
    return Qwen2Tokenizer.from_pretrained(str(directory), local_files_only=True)


def encode_prompts(tokenizer: Qwen2Tokenizer, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, S) and mask (B, S) bool of the prompts in the MLLM's template, padded on the right."""
    return encode_documents(tokenizer, [[prompt] for prompt in prompts])


def encode_documents(
    tokenizer: Qwen2Tokenizer, documents: Sequence[Sequence[str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for documents of several texts each, one after another."""
    rows = [tokenizer("".join(map(PROMPT_TEMPLATE.format, texts)))["input_ids"] for texts in documents]
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), PAD_TOKEN_ID)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = True
    return ids, mask
