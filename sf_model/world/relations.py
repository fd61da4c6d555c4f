"""Builders of the nine spatial sub-domains of GenSpace (arXiv 2505.24870): place objects so that a claim is true.

A placer makes one random attempt. It returns objects in front of a camera, the facts about them, and phrasings of the
claim. `captions.sample` repeats this until the picture is good. Angles and lengths stay well inside the benchmark's
tolerances for the full score (15 degrees front and back, 30 degrees left and right, 1/3 of a length).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..rendering.frame import heading_vector
from .caption_common import Fact
from .categories import CATEGORIES, CATEGORY_NAMES, HELD_OUT
from .geometry import (
    ALLOCENTRIC_TURN_DEG,
    VIEW_HEADING_DEG,
    angle_between_deg,
    bearing_deg,
    camera_distance_m,
    gap_m,
    image_slope,
)
from .palette import COLORS
from .sampling import is_good_picture, place_in_view, sample_identities, sample_size, uniform
from .scene import Camera, SceneObject

SIDES: tuple[str, ...] = ("front", "back", "left", "right")
ARRANGEMENTS: tuple[str, ...] = (
    "side by side, same way",
    "side by side, opposite ways",
    "face to face",
    "back to back",
)
EGOCENTRIC: tuple[str, ...] = ("closer", "farther", "image_left", "image_right")
SIZE_CLAIMS: tuple[tuple[str, float], ...] = (
    ("volume_ratio", 1.2),
    ("taller_cm", 20.0),
    ("longer_cm", 50.0),
    ("wider_cm", 30.0),
)
OBJECT_GAPS_M: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
CAMERA_DISTANCES_M: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)

_MAX_HEIGHT_RATIO = 4.0
_MIN_DEPTH_MARGIN = 1.15
_MIN_SLOPE_MARGIN = 0.12
_SIZE_AXIS = {"longer_cm": 0, "wider_cm": 1, "taller_cm": 2}
# At Mini's resolution a gap of half a metre between houses or buses is smaller than a pixel.
_SMALL_CATEGORIES = tuple(name for name in CATEGORY_NAMES if CATEGORIES[name].length_m[1] < 6.0)


@dataclass(frozen=True)
class Draft:
    """One attempt of a placer."""

    objects: tuple[SceneObject, ...]
    # True of the objects.
    facts: tuple[Fact, ...]
    # The claim, with {A}, {B} (with article) and {a}, {b} for the objects 0 and 1.
    phrasings: tuple[str, ...]


Identities = list[tuple[str, str]]
Chooser = Callable[[random.Random, int, str], Identities]
Placer = Callable[[random.Random, Camera, int, Identities], "Draft | None"]


@dataclass(frozen=True)
class Builder:
    """How one sub-domain makes its scenes."""

    # (rng, template, split) -> (category, colour) pairs.
    choose: Chooser
    # (rng, camera, template, pairs) -> the arranged objects. None: the attempt failed.
    place: Placer


def _jitter_deg(rng: random.Random, side: str) -> float:
    return float(rng.randint(-8, 8) if side in ("front", "back") else rng.randint(-14, 14))


def _placed(
    rng: random.Random, camera: Camera, identity: tuple[str, str], view_heading: float | None = None
) -> SceneObject:
    """An object somewhere in view. view_heading: relative to the viewing ray, in degrees. None: random."""
    size = sample_size(rng, identity[0])
    position = place_in_view(rng, camera, size)
    obj = SceneObject(*identity, position, 0.0, size)
    heading = rng.uniform(0, 360) if view_heading is None else view_heading - bearing_deg(obj)
    return SceneObject(*identity, position, round(heading) % 360.0, size)


def _moved(obj: SceneObject, position_m: tuple[float, float]) -> SceneObject:
    return SceneObject(obj.category, obj.color, position_m, obj.heading_deg, obj.size_m)


def _offset(
    rng: random.Random, start: SceneObject, heading_deg: float, identity: tuple[str, str], facing_deg: float
) -> SceneObject:
    """An object in direction `heading_deg` of `start`, with free ground between the two, facing `facing_deg`."""
    size = sample_size(rng, identity[0])
    reach = (math.hypot(*start.size_m[:2]) + math.hypot(*size[:2])) / 2
    reach = reach * rng.uniform(0.8, 1.2) + rng.uniform(0.2, 0.8)
    step = heading_vector(heading_deg)
    x, z = (round(start.position_m[k] + reach * step[k], 3) for k in (0, 1))
    return SceneObject(*identity, (x, z), round(facing_deg) % 360.0, size)


def _choose_one(rng: random.Random, template: int, split: str) -> Identities:
    return sample_identities(rng, 1, split)


def _choose_small_one(rng: random.Random, template: int, split: str) -> Identities:
    return sample_identities(rng, 1, split, _SMALL_CATEGORIES)


def _choose_pair(
    rng: random.Random, template: int, split: str, categories: Sequence[str] = CATEGORY_NAMES
) -> Identities:
    """Two identities of comparable height."""
    while True:
        pair = sample_identities(rng, 2, split, categories)
        heights = [CATEGORIES[category].height_m[1] for category, _ in pair]
        if max(heights) <= _MAX_HEIGHT_RATIO * min(heights):
            return pair


def _choose_small_pair(rng: random.Random, template: int, split: str) -> Identities:
    return _choose_pair(rng, template, split, _SMALL_CATEGORIES)


def _choose_same_category(rng: random.Random, template: int, split: str) -> Identities:
    """Two colours of a category whose size range is wide enough for the claimed difference."""
    claim, amount = SIZE_CLAIMS[template]
    axis = _SIZE_AXIS.get(claim)
    ranges = {n: (k.length_m, k.width_m, k.height_m) for n, k in CATEGORIES.items()}
    fits = [n for n in CATEGORY_NAMES if axis is None or ranges[n][axis][1] - ranges[n][axis][0] > amount / 100 + 0.04]
    category = rng.choice(fits)
    held_out = next(color for name, color in sorted(HELD_OUT) if name == category)
    colors = rng.sample([color for color in COLORS if color != held_out], 2)
    if split == "held_out":
        colors[rng.randrange(2)] = held_out
    return [(category, color) for color in colors]


def _side_words(side: str) -> str:
    return f"the {side}" if side in ("front", "back") else f"the {side} side"


def camera_pose(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft:
    side = SIDES[template]
    obj = _placed(rng, camera, identities[0], VIEW_HEADING_DEG[side] + _jitter_deg(rng, side))
    words = _side_words(side)
    phrasings = (
        f"{{A}} seen from {words}",
        f"a view of {{A}} from {words}",
        f"{{A}}, seen from {words}",
        f"the camera sees {words} of {{A}}",
    )
    return Draft((obj,), (Fact("seen_from", 0, value=side),), phrasings)


def object_pose(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft:
    side = SIDES[template]
    obj = _placed(rng, camera, identities[0], VIEW_HEADING_DEG[side] + _jitter_deg(rng, side))
    target = {"front": "the camera", "back": "away from the camera"}.get(side, side)
    phrasings = (
        f"{{A}} facing {target}",
        f"{{A}} that is facing {target}",
        f"{{A}}, facing {target}",
        f"facing {target}, {{A}}",
    )
    value = {"front": "camera", "back": "away"}.get(side, side)
    return Draft((obj,), (Fact("facing", 0, value=value),), phrasings)


def complex_pose(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft | None:
    side = SIDES[template]
    first, second = (_placed(rng, camera, identity) for identity in identities)
    # Both get one heading. So each misses the wanted side by half the angle between the two viewing rays.
    if angle_between_deg(bearing_deg(first), bearing_deg(second)) > 36.0:
        return None
    heading = VIEW_HEADING_DEG[side] - (bearing_deg(first) + bearing_deg(second)) / 2
    objects = tuple(
        SceneObject(o.category, o.color, o.position_m, round(heading + rng.randint(-4, 4)) % 360.0, o.size_m)
        for o in (first, second)
    )
    words = _side_words(side)
    phrasings = (
        f"{{A}} and {{B}} facing the same way, seen from {words}",
        f"{{A}} and {{B}}, both seen from {words}",
        f"a view of {{A}} and {{B}} from {words}, facing the same way",
    )
    facts = (Fact("seen_from", 0, value=side), Fact("seen_from", 1, value=side), Fact("same_facing", 0, 1))
    return Draft(objects, facts, phrasings)


def egocentric_relation(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft | None:
    relation = EGOCENTRIC[template]
    first, second = (_placed(rng, camera, identity) for identity in identities)
    if template < 2:
        near, far = (first, second) if relation == "closer" else (second, first)
        holds = min(camera_distance_m(far), far.position_m[1]) > _MIN_DEPTH_MARGIN * max(
            camera_distance_m(near), near.position_m[1]
        )
        phrasings = (
            f"{{A}} {relation} than {{B}}",
            f"{{A}} {relation} to the camera than {{B}}".replace("farther to", "farther from"),
            f"{{A}} and {{B}}, the {{a}} is {relation}",
        )
    else:
        left, right = (first, second) if relation == "image_left" else (second, first)
        holds = image_slope(right) - image_slope(left) > _MIN_SLOPE_MARGIN
        side = relation.removeprefix("image_")
        phrasings = (
            f"{{A}} to the {side} of {{B}} for the viewer",
            f"for the viewer, {{A}} to the {side} of {{B}}",
            f"{{A}} and {{B}}, the {{a}} is on the {side} in the image",
        )
    return Draft((first, second), (Fact(relation, 0, 1),), phrasings) if holds else None


def allocentric_relation(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft:
    side = SIDES[template]
    reference = _placed(rng, camera, identities[0])
    direction = reference.heading_deg + ALLOCENTRIC_TURN_DEG[side] + _jitter_deg(rng, side)
    other = _offset(rng, reference, direction, identities[1], rng.uniform(0, 360))
    words = {"front": "in front of", "back": "behind"}.get(side, f"to the {side} of")
    phrasings = (
        f"{{B}} {words} {{A}}, in the own view of the {{a}}",
        f"from the own view of {{A}}, {{B}} is {words} it",
        f"{{A}} and {{B}}, the {{b}} is {words} the {{a}} in its own view",
    )
    return Draft((reference, other), (Fact("own_view", 1, 0, side),), phrasings)


def intrinsic_relation(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft:
    first = _placed(rng, camera, identities[0])
    turn = (rng.choice((90.0, 270.0)), rng.choice((90.0, 270.0)), 0.0, 180.0)[template]
    facing = first.heading_deg + (0.0 if template == 0 else 180.0) + rng.randint(-6, 6)
    second = _offset(rng, first, first.heading_deg + turn + rng.randint(-6, 6), identities[1], facing)
    if template < 2:
        way = "facing the same way" if template == 0 else "facing opposite ways"
        phrasings = (
            f"{{A}} and {{B}} side by side, {way}",
            f"{{A}} side by side with {{B}}, {way}",
            f"side by side and {way}, {{A}} and {{B}}",
        )
    else:
        manner = ARRANGEMENTS[template]
        phrasings = (f"{{A}} and {{B}} {manner}", f"{{A}} {manner} with {{B}}", f"{manner}, {{A}} and {{B}}")
    return Draft((first, second), (Fact("arrangement", 0, 1, ARRANGEMENTS[template]),), phrasings)


def object_size(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft:
    claim, amount = SIZE_CLAIMS[template]
    axis = _SIZE_AXIS.get(claim)
    growth_m = amount / 100.0
    large, small = identities
    size = list(sample_size(rng, small[0]))
    if axis is None:
        scale = amount ** (1.0 / 3.0)
        bigger = [round(scale * extent, 3) for extent in size]
    else:
        kind = CATEGORIES[small[0]]
        low, high = (kind.length_m, kind.width_m, kind.height_m)[axis]
        size[axis] = uniform(rng, low, high - growth_m)
        bigger = list(size)
        bigger[axis] = round(size[axis] + growth_m, 3)
    first, second = (
        SceneObject(*identity, place_in_view(rng, camera, tuple(extents)), float(rng.randrange(360)), tuple(extents))
        for identity, extents in ((large, bigger), (small, size))
    )
    words = "1.2 times the volume of" if axis is None else f"{amount:.0f} cm {claim.removesuffix('_cm')} than"
    verb = "has" if axis is None else "is"
    phrasings = (
        f"{{A}} and {{B}}, the {{a}} {verb} {words} the {{b}}",
        f"{{A}} that {verb} {words} {{B}}",
        f"{{B}} and {{A}}, the {{a}} {verb} {words} the {{b}}",
    )
    return Draft((first, second), (Fact(claim, 0, 1, amount),), phrasings)


def _solve_distance(measure: Callable[[float], float], wanted: float, high: float) -> float:
    """r in [0, high] with measure(r) = wanted, by bisection. measure must grow with r."""
    low = 0.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < wanted else (low, middle)
    return round(high, 3)


def object_distance(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft | None:
    wanted_m = OBJECT_GAPS_M[template]
    first, second = (_placed(rng, camera, identity) for identity in identities)
    # Checked before the costly step, which is solving for the gap.
    if not is_good_picture(camera, (first,)):
        return None
    step = heading_vector(rng.uniform(0, 360))

    def at(reach_m: float) -> SceneObject:
        x, z = (round(first.position_m[k] + reach_m * step[k], 3) for k in (0, 1))
        return _moved(second, (x, z))

    touching_m = sum(math.hypot(*obj.size_m[:2]) / 2 for obj in (first, second))
    nearest_m = max(min(first.size_m[:2]) / 2, min(second.size_m[:2]) / 2)
    reach_m = nearest_m + _solve_distance(
        lambda r: gap_m(first, at(nearest_m + r)), wanted_m, touching_m - nearest_m + wanted_m
    )
    text = f"{wanted_m:g} m"
    phrasings = (
        f"{{A}} {text} from {{B}}",
        f"{{A}} and {{B}} {text} apart",
        f"{{A}} and {{B}} with a gap of {text}",
        f"{{A}} and {{B}}, the gap is {text}",
    )
    return Draft((first, at(reach_m)), (Fact("gap_m", 0, 1, wanted_m),), phrasings)


def camera_distance(rng: random.Random, camera: Camera, template: int, identities: Identities) -> Draft:
    wanted_m = CAMERA_DISTANCES_M[template]
    start = _placed(rng, camera, identities[0])
    angle = math.radians(bearing_deg(start))

    def at(reach_m: float) -> SceneObject:
        return _moved(start, (round(reach_m * math.sin(angle), 3), round(reach_m * math.cos(angle), 3)))

    high = wanted_m + math.hypot(*start.size_m[:2])
    obj = at(_solve_distance(lambda r: camera_distance_m(at(r)), wanted_m, high))
    text = f"{wanted_m:g} m"
    phrasings = (
        f"{{A}} {text} from the camera",
        f"{{A}} {text} away",
        f"the camera is {text} from {{A}}",
        f"{{A}} at a distance of {text}",
    )
    return Draft((obj,), (Fact("camera_distance_m", 0, value=wanted_m),), phrasings)


BUILDERS: dict[str, Builder] = {
    "camera_pose": Builder(_choose_one, camera_pose),
    "object_pose": Builder(_choose_one, object_pose),
    "complex_pose": Builder(_choose_pair, complex_pose),
    "egocentric_relation": Builder(_choose_pair, egocentric_relation),
    "allocentric_relation": Builder(_choose_pair, allocentric_relation),
    "intrinsic_relation": Builder(_choose_pair, intrinsic_relation),
    "object_size": Builder(_choose_same_category, object_size),
    "object_distance": Builder(_choose_small_pair, object_distance),
    "camera_distance": Builder(_choose_small_one, camera_distance),
}
