"""The edit benchmark's prompts: a source scene, an instruction and the scene that it asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ... import world
from ...world import EditPair

EDIT_KINDS = ("pose", "move", "resize", "add", "remove")
PROMPTS_PER_KIND = 40
QUICK_PROMPTS_PER_KIND = 8


@dataclass(frozen=True)
class EditPrompt:
    """`number` seeds the noise that the edit is drawn from."""

    number: int
    pair: EditPair


def edit_prompts(seed: int, per_kind: int = PROMPTS_PER_KIND) -> list[EditPrompt]:
    """`per_kind` different pairs of each of EDIT_KINDS, each with a (category, colour) pair that no training has seen.

    A smaller number gives the first prompts of a larger one.
    """
    prompts = []
    for index, kind in enumerate(EDIT_KINDS):
        rng = random.Random(f"edit-{seed}-{kind}")
        pairs: dict[tuple[str, world.Scene], EditPair] = {}
        while len(pairs) < per_kind:
            pair = world.sample_edit(rng, kind, "held_out")
            pairs.setdefault((pair.instruction, pair.source), pair)
        prompts += [EditPrompt(index * 10_000 + place, pair) for place, pair in enumerate(pairs.values())]
    return prompts
