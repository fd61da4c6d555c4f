"""The camera and the objects of a leniently written layout: other names of fields, units, words and missing values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from .layout import (
    MAX_CAMERA_HEIGHT_M,
    MAX_FOV_DEG,
    MAX_NAME_LENGTH,
    MAX_POSITION_M,
    MAX_SIZE_M,
    MIN_FOV_DEG,
    MIN_SIZE_M,
    LayoutCamera,
    LayoutObject,
    fov_of_lens,
)
from .quantities import METRES, degrees_of, metres_of, number_of
from .shapes import named_shapes
from .sizes import typical_size

MAX_NOTES = 200
UNKNOWN_SIZE_M = (1.0, 1.0, 1.0)
_LENGTH_UNITS = ("m", "cm", "mm", "km", "ft", "in", "metres", "meters", "inches", "feet")
_UNIT_ENDING = re.compile(rf"_({'|'.join(_LENGTH_UNITS)}|deg|degrees|rad|radians)$")
_HEADINGS = {
    **dict.fromkeys(("camera", "viewer", "front", "forward", "forwards", "us", "me", "south"), 0.0),
    **dict.fromkeys(("right", "east"), 90.0),
    **dict.fromkeys(("away", "back", "backward", "backwards", "behind", "north"), 180.0),
    **dict.fromkeys(("left", "west"), 270.0),
}
_COLOURS = ("color", "colour")
_SIZE_NAMES = (("width", "w"), ("height", "h", "tall"), ("length", "l", "depth", "d"))


class Notes:
    """Sentences for the user, each once."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}
        self._unused: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        self._sentences[sentence] = None

    def unused(self, owner: str, fields: Fields) -> None:
        for key in fields.left():
            self._unused[f"{key[:40]!r} of {owner}"] = None

    def sentences(self) -> tuple[str, ...]:
        found = list(self._sentences)
        if self._unused:
            found.append(f"not used: {', '.join(list(self._unused)[:20])}")
        return tuple(found[:MAX_NOTES])


class Fields:
    """The fields of a dict by names without case, underscores and units: "Position_cm" is "position"."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._fields: dict[str, tuple[str, Any, str]] = {}
        for key, field in value.items():
            name = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s\-]+", "_", str(key)).lower().strip("_")
            unit = _UNIT_ENDING.search(name)
            plain = name[: unit.start()] if unit else name
            self._fields.setdefault(plain, (str(key), field, unit.group(1) if unit else ""))
        self._taken: set[str] = set()

    def peek(self, *names: str) -> Any:
        return next((self._fields[name][1] for name in names if name in self._fields), None)

    def take(self, *names: str) -> Any:
        """The first of these fields that has a value. All of them count as used."""
        return self.take_with_unit(*names)[0]

    def take_with_unit(self, *names: str) -> tuple[Any, str]:
        """The same with the unit in the field's name, or ""."""
        found: tuple[Any, str] = (None, "")
        for name in names:
            if name in self._fields:
                self._taken.add(name)
                _, value, unit = self._fields[name]
                if found[0] is None:
                    found = (value, unit)
        return found

    def take_metres(self, *names: str) -> float | None:
        value, unit = self.take_with_unit(*names)
        return metres_of(value, METRES.get(unit, 1.0))

    def take_degrees(self, *names: str) -> float | None:
        value, unit = self.take_with_unit(*names)
        return degrees_of(value, math.degrees(1.0) if unit.startswith("rad") else 1.0)

    def left(self) -> list[str]:
        """The keys of fields that nothing took."""
        return [key for name, (key, _, _) in self._fields.items() if name not in self._taken]


def read_camera(value: Any, notes: Notes) -> LayoutCamera:
    """The camera of a layout. What is missing or impossible is taken from `LayoutCamera()`, with a note."""
    if isinstance(value, list) and value:
        if len(value) > 1:
            notes.add(f"the layout has {len(value)} cameras, and the first was taken")
        value = value[0]
    usual = LayoutCamera()
    if not isinstance(value, dict):
        notes.add(
            f"the camera was taken as {usual.height_m:g} m high, looking {usual.pitch_deg:g} degrees down, with a "
            f"field of view of {usual.fov_y_deg:g} degrees"
        )
        return usual
    fields = Fields(value)
    height = fields.take_metres("height", "y", "elevation", "altitude")
    place = fields.take("position", "pos", "location")
    if height is None and isinstance(place, list) and len(place) == 3:
        height = metres_of(place[1])
        if any(metres_of(place[k]) for k in (0, 2)):
            notes.add("the camera was moved to the origin, above which it always stands")
    pitch = fields.take_degrees("pitch", "tilt", "pitch_down", "tilt_down", "down")
    fov = fields.take_degrees("fov_y", "fov", "vertical_fov", "field_of_view", "vfov")
    lens = _lens(fields)
    if fov is None and lens is not None:
        fov = fov_of_lens(lens)
    notes.unused("the camera", fields)
    return LayoutCamera(
        _in_range("the camera's height", height, usual.height_m, 0.0, MAX_CAMERA_HEIGHT_M, "m", notes),
        _in_range("the camera's pitch", pitch, usual.pitch_deg, -90.0, 90.0, "degrees", notes),
        _in_range("the camera's field of view", fov, usual.fov_y_deg, MIN_FOV_DEG, MAX_FOV_DEG, "degrees", notes),
    )


