"""Reads JSON as people and language models write it.

Beyond JSON it takes comments (//, #, /* */), trailing and missing commas, keys and words without quotes, single and
curly quotes, True, False, None, NaN and Infinity (as None), numbers as in "+1", ".5" and "5.", units after numbers
("1.8 m" is then a string), "..." in lists, and text that ends too early: what is complete is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

MAX_NESTING = 32
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201d", "`": "`"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_SPACE = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z)|\.\.\.|\u2026)+", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BARE = re.compile(r"[^\s,:;()\[\]{}\"]+(?:[ \t]+[^\s,:;()\[\]{}\"#/]+)*")
_BARE_KEY = re.compile(r"[^\s,:=\[\]{}\"']+")
_WORDS = {"true": True, "false": False, "null": None, "none": None, "nan": None, "infinity": None, "inf": None}
_WORDS |= {"-infinity": None, "-inf": None, "yes": True, "no": False, "undefined": None}


class UnreadableError(ValueError):
    """No value starts here."""


@dataclass
class LenientValue:
    """A value that was read."""

    value: Any
    # Where the text after it begins.
    end: int
    # Whether the text ended inside of the value.
    is_cut: bool = False
    # Keys that an object had more than once. The first value was kept.
    repeated: list[str] = field(default_factory=list)


class _CutError(Exception):
    """The text ended. `value` is what was complete, or `_NOTHING`."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


_NOTHING = object()


def _is_worth_keeping(cut: Any) -> bool:
    """Whether a value that the text's end cut is kept: an object, or a list of objects or lists. A cut word, number or
    list of numbers would be another one."""
    return isinstance(cut, dict) or (isinstance(cut, list) and any(isinstance(part, (dict, list)) for part in cut))


def read_value(text: str, start: int = 0) -> LenientValue:
    """The object or list at `start`, which must be "{" or "[". Takes linear time. UnreadableError if it is none."""
    reader = _Reader(text, start)
    try:
        value = reader.value(0)
    except _CutError as cut:
        if cut.value is _NOTHING:
            raise UnreadableError("the text ends before the first value") from None
        return LenientValue(cut.value, len(text), True, reader.repeated)
    return LenientValue(value, reader.at, False, reader.repeated)


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at
        self.repeated: list[str] = []

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        if found:
            self.at = found.end()
        if self.at >= len(self.text):
            raise _CutError(_NOTHING)

    def value(self, depth: int) -> Any:
        self.skip()
        if depth > MAX_NESTING:
            raise UnreadableError(f"values are nested more than {MAX_NESTING} deep")
        first = self.text[self.at]
        if first == "{":
            return self.object(depth)
        if first in "[(":
            return self.list(depth, "]" if first == "[" else ")")
        if first in _QUOTES:
            return self.string()
        return self.bare()

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        try:
            while True:
                self.skip()
                if self.text[self.at] == "}":
                    self.at += 1
                    return found
                if self.text[self.at] in ",;":
                    self.at += 1
                    continue
                self.member(found, depth)
        except _CutError:
            raise _CutError(found) from None

    def member(self, found: dict[str, Any], depth: int) -> None:
        key = self.string() if self.text[self.at] in _QUOTES else self.bare_key()
        self.skip()
        if self.text[self.at] not in ":=":
            raise UnreadableError(f"there is no colon after {key[:40]!r}")
        self.at += 2 if self.text.startswith("=>", self.at) else 1
        try:
            value = self.value(depth + 1)
        except _CutError as cut:
            if _is_worth_keeping(cut.value):
                found.setdefault(key, cut.value)
            raise
        if key in found:
            self.repeated.append(key)
        else:
            found[key] = value

    def list(self, depth: int, closing: str) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        try:
            while True:
                self.skip()
                if self.text[self.at] == closing:
                    self.at += 1
                    return found
                if self.text[self.at] in ",;":
                    self.at += 1
                    continue
                if self.text[self.at] in "}])":
                    return found  # closed by what closes something around it
                found.append(self.value(depth + 1))
        except _CutError as cut:
            if _is_worth_keeping(cut.value):
                found.append(cut.value)
            raise _CutError(found) from None

    def string(self) -> str:
        closing = _QUOTES[self.text[self.at]]
        self.at += 1
        parts: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == closing:
                if character == "'" and self.inside_word():
                    parts.append(character)
                    continue
                return "".join(parts)
            parts.append(self.escape() if character == "\\" else character)
        raise _CutError(_NOTHING)

    def inside_word(self) -> bool:
        """Whether the quote that was read is the apostrophe of "it's"."""
        around = self.text[self.at - 2 : self.at - 1], self.text[self.at : self.at + 1]
        return all(part.isalpha() for part in around)

    def escape(self) -> str:
        if self.at >= len(self.text):
            raise _CutError(_NOTHING)
        character = self.text[self.at]
        self.at += 1
        if character != "u":
            return _ESCAPES.get(character, character)
        digits = self.text[self.at : self.at + 4]
        if not re.fullmatch("[0-9a-fA-F]{4}", digits):
            return "u"
        self.at += 4
        code = int(digits, 16)
        if 0xD800 <= code < 0xDC00 and re.match(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", self.text[self.at : self.at + 6]):
            low = int(self.text[self.at + 2 : self.at + 6], 16)
            self.at += 6
            return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

    def bare(self) -> Any:
        """A number, a known word, or text without quotes."""
        found = _BARE.match(self.text, self.at)
        if not found:
            raise UnreadableError(f"there is no value before {self.text[self.at : self.at + 20]!r}")
        self.at = found.end()
        if self.at >= len(self.text):
            raise _CutError(_NOTHING)
        word = found.group().strip()
        if _NUMBER.fullmatch(word):
            number = float(word)
            return number if abs(number) < 1e30 else None
        return _WORDS.get(word.lower(), word)

    def bare_key(self) -> str:
        found = _BARE_KEY.match(self.text, self.at)
        if not found:
            raise UnreadableError(f"there is no name before {self.text[self.at : self.at + 20]!r}")
        self.at = found.end()
        return found.group()
