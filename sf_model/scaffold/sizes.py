"""The table of typical sizes, sizes.csv, and how a thing's name is found in it."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("sizes.csv")
# What follows one of these words tells where the thing is or what it has, not what it is.
_TAILS = ("in", "on", "at", "with", "near", "by", "under", "behind", "beside", "wearing", "holding", "facing", "made")
_TAIL = re.compile(rf"[,;(].*|\s(?:{'|'.join(_TAILS)}|from|for|and|that|who|which|next|standing|parked)\b.*")
_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "geese": "goose",
}
_IRREGULAR |= {"wolves": "wolf", "shelves": "shelf", "knives": "knife", "leaves": "leaf", "sheep": "sheep"}


@dataclass(frozen=True)
class TypicalSize:
    """A row of the table."""

    name: str
    synonyms: tuple[str, ...]
    # A name of `shapes.named_shapes()`.
    shape: str
    # (width, height, length).
    size_m: tuple[float, float, float]
    # The publication or the example that the row was rounded from. "judged": there is none.
    source: str


@functools.cache
def size_table() -> tuple[TypicalSize, ...]:
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            TypicalSize(
                row["name"],
                tuple(word for word in row["synonyms"].split("|") if word),
                row["shape"],
                (float(row["width_m"]), float(row["height_m"]), float(row["length_m"])),
                row["source"],
            )
            for row in csv.DictReader(stream)
        )


@functools.cache
def _by_words() -> dict[str, TypicalSize]:
    return {plain_name(words): row for row in size_table() for words in (row.name, *row.synonyms)}


def plain_name(text: str, keep_lines: bool = False) -> str:
    """Small letters, with single spaces for hyphens, underscores and other spaces. keep_lines: ends of lines stay."""
    return re.sub(r"[_\- \t\r\f\v]+" if keep_lines else r"[_\-\s]+", " ", text.lower()).strip()


def typical_size(name: str) -> TypicalSize | None:
    """The row for a thing's name, as in "a big red sports car in the rain". None if the table has none.

    The longest group of words that ends the name is taken, without what follows a comma or a word such as "with". A
    name with "of" ("cup of coffee") is what stands before it.
    """
    text = re.sub(r"^(?:an?|the|one|some|my|his|her)\s", "", plain_name(name[:200]))
    if text in _by_words():
        return _by_words()[text]
    head = _TAIL.sub("", text).strip()
    return _ending(head) or _ending(head.split(" of ")[0].strip())


def _ending(text: str) -> TypicalSize | None:
    words = re.sub(r"\s*#?\b\d+$", "", text).split()
    for first in range(len(words)):
        for ending in _singulars(words[first:]):
            if ending in _by_words():
                return _by_words()[ending]
    return None


def _singulars(words: list[str]) -> list[str]:
    """The words as they are, and with the last one in the singular."""
    last, before = words[-1], words[:-1]
    forms = [last, _IRREGULAR.get(last, last)]
    for ending, replacement in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if last.endswith(ending) and len(last) > len(ending) + 2:
            forms.append(last[: -len(ending)] + replacement)
    return [" ".join([*before, form]) for form in forms]