def _lens(fields: Fields) -> float | None:
    """The focal length in mm."""
    value = fields.take("focal", "focal_length", "lens", "lens_length")
    millimetres = number_of(value)
    if millimetres is None and (metres := metres_of(value)) is not None:
        millimetres = 1000.0 * metres
    return millimetres if millimetres is not None and millimetres > 0 else None


def _in_range(what: str, value: float | None, usual: float, low: float, high: float, unit: str, notes: Notes) -> float:
    if value is None:
        notes.add(f"{what} was taken as {usual:g} {unit}")
        return usual
    kept = min(max(value, low), high)
    if kept != value:
        notes.add(f"{what} was taken as {kept:g} {unit}: {value:g} is out of range")
    return kept


def read_object(value: Any, number: int, others: Sequence[LayoutObject], notes: Notes) -> LayoutObject | None:
    """An object of a layout. others: those before it. None, with a note, where there is nothing to place."""
    if isinstance(value, str) and value.strip():
        value = {"name": value}
    if not isinstance(value, dict) or not value:
        notes.add(f"object {number} was left out: it is {str(value)[:40]!r}")
        return None
    fields = Fields(value)
    shape_words = fields.take("shape", "type", "category", "class", "kind")
    name = _name(fields, shape_words, number, notes)
    label = repr(name[:60])
    shape, usual_size = _shape(shape_words, name, notes)
    size = _size(fields, usual_size, label, notes)
    position = _position(fields, size, label, others, notes)
    heading = _heading(fields, label, notes)
    confidence = fields.take("confidence", "strength", "weight")
    number_given = number_of(confidence)
    if confidence is None:
        number_given = 1.0
    confidence = _in_range(f"the confidence of {label}", number_given, 1.0, 0.0, 1.0, "", notes)
    notes.unused(label, fields)
    return LayoutObject(name, shape, position, heading, size, confidence)


def _name(fields: Fields, shape_words: Any, number: int, notes: Notes) -> str:
    given = fields.take("name", "object", "label", "id", "title", "noun")
    description = fields.take("description", "desc", "caption")
    colour = fields.take(*_COLOURS)
    words = next((word for word in (given, description, shape_words) if isinstance(word, str) and word.strip()), None)
    name = clean_name(words if words is not None else f"object {number}")
    if words is None or not name:
        name = f"object {number}"
        notes.add(f"the name of object {number} was taken as {name!r}")
    if isinstance(colour, str) and colour.strip() and colour.lower() not in name.lower():
        name = f"{clean_name(colour)} {name}"
        notes.add(f"the colour became a part of the name {name[:60]!r}")
    if len(name) > MAX_NAME_LENGTH:
        notes.add(f"the name {name[:40]!r}... was shortened to {MAX_NAME_LENGTH} characters")
    return name[:MAX_NAME_LENGTH].strip()


def clean_name(text: str) -> str:
    """One line without control characters, and without halves of characters, which no file could hold."""
    plain = "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in text[: 4 * MAX_NAME_LENGTH])
    return " ".join("".join(" " if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in plain).split())


def _shape(words: Any, name: str, notes: Notes) -> tuple[str, tuple[float, float, float]]:
    """The shape, and the size that it has when nothing else is said."""
    row = typical_size(name)
    if isinstance(words, str) and words.strip():
        plain = re.sub(r"[_\-\s]+", " ", words.lower()).strip()
        known = {shape.replace("-", " "): shape for shape in named_shapes()}
        by_words = typical_size(words)
        if plain in known:
            shape = named_shapes()[known[plain]]
            return shape.name, row.size_m if row else shape.size_m
        if by_words is not None:
            notes.add(f"the shape {words[:40]!r} of {name[:60]!r} was taken as {by_words.shape!r}")
            return by_words.shape, row.size_m if row else by_words.size_m
    if row is not None:
        if words is not None:
            notes.add(f"the shape {str(words)[:40]!r} of {name[:60]!r} was taken as {row.shape!r}")
        return row.shape, row.size_m
    notes.add(f"{name[:60]!r} is drawn as a box: no shape for it is known")
    return "box", UNKNOWN_SIZE_M


def metres_text(size: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in size) + " m"


