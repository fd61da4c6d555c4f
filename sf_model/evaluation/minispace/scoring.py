"""The score of an image in [0, 1], from the objects that a reader found in it.

Full scores and soft scores are GenSpace's (arXiv 2505.24870). Four faults of its published scorer are corrected:

- an object that is not found scores 0, instead of being left out of the mean;
- a measurement that is too small is judged like one that is too large;
- "20 cm taller" is not satisfied by 20 cm smaller;
- in "face to face" each object must really be in the other's view.

A claim with several tests scores their product. A passed test counts 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from ...scene_reader.reading import CameraReading, FoundObject, SceneReading, find, on_ground, seen_from_one_height
from ...world import Fact, SceneObject
from ...world.geometry import (
    ALLOCENTRIC_TURN_DEG,
    VIEW_HEADING_DEG,
    allocentric_deg,
    angle_between_deg,
    camera_distance_m,
    gap_m,
    image_slope,
    view_heading_deg,
    volume_m3,
)
from .prompts import Constraint

# Degrees: (full score up to this error, score 0 from this error on).
FRONT_BACK_DEG = (15.0, 45.0)
LEFT_RIGHT_DEG = (30.0, 60.0)
# For each test of a claim with several tests.
JOINT_DEG = (30.0, 45.0)
RELATIVE_TOLERANCE = 1.0 / 3.0
# Camera distances of 3 and 4 m have their own tolerances.
CAMERA_DISTANCE_TOLERANCE = {3.0: 0.3, 4.0: 0.2}
_FACING_SIDE = {"camera": "front", "away": "back", "left": "left", "right": "right"}
_SIZE_AXIS = {"longer_cm": 0, "wider_cm": 1, "taller_cm": 2}

Objects = Sequence[SceneObject]


def soft(error: float, full: float, zero: float) -> float:
    """1 up to an error of `full`, 0 from `zero` on, linear between."""
    return max(0.0, min(1.0, (zero - error) / (zero - full)))


def soft_measure(measured: float, wanted: float, tolerance: float = RELATIVE_TOLERANCE) -> float:
    """Soft score of a length by its relative error, too small or too large. 0 from twice the tolerance on."""
    return soft(abs(measured - wanted) / wanted, tolerance, 2 * tolerance)


def _turn(angle_deg: float, wanted_deg: float, limits: tuple[float, float]) -> float:
    return soft(angle_between_deg(angle_deg, wanted_deg), *limits)


def _side_limits(side: str) -> tuple[float, float]:
    return FRONT_BACK_DEG if side in ("front", "back") else LEFT_RIGHT_DEG


def _seen_from(claim: Fact, objects: Objects) -> float:
    return _shows(objects[claim.subject], str(claim.value), _side_limits(str(claim.value)))


def _facing(claim: Fact, objects: Objects) -> float:
    side = _FACING_SIDE[str(claim.value)]
    return _shows(objects[claim.subject], side, _side_limits(side))


def _shows(obj: SceneObject, side: str, limits: tuple[float, float]) -> float:
    return _turn(view_heading_deg(obj), VIEW_HEADING_DEG[side], limits)


def _own_view(claim: Fact, objects: Objects) -> float:
    direction = allocentric_deg(objects[claim.reference], objects[claim.subject])
    return _turn(direction, ALLOCENTRIC_TURN_DEG[str(claim.value)], _side_limits(str(claim.value)))


def _egocentric(claim: Fact, objects: Objects) -> float:
    first, second = objects[claim.subject], objects[claim.reference]
    if claim.name in ("closer", "farther"):
        nearer = camera_distance_m(first) < camera_distance_m(second)
        return float(nearer == (claim.name == "closer"))
    return float((image_slope(first) < image_slope(second)) == (claim.name == "image_left"))


def _arrangement(claim: Fact, objects: Objects) -> float:
    """Whether both face the same or opposite ways, and where each stands in the other's own view."""
    first, second = objects[claim.subject], objects[claim.reference]
    same = claim.value == "side by side, same way"
    score = _turn(second.heading_deg, first.heading_deg + (0.0 if same else 180.0), JOINT_DEG)
    for one, other in ((first, second), (second, first)):
        direction = allocentric_deg(one, other)
        if claim.value == "face to face":
            score *= _turn(direction, ALLOCENTRIC_TURN_DEG["front"], JOINT_DEG)
        elif claim.value == "back to back":
            score *= _turn(direction, ALLOCENTRIC_TURN_DEG["back"], JOINT_DEG)
        else:
            score *= max(_turn(direction, ALLOCENTRIC_TURN_DEG[side], JOINT_DEG) for side in ("left", "right"))
    return score


