"""Scores of a layout for a prompt, and their means over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...scaffold.layout import Layout, LayoutObject
from ...scaffold.sizes import plain_name
from ..bootstrap import Estimate, mean_with_interval
from .prompts import PlanPrompt, Thing
from .statements import CHECKS, MEASURES, truth


@dataclass(frozen=True)
class Result:
    """What became of one prompt. layout: None where no answer had one."""

    layout: Layout | None
    # Whether the first answer had a layout with a thing.
    is_valid_at_first: bool


def find_things(things: Sequence[Thing], objects: Sequence[LayoutObject]) -> list[LayoutObject | None]:
    """The object of each thing: its name has the thing's noun, and as few other words as possible. None: none has.

    An object is that of one thing at most. "Laptop on a desk" is the laptop, and the desk only if no other object is.
    """
    names = [f" {plain_name(obj.name)} " for obj in objects]
    pairs = sorted(
        (len(name.split()) - len(thing.noun.split()), name.index(f" {thing.noun} "), index, place)
        for index, thing in enumerate(things)
        for place, name in enumerate(names)
        if f" {thing.noun} " in name
    )
    found: dict[int, int] = {}
    for *_, index, place in pairs:
        if index not in found and place not in found.values():
            found[index] = place
    return [objects[found[index]] if index in found else None for index in range(len(things))]


def scores_of(prompt: PlanPrompt, result: Result) -> dict[str, float]:
    """Shares in [0, 1]: valid, complete, and of the prompt's true statements by measure. All are 0 without a layout.

    A measure about which the prompt states nothing is left out.
    """
    found = find_things(prompt.things, result.layout.objects if result.layout else ())
    truths: dict[str, list[float]] = {}
    for statement in prompt.statements:
        is_true = 0.0 if result.layout is None else truth(statement, result.layout, found)
        truths.setdefault(CHECKS[statement.kind].measure, []).append(is_true)
    return {
        "valid at first": float(result.is_valid_at_first),
        "valid": float(result.layout is not None),
        "complete": float(None not in found),
        **{measure: sum(truths[measure]) / len(truths[measure]) for measure in MEASURES if measure in truths},
    }


def summary(prompts: Sequence[PlanPrompt], scores: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Percent of each measure: the mean over templates, with an interval over the prompts of each template."""
    values: dict[str, dict[str, list[float]]] = {}
    for prompt, row in zip(prompts, scores):
        for measure, value in row.items():
            values.setdefault(measure, {}).setdefault(prompt.template, []).append(100 * value)
    order = ("valid at first", "valid", "complete", *MEASURES)
    return {measure: mean_with_interval(list(values[measure].values())) for measure in order if measure in values}
