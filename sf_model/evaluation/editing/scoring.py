"""The score of an edited image: was the requested change made, and did everything else stay?

The scene reader reads the source and the edited image. Its errors on an object are nearly the same in both and cancel.
If it misses an object of the source, the true object is used. An unchanged source scores 0, however badly it is read. A
removed object is gone only if nothing else stands in its place, and as far as the pixels that it covered show what is
behind it: a smear is not a removal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...scene_reader.reading import (
    MAX_MATCH_DEG,
    FoundObject,
    SceneReading,
    camera_height_m,
    find,
    on_ground,
    seen_from,
    sight_angle_deg,
    true_object,
)
from ...world import EditPair, Fact, Scene, SceneObject
from ...world.edits import MOVE_M
from ...world.geometry import VIEW_HEADING_DEG, angle_between_deg, bearing_deg, image_slope, view_heading_deg, volume_m3
from ..minispace.scoring import (
    FRONT_BACK_DEG,
    JOINT_DEG,
    LEFT_RIGHT_DEG,
    RELATIVE_TOLERANCE,
    soft,
    soft_measure,
    unasked_share,
)

_FACING_SIDE = {"camera": "front", "away": "back", "left": "left", "right": "right"}
# Full score for an object that moved by at most a third of a metre, or a tenth of its distance if that is more, and
# changed its size by at most a tenth. Score 0 from twice that on.
STAYED_M, STAYED_RELATIVE, SAME_SIZE = MOVE_M / 3, 0.1, 0.1
# A pixel counts as unchanged up to this colour difference, in [0, 1].
SAME_PIXEL = 0.1
# An object has turned if its heading changed by at least the first angle, and has not turned up to the second.
TURNED_DEG = (30.0, 15.0)
_POSITION, _SIZE, _HEADING = "position", "size", "heading"
_ALL = (_POSITION, _SIZE, _HEADING)
# Properties of its own subject that an edit must keep.
KEPT: dict[str, tuple[str, ...]] = {
    "pose": (_POSITION, _SIZE),
    "move": (_SIZE, _HEADING),
    "resize": (_POSITION, _HEADING),
}


@dataclass(frozen=True)
class EditScore:
    """The parts of a score."""

    # In [0, 1].
    change: float
    objects_stayed: float
    pixels_stayed: float
    # Found objects that the edited scene does not have, over the number of its objects. It may exceed 1.
    unasked: float

    @property
    def overall(self) -> float:
        """The product of the three. A sum would reward erasing everything when an object was to be removed."""
        return self.change * self.objects_stayed * self.pixels_stayed


def located(obj: SceneObject, reading: SceneReading, height_m: float | None = None) -> SceneObject | None:
    """The read object of this category and colour, in the world's frame. None if it was not found.

    height_m: the camera's height, if it is known. An edit does not move the camera.
    """
    found = find(reading, obj.category, obj.color)
    if found is None:
        return None
    pitch_deg = reading.camera.pitch_deg
    return on_ground(found if height_m is None else seen_from(found, pitch_deg, height_m), pitch_deg)


def reference(obj: SceneObject, scene: Scene, reading: SceneReading) -> tuple[SceneObject, float]:
    """The object as read in its own image (or the true one if it was not found), and the camera's height for it."""
    found, pitch_deg = find(reading, obj.category, obj.color), reading.camera.pitch_deg
    if found is None:
        found, pitch_deg = true_object(obj, scene.camera), scene.camera.pitch_deg
    return on_ground(found, pitch_deg), camera_height_m(found, pitch_deg)


def edit_score(
    pair: EditPair, source: SceneReading, edited: SceneReading, pixels_stayed: float, pixels_changed: float
) -> EditScore:
    """The score. source, edited: readings of the two images. pixels_stayed, pixels_changed: see these functions."""
    subject = subject_index(pair)
    named = [(obj.category, obj.color) for obj in pair.target.objects]
    return EditScore(
        _change(pair, subject, source, edited, pixels_changed),
        _objects_stayed(pair, subject, source, edited),
        pixels_stayed,
        unasked_share(named, edited.objects),
    )


def subject_index(pair: EditPair) -> int:
    """Index of the object that changes, in the target for "add" and in the source otherwise."""
    return next(fact.subject for fact in pair.facts if fact.subject is not None)


def _change(pair: EditPair, subject: int, source: SceneReading, edited: SceneReading, pixels_changed: float) -> float:
    obj = (pair.target if pair.kind == "add" else pair.source).objects[subject]
    was, height_m = reference(obj, pair.target if pair.kind == "add" else pair.source, source)
    before, after = located(obj, source), located(obj, edited, height_m)
    if pair.kind == "remove":
        gone = before is not None and after is None
        replaced = _replaced(pair.target, true_object(obj, pair.source.camera), edited)
        return pixels_changed if gone and not replaced else 0.0
    if pair.kind == "add":
        return _added(pair.facts, after) if before is None and after is not None else 0.0
    if after is None:
        return 0.0
    return {"pose": _turned, "move": _moved, "resize": _resized}[pair.kind](pair.facts[0], was, after)