def _size(fields: Fields, usual: tuple[float, float, float], label: str, notes: Notes) -> tuple[float, float, float]:
    """(width, height, length). One size that is given scales the others of `usual`."""
    value, unit = fields.take_with_unit("size", "dimensions", "dims", "extent", "scale", "bbox", "bounding_box")
    given = _three_sizes(value, METRES.get(unit, 1.0))
    for k, names in enumerate(_SIZE_NAMES):
        alone = fields.take_metres(*names)
        given[k] = alone if given[k] is None else given[k]
    usable = [abs(v) if v is not None and abs(v) >= MIN_SIZE_M else None for v in given]
    known = [v / u for v, u in zip(usable, usual) if v is not None]
    ratio = math.exp(sum(map(math.log, known)) / len(known)) if known else 1.0
    size = tuple(min(max(u * ratio if v is None else v, MIN_SIZE_M), MAX_SIZE_M) for v, u in zip(usable, usual))
    if None in usable:
        notes.add(f"size of {label} taken as {metres_text(size)}")
    elif any(v is not None and abs(v) > MAX_SIZE_M for v in usable):
        notes.add(f"size of {label} taken as {metres_text(size)}: at most {MAX_SIZE_M:g} m are possible")
    return size


def _three_sizes(value: Any, unit_m: float) -> list[float | None]:
    if isinstance(value, dict):
        inner = Fields(value)
        return [inner.take_metres(*names, axis) for names, axis in zip(_SIZE_NAMES, "xyz")]
    if isinstance(value, str):
        value = _with_last_unit(re.split(r"\s*[x\u00d7*,]\s*", value.strip()))
    if isinstance(value, list) and len(value) >= 3:
        return [metres_of(part, unit_m) for part in value[:3]]
    # One number is the height, by which people call a thing large.
    alone = value[0] if isinstance(value, list) and len(value) == 1 else value
    return [None, metres_of(alone, unit_m), None]


def _with_last_unit(parts: list[str]) -> list[str]:
    """ "1.8 x 1.5 x 4 m": the unit of the last is that of all, where no other has one."""
    unit = re.search(r"[a-z]+$", parts[-1], re.IGNORECASE)
    if unit is None or any(re.search("[a-z]", part, re.IGNORECASE) for part in parts[:-1]):
        return parts
    return [*(f"{part} {unit.group()}" for part in parts[:-1]), parts[-1]]


def _position(
    fields: Fields, size: Sequence[float], label: str, others: Sequence[LayoutObject], notes: Notes
) -> tuple[float, float, float]:
    """(x, y, z). A place that is not given is beside the objects before it."""
    value, unit = fields.take_with_unit("position", "pos", "location", "place", "coordinates", "center", "centre")
    x, y, z = _three_places(value, METRES.get(unit, 1.0))
    x = _first(x, fields.take_metres("x", "right"))
    y = _first(y, fields.take_metres("y", "up", "elevation", "altitude", "above_ground"))
    z = _first(z, fields.take_metres("z", "distance", "forward", "ahead", "away"))
    if z is None:
        z = max((thing.position_m[2] for thing in others), default=max(3.0, 2.0 * max(size)))
    if x is None:
        x = max((thing.position_m[0] + thing.size_m[0] / 2 for thing in others), default=-0.5 * size[0] - 0.5)
        x = round(x + 0.5 + 0.5 * size[0], 2)
        notes.add(f"place of {label} taken as {x:.3g} m right, {z:.3g} m ahead")
    place = tuple(min(max(part, -MAX_POSITION_M), MAX_POSITION_M) for part in (x, y or 0.0, z))
    if place != (x, y or 0.0, z):
        notes.add(f"place of {label} was moved to {MAX_POSITION_M:g} m, the farthest that is possible")
    return place


def _three_places(value: Any, unit_m: float) -> tuple[float | None, float | None, float | None]:
    """(x, y, z) of [x, y, z], of [x, z], of a dict, or of a distance ahead."""
    if isinstance(value, dict):
        inner = Fields(value)
        names = (("x", "right"), ("y", "up", "height"), ("z", "forward", "ahead", "distance"))
        return tuple(inner.take_metres(*group) for group in names)
    if isinstance(value, str) and "," in value:
        value = [part.strip() for part in value.strip("()[] ").split(",")]
    parts = value if isinstance(value, list) else [value]
    numbers = [metres_of(part, unit_m) for part in parts[:3]]
    if len(numbers) == 3:
        return tuple(numbers)
    if len(numbers) == 2:
        return numbers[0], 0.0, numbers[1]
    return None, None, numbers[0] if numbers else None


def _first(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value


def _heading(fields: Fields, label: str, notes: Notes) -> float:
    value, unit = fields.take_with_unit("heading", "rotation", "yaw", "facing", "orientation", "angle", "direction")
    if isinstance(value, dict):
        value = Fields(value).peek("y", "yaw", "heading")
    if isinstance(value, list):
        value = value[1] if len(value) == 3 else (value[0] if value else None)
    degrees = degrees_of(value, math.degrees(1.0) if unit.startswith("rad") else 1.0)
    if degrees is None and isinstance(value, str):
        words = re.findall(r"[a-z]+", value.lower())
        degrees = next((_HEADINGS[word] for word in words if word in _HEADINGS), None)
    if degrees is None:
        if value is not None:
            notes.add(f"heading of {label} taken as 0 degrees: {str(value)[:40]!r} is none")
        return 0.0
    return degrees % 360.0
