"""The benchmark's prompts: nine sub-domains with four templates each. They depend only on the seed.

Every prompt names at least one (category, colour) pair that no training has seen. It comes with the scene that it
describes: the render of this scene is the ceiling, and its depth is the oracle.
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
# Facts that say what is there, not where. They name the objects or are not scored.
_IDENTITY = {"category", "color", "ground", "sky"}


@dataclass(frozen=True)
class Constraint:
    """What a prompt claims. objects: (category, colour) pairs. Claims name their objects by index."""

    objects: tuple[tuple[str, str], ...]
    claims: tuple[Fact, ...]


@dataclass(frozen=True)
class Prompt:
    """`number` identifies a prompt in the whole benchmark. It seeds the noise that the prompt is drawn from."""

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
    """`per_template` different prompts of each template. A smaller number gives the first prompts of a larger one."""
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
