"""Values of widgets that come by a link: numbers, texts, switches and choices."""

from __future__ import annotations

import math
import operator
from typing import Any

from comfy_api.v0_0_2 import io

# Choices that are file names. Their nodes look for the file themselves, because files come and go.
FILE_NAMES = ("file", "model_file", "checkpoint")


def check_widget(value: Any, entry: io.WidgetInput) -> Any:
    """The value as the widget would give it. ValueError, with what it takes, for another."""
    if isinstance(entry, io.Combo.Input):
        return value if entry.id in FILE_NAMES else _choice(value, entry)
    if isinstance(entry, io.Int.Input):
        return _number(value, entry, "a whole number")
    if isinstance(entry, io.Float.Input):
        return _number(value, entry, "a number")
    if isinstance(entry, io.Boolean.Input):
        if isinstance(value, bool):
            return value
        raise _refused(entry.id, "on or off (true or false)", value)
    if isinstance(value, str) and "\0" not in value:
        return value
    raise _refused(entry.id, "a text without null characters", value)


def _choice(value: Any, entry: io.Combo.Input) -> str:
    if isinstance(value, str) and value in entry.options:
        return value
    choices = [repr(option) for option in entry.options]
    shown = ", ".join(choices[:8]) + (", ..." if len(choices) > 8 else "")
    raise _refused(entry.id, f"one of {shown}", value)


def _number(value: Any, entry: Any, kind: str) -> int | float:
    low, high = (-math.inf if entry.min is None else entry.min), (math.inf if entry.max is None else entry.max)
    taken = f"{kind} from {low:g} to {high:g}" if high < 2**53 else f"{kind} from {low:g} on"
    if isinstance(value, bool):
        raise _refused(entry.id, taken, value)
    try:
        number = float(value) if isinstance(entry, io.Float.Input) else _whole(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise _refused(entry.id, taken, value) from None
    if isinstance(value, str) or not low <= number <= high:  # NaN is in no range
        raise _refused(entry.id, taken, value)
    return number


def _whole(value: Any) -> int:
    """A whole number that may come as a float, as calculating nodes give it."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return operator.index(value)


def _refused(name: str, taken: str, value: Any) -> ValueError:
    shown = repr(value) if isinstance(value, (str, int, float, bool)) else ""
    shown = f" ({shown[:60]})" if shown else ""
    return ValueError(f"set or connect {name} to {taken}: what is connected is of type {type(value).__name__}{shown}")
