"""Lengths and angles as people write them: 1.8, "1.8 m", "180cm", "6 ft 2 in", "half a metre", "90 degrees"."""

from __future__ import annotations

import math
import re
from typing import Any

METRES: dict[str, float] = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters", "mtr"), 1.0),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 0.001),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0),
    **dict.fromkeys(("ft", "foot", "feet", "'", "\u2032"), 0.3048),
    **dict.fromkeys(("in", "inch", "inches", '"', "\u2033", "''"), 0.0254),
    **dict.fromkeys(("yd", "yard", "yards"), 0.9144),
}
DEGREES: dict[str, float] = {
    **dict.fromkeys(("deg", "degs", "degree", "degrees", "\u00b0"), 1.0),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), math.degrees(1.0)),
}
WORD_NUMBERS: dict[str, float] = {
    **{"half": 0.5, "quarter": 0.25, "zero": 0.0, "a": 1.0, "an": 1.0, "one": 1.0, "two": 2.0, "three": 3.0},
    **{"four": 4.0, "five": 5.0, "six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "eleven": 11.0},
    **{"twelve": 12.0, "fifteen": 15.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0},
}
_NUMBER = r"[-+]?(?:\d+(?:[.,]\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(rf"\s*({_NUMBER})\s*([a-z]+|''|[\"'\u2032\u2033\u00b0])?", re.IGNORECASE)


def number_of(value: Any) -> float | None:
    """A finite number, also from a string without a unit. None for anything else."""
    return _in_units(value, {}, 1.0)


def metres_of(value: Any, unit_m: float = 1.0) -> float | None:
    """Metres. unit_m: the unit of a number that stands alone. None for what is no length."""
    return _in_units(value, METRES, unit_m)


def degrees_of(value: Any, unit_deg: float = 1.0) -> float | None:
    """Degrees. unit_deg: the unit of a number that stands alone. None for what is no angle."""
    return _in_units(value, DEGREES, unit_deg)


def _in_units(value: Any, units: dict[str, float], alone: float) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value * alone if math.isfinite(value) else None
    if not isinstance(value, str) or len(value) > 60:
        return None
    return _sum_of_terms(value.strip().lstrip("~\u2248").removeprefix("about ").strip(), units, alone)


def _sum_of_terms(text: str, units: dict[str, float], alone: float) -> float | None:
    """ "6 ft 2 in" is the sum of its terms. Only the last may have no unit."""
    total, at, found = 0.0, 0, False
    while at < len(text):
        term = _TERM.match(text, at)
        if not term:
            return None
        unit = (term.group(2) or "").lower()
        if unit and unit not in units:
            return None
        total += float(term.group(1).replace(",", ".")) * (units[unit] if unit else alone)
        at, found = term.end(), True
        if not unit:
            break
    return total if found and not text[at:].strip() and math.isfinite(total) else None
