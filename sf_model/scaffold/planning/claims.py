"""What a prompt says about the places, headings and sizes of a layout's objects, as claims that can be checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..quantities import METRES, WORD_NUMBERS
from ..sizes import plain_name
from .claim_patterns import FIRST, PAIRS, SINGLES, TOGETHER, Pattern

MAX_PROMPT = 20_000
_SIDES = {"front": 0.0, "right": 90.0, "back": 180.0, "behind": 180.0, "left": 270.0}
_SIZES = frozenset(
    (
        "height",
        "width",
        "length",
        "height_ratio",
        "volume_ratio",
        "taller_m",
        "wider_m",
        "longer_m",
        "taller",
        "smaller",
    )
)
_CAMERA = re.compile(
    r"(?<!to the )(?<!from the )(?<!at the )(?<!towards the )(?<!facing the )(?<!of the )(?:camera|lens)\b"
)
# Words that are no names, though an object may be called so.
_NO_NAMES = frozenset(("camera", "left", "right", "front", "back", "view", "side", "one", "two", "person's"))


@dataclass(frozen=True)
class Claim:
    """One thing that the words say."""

    # A kind of `claim_patterns`.
    kind: str
    # Index of the object that it is about.
    subject: int
    # Index of the object that it is compared with.
    reference: int | None = None
    # Metres, degrees or a ratio, by kind.
    value: float | None = None
    # The words.
    words: str = ""


_SENTENCE = re.compile(r"(?<!\d)[.!?](?=\s|$)|(?<=\d)[.!?](?=\s+[^\d\s]|\s*$)|;|\n")


def find_claims(prompt: str, names: Sequence[str]) -> tuple[Claim, ...]:
    """The claims of a prompt about objects with these names, in the order of their kinds and places.

    A name that the prompt does not have, or that several objects have, has no claims.
    """
    found: dict[tuple[str, int, int | None], Claim] = {}
    last: str | None = None
    for sentence in _SENTENCE.split(_with_mentions(prompt[:MAX_PROMPT], names)):
        own = re.search(r"<\d+>", sentence)
        last = last or (own.group() if own else None)
        text = re.sub(r"\s+", " ", re.sub(r"\bit\b", last or "it", sentence)).strip()
        # "It" is what the sentence before was about.
        last = own.group() if own else last
        for claim in _claims_of(text, names):
            found.setdefault((claim.kind, claim.subject, claim.reference), claim)
    return tuple(found.values())


def _with_mentions(prompt: str, names: Sequence[str]) -> str:
    """The prompt in small letters, with <k> for each object k that it names."""
    text = plain_name(prompt, keep_lines=True)
    phrases: dict[str, set[int]] = {}
    for index, name in enumerate(names):
        words = re.sub(r"^(?:an?|the) ", "", plain_name(name)).split()
        for first in range(len(words)):
            phrases.setdefault(" ".join(words[first:]), set()).add(index)
    for phrase in sorted(phrases, key=len, reverse=True):
        owners = phrases[phrase]
        if len(owners) == 1 and len(phrase) > 1 and phrase not in _NO_NAMES:
            pattern = rf"(?<![\w<])(?:(?:an?|the|one|this|that|his|her|my|its) )?{re.escape(phrase)}(?![\w>])"
            text = re.sub(pattern, f"<{next(iter(owners))}>", text)
    return text


class _Text:
    """A sentence, of which the patterns use up parts."""

    def __init__(self, text: str) -> None:
        self.text = self.free = text
        # Where the mentions end that are the reference of a claim.
        self.references: set[int] = set()

    def matches(self, patterns: Sequence[Pattern]) -> Iterator[tuple[str, re.Match[str], float | None]]:
        for kind, pattern, value in patterns:
            for match in re.finditer(pattern, self.free):
                yield kind, match, value
                blank = "\0" * (match.end() - match.start())
                self.free = self.free[: match.start()] + blank + self.free[match.end() :]

    def subject(self, start: int, end: int, reference: int | None, is_size: bool = False) -> int | None:
        """The object that a claim at [start, end) is about: the last one before it that is no claim's reference.

        "2 m tall <0>" and "behind <1> stands <0>" have it after the claim. A size belongs to the word just before it.
        """
        adjacent = re.search(r"<(\d+)>(?: is| was)? $", self.text[:start])
        if adjacent and is_size and int(adjacent.group(1)) != reference:
            return int(adjacent.group(1))
        following = re.match(r" ?(?:\w+ ){0,2}<(\d+)>", self.text[end:])
        if following and re.search(r"(?:tall|high|wide|long|deep|broad)$", self.text[start:end]):
            return int(following.group(1))
        before = [m for m in re.finditer(r"<(\d+)>", self.text[:start]) if m.end() not in self.references]
        after = list(re.finditer(r"<(\d+)>", self.text[end:]))
        ordered = [int(m.group(1)) for m in (*reversed(before), *after)]
        return next((index for index in ordered if index != reference), None)


def _claims_of(sentence: str, names: Sequence[str]) -> Iterator[Claim]:
    text = _Text(sentence)
    for kind, match, value in text.matches(FIRST):
        subject = _index(match, "ref")
        if subject is None:
            subject = text.subject(match.start(), match.end(), None)
        for index in _all_of(sentence, subject):
            yield Claim(kind, index, None, _value(match, value), _said(match, names))
    for kind, match, value in text.matches(PAIRS):
        reference, subject = _index(match, "ref"), _index(match, "sub")
        if subject is None:
            subject = text.subject(match.start(), match.end(), reference, kind in _SIZES)
        text.references.add(match.end("ref"))
        if subject is not None:
            yield Claim(kind, subject, reference, _value(match, value), _said(match, names))
    for kind, match, value in text.matches(TOGETHER):
        pair = _pair(sentence, match)
        if pair is not None:
            yield Claim(kind, *pair, _value(match, value), _said(match, names))
    for kind, match, value in text.matches(SINGLES):
        subject = text.subject(match.start(), match.end(), None, kind in _SIZES)
        if subject is not None and not _is_of_the_camera(sentence, match.start()):
            for index in _all_of(sentence, subject) if kind == "facing" else [subject]:
                yield Claim(kind, index, None, _value(match, value), _said(match, names))


def _is_of_the_camera(text: str, at: int) -> bool:
    """Whether the last noun before `at` is the camera, as in "camera 1.5 m high", and not "facing the camera"."""
    own = [m.end() for m in _CAMERA.finditer(text, 0, at)]
    return bool(own) and own[-1] > text.rfind("<", 0, at)


def _index(match: re.Match[str], group: str) -> int | None:
    found = match.groupdict().get(group)
    return int(found[1:-1]) if found else None


def _pair(sentence: str, match: re.Match[str]) -> tuple[int, int] | None:
    """The two objects that a claim joins: those before it, or the first two of the sentence; its subject first."""
    named = [int(k) for k in re.findall(r"<(\d+)>", sentence[: match.end()])]
    named = named if len(set(named)) > 1 else [int(k) for k in re.findall(r"<(\d+)>", sentence)]
    subject = _index(match, "sub")
    if subject is None and len(set(named)) > 1:
        subject = named[-1]
    others = [index for index in named if index != subject]
    return (subject, others[-1]) if subject is not None and others else None


def _all_of(sentence: str, subject: int | None) -> list[int]:
    """The objects of "<0>, <1> and <2>" that end with the subject."""
    listed = re.search(rf"((?:<\d+>(?:, | and |, and ))*)<{subject}>", sentence)
    return [int(k) for k in re.findall(r"<(\d+)>", listed.group())] if listed else []


def _value(match: re.Match[str], usual: float | None) -> float | None:
    groups = match.groupdict()
    if groups.get("side"):
        return _SIDES[groups["side"]]
    if "times" in groups:
        return _times(groups["times"])
    for number, unit in (("n", "u"), ("n2", "u2")):
        if groups.get(number):
            return number_word(groups[number]) * METRES[groups[unit]]
    return usual


def _times(words: str | None) -> float:
    plain = (words or "").strip()
    special = {"": 1.0, "twice": 2.0, "half": 0.5, "thrice": 3.0}
    return special[plain] if plain in special else number_word(plain.removesuffix(" times"))


def number_word(text: str) -> float:
    """A number in digits or words, as the patterns here find it."""
    plain = text.strip().removesuffix(" a").removesuffix(" an").strip()
    return WORD_NUMBERS[plain] if plain in WORD_NUMBERS else float(plain)


def _said(match: re.Match[str], names: Sequence[str]) -> str:
    return re.sub(r"<(\d+)>", lambda m: f"'{names[int(m.group(1))][:40]}'", match.group()).strip()