def _replaced(target: Scene, removed: FoundObject, edited: SceneReading) -> bool:
    """Whether an object that does not belong to the edited scene stands in the place of the removed one."""
    own = {(obj.category, obj.color) for obj in target.objects}
    return any(
        (found.category, found.color) not in own
        and sight_angle_deg(found.position_m, removed.position_m) <= MAX_MATCH_DEG
        for found in edited.objects
    )


def _added(facts: Sequence[Fact], after: SceneObject) -> float:
    """1 if it is on the requested side, or if no side was requested."""
    sides = [fact.value for fact in facts if fact.name == "image_side"]
    return float(not sides or sides[0] == ("right" if image_slope(after) > 0 else "left"))


def _turned(fact: Fact, was: SceneObject, after: SceneObject) -> float:
    """It faces the requested way and did not before: every requested turn is at least 45 degrees."""
    side = _FACING_SIDE[str(fact.value)]
    limits = FRONT_BACK_DEG if side in ("front", "back") else JOINT_DEG
    turn = angle_between_deg(view_heading_deg(was), view_heading_deg(after))
    wrong = angle_between_deg(view_heading_deg(after), VIEW_HEADING_DEG[side])
    return soft(wrong, *limits) * soft(TURNED_DEG[0] - turn, 0.0, TURNED_DEG[0] - TURNED_DEG[1])


def _moved(fact: Fact, was: SceneObject, after: SceneObject) -> float:
    """The shift along the requested direction (too far is wrong as well), times a score for the shift aside."""
    angle = math.radians(bearing_deg(was))
    ray = (math.sin(angle), math.cos(angle))
    way = fact.name.removeprefix("moved_").removesuffix("_m")
    direction = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "closer": (-ray[0], -ray[1]), "farther": ray}[way]
    shift = [b - a for a, b in zip(was.position_m, after.position_m)]
    along = shift[0] * direction[0] + shift[1] * direction[1]
    aside = abs(shift[0] * direction[1] - shift[1] * direction[0])
    wanted = float(fact.value)
    limit = RELATIVE_TOLERANCE * wanted
    return soft_measure(along, wanted) * soft(aside, limit, 2 * limit)


def _resized(fact: Fact, was: SceneObject, after: SceneObject) -> float:
    """The growth of the mean edge (the cube root of the volume), with its sign. Too much is wrong as well."""
    growth = (volume_m3(after) / volume_m3(was)) ** (1 / 3) - 1
    return soft_measure(growth / (float(fact.value) - 1), 1.0)


def _objects_stayed(pair: EditPair, subject: int, source: SceneReading, edited: SceneReading) -> float:
    """Mean over the source's objects that the edit does not remove; 1 without any."""
    scores = []
    for index, obj in enumerate(pair.source.objects):
        own = index == subject and pair.kind != "add"
        if own and pair.kind == "remove":
            continue
        was, height_m = reference(obj, pair.source, source)
        after = located(obj, edited, height_m)
        scores.append(0.0 if after is None else _stayed(was, after, KEPT[pair.kind] if own else _ALL))
    return sum(scores) / len(scores) if scores else 1.0


def _stayed(was: SceneObject, after: SceneObject, kept: Sequence[str]) -> float:
    limit = max(STAYED_M, STAYED_RELATIVE * math.hypot(*was.position_m))
    edge = (volume_m3(after) / volume_m3(was)) ** (1 / 3)
    parts = {
        _POSITION: soft(math.dist(was.position_m, after.position_m), limit, 2 * limit),
        _SIZE: soft(abs(edge - 1), SAME_SIZE, 2 * SAME_SIZE),
        _HEADING: soft(angle_between_deg(was.heading_deg, after.heading_deg), *LEFT_RIGHT_DEG),
    }
    return math.prod(parts[name] for name in kept)


def pixels_changed(source: torch.Tensor, target: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """(B,) among the pixels that the true edit changes: the share with its colours, within SAME_PIXEL. 1 without any.

    source, target, edited: as in `pixels_stayed`.
    """
    changed = ~_untouched(source, target)
    right = (target - edited).abs().amax(dim=1) <= SAME_PIXEL
    count = changed.sum(dim=(1, 2))
    return torch.where(count > 0, (changed & right).sum(dim=(1, 2)) / count.clamp_min(1), 1.0)


def _untouched(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (source - target).abs().amax(dim=1) < 1 / 255


def pixels_stayed(source: torch.Tensor, target: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """(B,) among the pixels that the true edit does not change: the share with the source's colours, within SAME_PIXEL.

    source, target: true renders (B, 3, S, S) in [0, 1]; edited: the image to judge.
    """
    untouched = _untouched(source, target)
    same = (source - edited).abs().amax(dim=1) <= SAME_PIXEL
    return (untouched & same).sum(dim=(1, 2)) / untouched.sum(dim=(1, 2)).clamp_min(1)
