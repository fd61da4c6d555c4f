"""Trains a small Qwen2-style byte-level BPE on captions of the synthetic world, and encodes documents with it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ... import world
from ...backbones.mini import END_TOKEN, PAD_TOKEN, START_TOKEN
from .number_tokens import added_tokens
from .sizes import MiniSizes

# Qwen2's own pre-tokenisation, so that the host's Qwen2Tokenizer splits text exactly as in training.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus(seed: int, size: int) -> Iterator[str]:
    """`size` captions, with equal numbers of every kind."""
    rng = random.Random(seed)
    for index in range(size):
        yield world.sample(rng, world.KINDS[index % len(world.KINDS)]).caption


def train_tokenizer(directory: Path, sizes: MiniSizes, seed: int) -> None:
    """Learn a vocabulary from `sizes.tokenizer_captions` captions and write a Qwen2 tokenizer directory.

    For a system with layouts it also has the tokens of `number_tokens`.
    """
    layout, vocab_size = sizes.spatialfusion.layout, sizes.decoder.vocab_size
    extra = [] if layout is None else added_tokens(layout.objects)
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
        vocab_size=vocab_size - len(extra),
        special_tokens=[PAD_TOKEN, START_TOKEN, END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed, sizes.tokenizer_captions), trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(directory))
    _write_config(directory, tokenizer.get_vocab(), extra)


def _write_config(directory: Path, vocabulary: dict[str, int], extra: list[tuple[str, bool, bool]]) -> None:
    """Written by hand, because transformers 4 cannot read the config that transformers 5 saves."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    special = [PAD_TOKEN, START_TOKEN, END_TOKEN]
    added = {str(index): {"content": token, **flags} for index, token in enumerate(special)}
    following = max(vocabulary.values()) + 1
    for text, takes_space, is_special in extra:
        index = vocabulary.get(text)
        if index is None:
            index, following = following, following + 1
        added[str(index)] = {"content": text, **flags, "lstrip": takes_space, "special": is_special}
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": added,
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
    names = ("vocab.json", "merges.txt", "tokenizer_config.json")
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
