"""Where a caption mentions its objects and its camera, and what it says of them there.

A language model is trained with these as labels of single tokens, so that it learns which number belongs to which
object. Only free captions say numbers; in the others an object's mention is its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .caption_common import CaptionedScene, name_of
from .caption_free import OCTANTS, octant
from .categories import CATEGORY_NAMES
from .geometry import camera_distance_m
from .palette import COLORS
from .scene import Scene, SceneObject


@dataclass(frozen=True)
class ObjectMention:
    """The first mention of an object. Places are counted in characters; None: the caption does not say it."""

    # Index into `Scene.objects`.
    index: int
    # Start and end of all that is said of the object.
    start: int
    end: int
    # Where each thing has been said: after this many characters.
    category_end: int
    color_end: int | None
    distance_end: int | None
    aside_end: int | None
    octant_end: int | None
    # The numbers as they are said.
    distance_m: float | None
    aside_m: float | None
    # Index into OCTANTS.
    octant: int | None


@dataclass(frozen=True)
class CameraMention:
    """What a free caption says of the camera; places as in `ObjectMention`."""

    start: int
    end: int
    height_end: int
    pitch_end: int
    fov_end: int


_COLORS = "|".join(COLORS)
_FACING = "|".join(sorted(OCTANTS, key=len, reverse=True))
_TILT = r"level|tilted \d+ degrees (?:up|down)"
_OBJECT = re.compile(
    rf"an? (?:(?P<person>person) in (?P<person_color>{_COLORS})"
    rf"|(?P<color>{_COLORS}) (?P<category>{'|'.join(CATEGORY_NAMES)})) "
    rf"(?:(?P<first_octant>{_FACING}), )?(?P<distance>\d+\.\d) m away, "
    rf"(?P<aside>straight ahead|\d+\.\d m to the (?:right|left))(?:, (?P<last_octant>{_FACING}))?"
)
_CAMERA = re.compile(
    rf"camera (?:at )?(?P<height>\d\.\d) m (?:high|height), (?:(?P<first_tilt>{_TILT}), )?"
    rf"(?P<fov>\d+) degrees field of view(?:, (?P<last_tilt>{_TILT}))?"
)


def object_mentions(item: CaptionedScene) -> list[ObjectMention]:
    """The objects that a caption names, in the order of their first mention."""
    found = [_named(item.caption, index, obj, item.scene) for index, obj in enumerate(item.scene.objects)]
    named = sorted((mention for mention in found if mention is not None), key=lambda mention: mention.start)
    if item.kind != "free":
        return named
    phrases = list(_OBJECT.finditer(item.caption))
    assert len(phrases) == len(named), item.caption
    return [_described(mention, item.scene, phrase) for mention, phrase in zip(named, phrases)]


def camera_mention(item: CaptionedScene) -> CameraMention | None:
    """None for captions that are not free."""
    if item.kind != "free":
        return None
    match = _CAMERA.search(item.caption)
    assert match is not None, item.caption
    tilt = "first_tilt" if match["first_tilt"] else "last_tilt"
    return CameraMention(match.start(), match.end(), match.end("height"), match.end(tilt), match.end("fov"))


def _named(text: str, index: int, obj: SceneObject, scene: Scene) -> ObjectMention | None:
    match, is_colored = re.search(rf"\b{name_of(obj)}\b", text), True
    if match is None:
        if sum(other.category == obj.category for other in scene.objects) > 1:
            return None
        is_colored = False
        without_color = "".join(rf"(?<!{color} )" for color in COLORS)
        match = re.search(rf"\b{without_color}{obj.category}\b(?! in)", text)
        if match is None:
            return None
    end = match.end()
    color_end = end if is_colored else None
    return ObjectMention(index, match.start(), end, end, color_end, None, None, None, None, None, None)


def _described(mention: ObjectMention, scene: Scene, phrase: re.Match[str]) -> ObjectMention:
    obj = scene.objects[mention.index]
    distance_m, aside_m = round(camera_distance_m(obj), 1), round(obj.position_m[0], 1)
    assert float(phrase["distance"]) == distance_m, phrase.string
    is_person = phrase["person"] is not None
    return ObjectMention(
        mention.index,
        phrase.start(),
        phrase.end(),
        category_end=phrase.end("person" if is_person else "category"),
        color_end=phrase.end("person_color" if is_person else "color"),
        distance_end=phrase.end("distance"),
        aside_end=phrase.end("aside"),
        octant_end=phrase.end("first_octant" if phrase["first_octant"] else "last_octant"),
        distance_m=distance_m,
        aside_m=aside_m,
        octant=OCTANTS.index(octant(obj)),
    )
