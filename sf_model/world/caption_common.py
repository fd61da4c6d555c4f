"""The parts of captions: facts, and phrases for objects, grounds and skies. The vocabulary is small on purpose."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .scene import Scene, SceneObject


@dataclass(frozen=True)
class Fact:
    """One claim of a caption or an edit, for a scorer to check."""

    # What is claimed. The name of a number ends in its unit.
    name: str
    # Index into `Scene.objects`. None: the claim is about the scene.
    subject: int | None = None
    # Index of the object that the subject is compared with.
    reference: int | None = None
    value: str | float | None = None


@dataclass(frozen=True)
class CaptionedScene:
    """A scene and a caption that is true of it."""

    scene: Scene
    caption: str
    # One of `captions.KINDS`.
    kind: str
    # All that the caption claims.
    facts: tuple[Fact, ...]


GROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "on the grass"),
    "sand": ("on sand", "on the sand"),
    "asphalt": ("on asphalt", "on the asphalt"),
    "wooden floor": ("on a wooden floor", "on the wooden floor"),
    "snow": ("on snow", "on the snow"),
    "tiles": ("on tiles", "on the tiles"),
}
SKY_PHRASES: dict[str, tuple[str, ...]] = {
    "clear": ("under a clear sky", "on a clear day"),
    "cloudy": ("under a cloudy sky", "on a cloudy day"),
    "sunset": ("at sunset", "under a sunset sky"),
    "night": ("at night", "under a night sky"),
}


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def name_of(obj: SceneObject) -> str:
    """Colour and category: "red car". A person's colour is that of the clothes: "person in red"."""
    if obj.category == "person":
        return f"person in {obj.color}"
    return f"{obj.color} {obj.category}"


def joined(items: Sequence[str]) -> str:
    """Items as an English list: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def identity_facts(objects: Sequence[SceneObject]) -> tuple[Fact, ...]:
    """Category and colour of every object."""
    return tuple(
        fact
        for index, obj in enumerate(objects)
        for fact in (Fact("category", index, value=obj.category), Fact("color", index, value=obj.color))
    )


def look_phrases(rng: random.Random, scene: Scene, p_ground: float, p_sky: float) -> tuple[str, str, tuple[Fact, ...]]:
    """Ground phrase, sky phrase and their facts. p_ground, p_sky: probability of each phrase, else it is empty."""
    ground = sky = ""
    facts: tuple[Fact, ...] = ()
    if rng.random() < p_ground:
        ground = rng.choice(GROUND_PHRASES[scene.ground])
        facts += (Fact("ground", value=scene.ground),)
    if rng.random() < p_sky:
        sky = rng.choice(SKY_PHRASES[scene.sky])
        facts += (Fact("sky", value=scene.sky),)
    return ground, sky, facts


def words(*parts: str) -> str:
    """Non-empty parts with single spaces between them."""
    return " ".join(part for part in parts if part)