def _extent_difference(claim: Fact, objects: Objects) -> float:
    axis = _SIZE_AXIS[claim.name]
    grown_m = objects[claim.subject].size_m[axis] - objects[claim.reference].size_m[axis]
    return soft_measure(100 * grown_m, float(claim.value))


def _volume_ratio(claim: Fact, objects: Objects) -> float:
    ratio = volume_m3(objects[claim.subject]) / volume_m3(objects[claim.reference])
    # The tolerance alone would let equal and smaller volumes pass.
    return soft_measure(ratio, float(claim.value)) if ratio > 1.0 else 0.0


def _gap(claim: Fact, objects: Objects) -> float:
    first, second = objects[claim.subject], objects[claim.reference]
    return soft_measure(gap_m(first, second), float(claim.value))


def _camera_distance(claim: Fact, objects: Objects) -> float:
    wanted = float(claim.value)
    tolerance = CAMERA_DISTANCE_TOLERANCE.get(wanted, RELATIVE_TOLERANCE)
    return soft_measure(camera_distance_m(objects[claim.subject]), wanted, tolerance)


_SCORERS: dict[str, Callable[[Fact, Objects], float]] = {
    "seen_from": _seen_from,
    "facing": _facing,
    "own_view": _own_view,
    "closer": _egocentric,
    "farther": _egocentric,
    "image_left": _egocentric,
    "image_right": _egocentric,
    "arrangement": _arrangement,
    "volume_ratio": _volume_ratio,
    "taller_cm": _extent_difference,
    "longer_cm": _extent_difference,
    "wider_cm": _extent_difference,
    "gap_m": _gap,
    "camera_distance_m": _camera_distance,
}


def _complex_pose(claims: Sequence[Fact], objects: Objects) -> float:
    """Both are seen from the requested side and face the same way: three tests."""
    score = 1.0
    for claim in claims:
        if claim.name == "same_facing":
            first, second = objects[claim.subject], objects[claim.reference]
            score *= _turn(second.heading_deg, first.heading_deg, JOINT_DEG)
        else:
            side = str(claim.value)
            limits = JOINT_DEG if side in ("front", "back") else LEFT_RIGHT_DEG
            score *= _shows(objects[claim.subject], side, limits)
    return score


def score(constraint: Constraint, found: Sequence[FoundObject], camera: CameraReading) -> float:
    """The score in [0, 1] of the objects found in an image, for its prompt's claims. 0 if a named object is missing."""
    reading = SceneReading(tuple(found), camera)
    named = [find(reading, category, color) for category, color in constraint.objects]
    if any(obj is None for obj in named):
        return 0.0
    seen = seen_from_one_height([obj for obj in named if obj is not None], camera.pitch_deg)
    objects = [on_ground(obj, camera.pitch_deg) for obj in seen]
    if any(claim.name == "same_facing" for claim in constraint.claims):
        return _complex_pose(constraint.claims, objects)
    return math.prod(_SCORERS[claim.name](claim, objects) for claim in constraint.claims)


def identity_shares(constraint: Constraint, found: Sequence[FoundObject]) -> tuple[float, float]:
    """Shares of the named objects that are there by category, and by category and colour."""
    categories = [obj.category for obj in found]
    whole = [(obj.category, obj.color) for obj in found]
    named = constraint.objects
    wanted = [category for category, _ in named]
    there = sum(min(wanted.count(name), categories.count(name)) for name in set(wanted))
    return there / len(named), sum(pair in whole for pair in named) / len(named)


def unasked_share(named: Sequence[tuple[str, str]], found: Sequence[FoundObject]) -> float:
    """Found objects that were not asked for (compared by category), over the number of named objects."""
    wanted = Counter(category for category, _ in named)
    return (Counter(obj.category for obj in found) - wanted).total() / max(1, len(named))
