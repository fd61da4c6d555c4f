"""Reads layouts leniently: from any text with something like a layout in it, with a note on all that was assumed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .layout import FORMAT_VERSION, MAX_OBJECTS, Layout, LayoutObject
from .layout_fields import Fields, Notes, read_camera, read_object
from .lenient_json import LenientValue, UnreadableError, read_value

MAX_TEXT = 1_000_000
# So many places of a text are tried. More braces than that are no layout's.
MAX_TRIES = 64
EXAMPLE = '{"objects": [{"name": "red car", "position_m": [0, 0, 6], "heading_deg": 90}]}'
_OBJECTS = ("objects", "things", "items", "entities", "elements", "scene_objects", "placements")
_AROUND = ("layout", "scene", "result", "output", "answer", "json")
_TOP_LEVEL = ("version", "camera", "cameras", "ground", "floor", "objects")


@dataclass(frozen=True)
class ReadLayout:
    """A layout, and what was assumed to read it."""

    layout: Layout
    # Sentences for the user. Empty for the strict form.
    notes: tuple[str, ...]


def read_layout(text: str) -> ReadLayout:
    """The layout in a text: the first one after what a model thinks aloud. Time is linear in the text.

    Raises ValueError, with the remedy and the beginning of the text, where there is none, and for a newer version.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"shorten the text: it has {len(text)} characters, and at most {MAX_TEXT} are read")
    found = _find(text)
    if found is None:
        raise ValueError(f"write a layout such as {EXAMPLE}: there is none in this text: {excerpt(text)}")
    value, body = found
    notes = Notes()
    if value.is_cut:
        notes.add("the text ended early, and what was complete was read")
    layout = _layout(body, value.is_cut, notes)
    if value.repeated:
        notes.add(f"given twice, and read once: {', '.join(repr(key[:40]) for key in dict.fromkeys(value.repeated))}")
    return ReadLayout(layout, notes.sentences())


def excerpt(text: str, length: int = 200) -> str:
    """The beginning of a text, on one line and in quotes."""
    plain = " ".join(text[: 4 * length].split())
    return repr(plain[:length] + ("..." if len(plain) > length else ""))


def _find(text: str) -> tuple[LenientValue, dict[str, Any]] | None:
    """The first value that is a layout, and it as a dict with "objects"."""
    thought_end = text.rfind("</think>")
    for part in (text[thought_end:], text) if thought_end >= 0 else (text,):
        for value in _values(part):
            body = _body(value.value)
            if body is not None:
                return value, body
    return None


def _values(text: str) -> Iterator[LenientValue]:
    at = 0
    for _ in range(MAX_TRIES):
        start = re.compile(r"[{\[]").search(text, at)
        if start is None:
            return
        try:
            value = read_value(text, start.start())
        except UnreadableError:
            at = start.end()
            continue
        yield value
        # Something else stands around a layout, such as a list of alternatives, or it is inside of what was read.
        at = start.end() if _body(value.value) is None and not value.is_cut else max(value.end, start.end())


def _body(value: Any, depth: int = 0) -> dict[str, Any] | None:
    """The dict of a layout that a value is, or holds under a known name."""
    if isinstance(value, list):
        things = [part for part in value if isinstance(part, dict)]
        if things and all(_is_thing(part) for part in things[:-1] or things):
            return {"objects": things}
        return _body(things[0], depth + 1) if things and depth < 2 else None
    if not isinstance(value, dict):
        return None
    fields = Fields(value)
    things = fields.peek(*_OBJECTS)
    if isinstance(things, (list, dict)):
        return value
    for name in _AROUND:
        inner = fields.peek(name)
        if depth < 3 and isinstance(inner, (dict, list)):
            found = _body(inner, depth + 1)
            if found is not None:
                return found
    if _is_thing(value):
        return {"objects": [value]}
    if fields.peek("camera") is not None and fields.peek("ground", "version") is not None:
        return value
    return None


def _is_thing(value: Any) -> bool:
    """Whether it is an object with a name and a place or size."""
    if not isinstance(value, dict):
        return False
    fields = Fields(value)
    named = isinstance(fields.peek("name", "object", "label", "shape", "type"), str)
    placed = fields.peek("position", "pos", "location", "size", "dimensions", "x", "z", "distance", "heading")
    return named and placed is not None


def _layout(body: dict[str, Any], is_cut: bool, notes: Notes) -> Layout:
    fields = Fields(body)
    _check_version(fields.take("version"))
    camera = read_camera(fields.take("camera", "cameras"), notes)
    ground = fields.take("ground", "floor")
    things = _things(fields.take(*_OBJECTS))
    if is_cut and things and not _is_thing(things[-1]):
        notes.add(f"object {len(things)} was left out: the text ended inside of it")
        things = things[:-1]
    notes.unused("the layout", fields)
    objects: list[LayoutObject] = []
    for number, thing in enumerate(things, 1):
        read = read_object(thing, number, objects, notes)
        if read is not None and read in objects:
            notes.add(f"{read.name!r} is there twice, at one place and with one size: it was read once")
        elif read is not None:
            objects.append(read)
        if len(objects) > MAX_OBJECTS:
            raise ValueError(f"remove objects: the layout has {len(things)}, and at most {MAX_OBJECTS} are possible")
    return Layout(camera, ground is not False and ground != 0, tuple(objects))


def _things(value: Any) -> list[Any]:
    """The objects of a list, or of a dict by their names."""
    if isinstance(value, dict):
        return [{"name": name, **thing} for name, thing in value.items() if isinstance(thing, dict)]
    return value if isinstance(value, list) else []


def _check_version(value: Any) -> None:
    number = re.match(r"\s*v?\s*(\d+(?:\.\d+)?)", str(value))
    if number and float(number.group(1)) >= FORMAT_VERSION + 1:
        raise ValueError(
            f"update ComfyUI-SpatialFusion: the layout has version {number.group(1)}, and this one reads up to "
            f"{FORMAT_VERSION}"
        )
