"""The benchmark's prompts: nine sub-domains of four templates, a function of the seed alone.

Every prompt names at least one (category, colour) pair that no training has seen, and comes with the scene that it was
written for: its render is the ceiling, its depth the oracle's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ... import world
from ...world import CaptionedScene, Fact, Scene

TEMPLATES = 4
PROMPTS_PER_TEMPLATE = 40
QUICK_PROMPTS_PER_TEMPLATE = 2
GROUPS: dict[str, tuple[str, ...]] = {
    "pose": ("camera_pose", "object_pose", "complex_pose"),
    "relation": ("egocentric_relation", "allocentric_relation", "intrinsic_relation"),
    "measurement": ("object_size", "object_distance", "camera_distance"),
}
# Facts about what is there, not where; they name the objects or are not scored.
_IDENTITY = {"category", "color", "ground", "sky"}


@dataclass(frozen=True)
class Constraint:
    """What a prompt claims. The claims' subject and reference are indices into `objects`, (category, colour) pairs."""

    objects: tuple[tuple[str, str], ...]
    claims: tuple[Fact, ...]


@dataclass(frozen=True)
class Prompt:
    """`number` counts all prompts of the benchmark: it seeds the noise that the prompt is drawn from."""

    number: int
    sub_domain: str
    template: int
    text: str
    constraint: Constraint
    scene: Scene


def constraint_of(captioned: CaptionedScene) -> Constraint:
    """The claims of a caption, and the objects that it names."""
    objects = tuple((obj.category, obj.color) for obj in captioned.scene.objects)
    return Constraint(objects, tuple(fact for fact in captioned.facts if fact.name not in _IDENTITY))


def minispace_prompts(seed: int, per_template: int = PROMPTS_PER_TEMPLATE) -> list[Prompt]:
    """`per_template` prompts of each template, none twice. A smaller number gives the first prompts of a larger one."""
    prompts: list[Prompt] = []
    for sub_domain in world.SPATIAL_KINDS:
        for template in range(TEMPLATES):
            captions = _captions(f"minispace-{seed}-{sub_domain}-{template}", sub_domain, template, per_template)
            # The number does not depend on per_template, so that a prompt keeps its noise.
            first = (world.SPATIAL_KINDS.index(sub_domain) * TEMPLATES + template) * 10_000
            prompts += [
                Prompt(first + place, sub_domain, template, item.caption, constraint_of(item), item.scene)
                for place, item in enumerate(captions)
            ]
    return prompts


def _captions(stream: str, sub_domain: str, template: int, count: int) -> list[CaptionedScene]:
    rng = random.Random(stream)
    captions: dict[str, CaptionedScene] = {}
    while len(captions) < count:
        item = world.sample(rng, sub_domain, "held_out", template)
        captions.setdefault(item.caption, item)
    return list(captions.values())
