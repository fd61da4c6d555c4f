"""What each kind of claim means: whether it holds, and how the objects are moved until it does.

Distances are horizontal, from the nearest point. Left and right are those of the picture. Headings are relative to the
ray from the camera, as in the captions of the world.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .. import footprint
from .arrangement import Arrangement, direction, ray, solve
from .claims import Claim

# Relative and absolute tolerance of lengths.
_SHARE, _METRES = 0.02, 0.055
_TURN_DEG = 23.0
# Where the left, the middle and the right of the picture are: shares of half of its width.
_MIDDLE_SHARE, _SIDE_SHARE = 0.16, 0.45
_SPACE_M = 0.3
# As far apart are the middles of two large things of which one is to the left of the other.
_APART_DEG = 6.5
_OWN_TURN = {"own_front": 0.0, "own_left": 90.0, "own_back": 180.0, "own_right": 270.0}
SIZE_AXES = {"width": 0, "height": 1, "length": 2, "wider_m": 0, "taller_m": 1, "longer_m": 2}

Holds = Callable[[Arrangement, Claim], bool]
Apply = Callable[[Arrangement, Claim], None]


@dataclass(frozen=True)
class Rule:
    holds: Holds
    apply: Apply


def _is_near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _METRES + _SHARE * abs(wanted)


def _size_wanted(a: Arrangement, c: Claim) -> tuple[int, float]:
    """The axis of a size and what it should be."""
    if c.kind == "height_ratio":
        return 1, (c.value or 1.0) * a[c.reference].size_m[1]
    axis = SIZE_AXES[c.kind]
    base = a[c.reference].size_m[axis] if c.kind.endswith("_m") else 0.0
    return axis, base + (c.value or 0.0)


def _size_holds(a: Arrangement, c: Claim) -> bool:
    axis, wanted = _size_wanted(a, c)
    return _is_near(a[c.subject].size_m[axis], wanted)


def _apply_size(a: Arrangement, c: Claim) -> None:
    """A height scales the object in proportion; a width or a length changes alone."""
    axis, wanted = _size_wanted(a, c)
    size = list(a[c.subject].size_m)
    ratio = wanted / size[axis]
    a.resize(c.subject, [side * ratio for side in size] if axis == 1 else [*size[:axis], wanted, *size[axis + 1 :]])


def _taller_holds(a: Arrangement, c: Claim) -> bool:
    low, high = (c.reference, c.subject) if c.kind == "taller" else (c.subject, c.reference)
    return a[high].size_m[1] > 1.02 * a[low].size_m[1]


def _apply_taller(a: Arrangement, c: Claim) -> None:
    ratio = a[c.reference].size_m[1] / a[c.subject].size_m[1] * (1.2 if c.kind == "taller" else 0.8)
    a.resize(c.subject, [side * ratio for side in a[c.subject].size_m])


def _volume_holds(a: Arrangement, c: Claim) -> bool:
    ratio = math.prod(a[c.subject].size_m) / math.prod(a[c.reference].size_m)
    return abs(ratio / c.value - 1.0) <= 0.05


def _apply_volume(a: Arrangement, c: Claim) -> None:
    """The same proportions as the other one, if both have one shape; else its own."""
    like = a[c.reference] if a[c.subject].shape == a[c.reference].shape else a[c.subject]
    scale = (c.value * math.prod(a[c.reference].size_m) / math.prod(like.size_m)) ** (1 / 3)
    a.resize(c.subject, [side * scale for side in like.size_m])


def _view_share(a: Arrangement, index: int) -> float:
    """Where an object's middle is in the picture: -1 at its left edge, 1 at its right edge."""
    box = a.box(index)
    if box is None or not math.isfinite(box.left + box.right):
        return math.inf
    return (box.left + box.right) / a.view.width - 1.0


def _view_side_holds(a: Arrangement, c: Claim) -> bool:
    share = _view_share(a, c.subject)
    if c.kind == "view_middle":
        return abs(share) <= _MIDDLE_SHARE
    return 1.5 > (-share if c.kind == "view_left" else share) > _MIDDLE_SHARE


def _apply_view_side(a: Arrangement, c: Claim) -> None:
    share = {"view_left": -_SIDE_SHARE, "view_middle": 0.0, "view_right": _SIDE_SHARE}[c.kind]
    while a.half_angle(c.subject) > 0.6 * a.half_view_deg and a.is_free(c.subject):
        # It fills the picture: there is no left and right of it.
        a.put_on_ray(c.subject, 0.0, 0.2 + 1.3 * a.centre_distance(c.subject))
    a.keep_distance(c.subject, math.degrees(math.atan(share * math.tan(math.radians(a.half_view_deg)))))


def _distance_holds(a: Arrangement, c: Claim) -> bool:
    thing = a[c.subject]
    return thing.position_m[2] > 0 and _is_near(footprint.camera_distance_m(thing), c.value)


def _apply_distance(a: Arrangement, c: Claim) -> None:
    x, _, z = a[c.subject].position_m
    if c.subject in a.side_is_said and abs(x) < c.value + a[c.subject].size_m[2]:
        a.put_beside(c.subject, x, c.value)
    else:
        a.put_at_distance(c.subject, a.bearing(c.subject) if z > 0 else 0.0, c.value)


def _side_wanted(c: Claim) -> float:
    return -c.value if c.kind == "left_m" else c.value


def _side_holds(a: Arrangement, c: Claim) -> bool:
    return _is_near(a[c.subject].position_m[0], _side_wanted(c))


def _apply_side(a: Arrangement, c: Claim) -> None:
    distance = footprint.camera_distance_m(a[c.subject])
    if c.subject in a.distance_is_said:
        a.put_beside(c.subject, _side_wanted(c), distance)
    else:
        a.put(c.subject, _side_wanted(c), a[c.subject].position_m[2])


def _lateral_holds(a: Arrangement, c: Claim) -> bool:
    left, right = (c.subject, c.reference) if c.kind == "left" else (c.reference, c.subject)
    apart = a.bearing(right) - a.bearing(left)
    if c.value is not None and not _is_near(footprint.gap_m(a[left], a[right]), c.value):
        return False
    return min(_APART_DEG, 0.6 * max(a.half_angle(left), a.half_angle(right))) <= apart < 180.0


def _apply_lateral(a: Arrangement, c: Claim) -> None:
    moved, fixed = a.moved_and_fixed(c)
    if moved in a.side_is_said:
        moved, fixed = fixed, moved
    sign = -1.0 if (c.kind == "left") == (moved == c.subject) else 1.0
    if c.value is not None:
        x, _, z = a[fixed].position_m
        across = ray(a.bearing(fixed) + 90.0 * sign)

        def gap(step: float) -> float:
            a.put(moved, x + float(across[0]) * step, z + float(across[1]) * step)
            return footprint.gap_m(a[moved], a[fixed])

        solve(gap, c.value, 0.0, c.value + a.reach(fixed, across) + sum(a[moved].size_m))
        return
    apart = min(a.half_angle(fixed) + a.half_angle(moved) + 1.0, 80.0)
    edge = 0.7 * a.half_view_deg
    wanted = sign * min(sign * a.bearing(fixed) + apart, edge)
    least = min(apart, 1.5 * _APART_DEG)
    if sign * (wanted - a.bearing(fixed)) < least and fixed not in a.side_is_said:
        a.keep_distance(fixed, wanted - sign * least)
    a.keep_distance(moved, wanted)


def _order(c: Claim) -> tuple[int, int]:
    """The farther and the nearer object."""
    return (c.subject, c.reference) if c.kind in ("behind", "farther") else (c.reference, c.subject)


def _depth_order_holds(a: Arrangement, c: Claim) -> bool:
    far, near = _order(c)
    if c.value is not None and not _is_near(footprint.gap_m(a[far], a[near]), c.value):
        return False
    between = a.centre_distance(far) - a.centre_distance(near)
    turn = footprint.turn_deg(a.bearing(far), a.bearing(near))
    return between >= 0.5 * (a.view_reach(far) + a.view_reach(near)) and turn <= (
        a.half_angle(far) + a.half_angle(near) + 10.0
    )


def _apply_depth_order(a: Arrangement, c: Claim) -> None:
    far, near = _order(c)
    moved, fixed = a.moved_and_fixed(c)
    turn = footprint.turn_deg(a.bearing(far), a.bearing(near))
    if turn > a.half_angle(far) + a.half_angle(near) and moved not in a.side_is_said:
        a.put_on_ray(moved, a.bearing(fixed), a.centre_distance(moved))
    space = a.view_reach(far) + a.view_reach(near) + (_SPACE_M if c.value is None else c.value)
    distance = a.centre_distance(fixed) + (space if moved == far else -space)
    lowest = a.view_reach(moved) + 0.5
    if distance < lowest and fixed not in a.distance_is_said:
        # There is no room before the camera: the other one goes back too.
        a.put_on_ray(fixed, a.bearing(fixed), lowest + space)
    a.put_on_ray(moved, a.bearing(moved), max(distance, lowest))


def _nearer_holds(a: Arrangement, c: Claim) -> bool:
    far, near = _order(c)
    return footprint.camera_distance_m(a[near]) < 0.95 * footprint.camera_distance_m(a[far])


def _apply_nearer(a: Arrangement, c: Claim) -> None:
    far, _ = _order(c)
    moved, fixed = a.moved_and_fixed(c)
    other = footprint.camera_distance_m(a[fixed])
    a.put_at_distance(moved, a.bearing(moved), max(0.3, other * (1.0 / 0.7 if moved == far else 0.7)))


def _gap_holds(a: Arrangement, c: Claim) -> bool:
    return _is_near(footprint.gap_m(a[c.subject], a[c.reference]), c.value)


def _apply_gap(a: Arrangement, c: Claim) -> None:
    moved, fixed = a.moved_and_fixed(c)
    heading = footprint.direction_deg(a[fixed], a[moved])
    _put_at_gap(a, moved, fixed, heading, c.value)


def _put_at_gap(a: Arrangement, moved: int, fixed: int, heading_deg: float, gap: float) -> None:
    x, _, z = a[fixed].position_m
    step = direction(heading_deg)

    def measure(reach: float) -> float:
        a.put(moved, x + float(step[0]) * reach, z + float(step[1]) * reach)
        return footprint.gap_m(a[moved], a[fixed])

    longest = sum(math.hypot(a[k].size_m[0], a[k].size_m[2]) for k in (moved, fixed)) / 2
    solve(measure, max(gap, 1e-3), 0.0, gap + longest)


def _beside_holds(a: Arrangement, c: Claim) -> bool:
    first, second = c.subject, c.reference
    largest = max(*a[first].size_m, *a[second].size_m)
    apart = footprint.turn_deg(a.bearing(first), a.bearing(second))
    is_near = footprint.gap_m(a[first], a[second]) <= max(0.6, 0.6 * min(largest, 5.0))
    return is_near and apart >= 0.5 * (a.half_angle(first) + a.half_angle(second))


def _apply_beside(a: Arrangement, c: Claim) -> None:
    moved, fixed = a.moved_and_fixed(c)
    side = 90.0 if a.bearing(moved) >= a.bearing(fixed) else -90.0
    # A bearing of b is a heading of 180 - b.
    _put_at_gap(a, moved, fixed, 180.0 - (a.bearing(fixed) + side), _SPACE_M)


def _own_side_holds(a: Arrangement, c: Claim) -> bool:
    wanted = a[c.reference].heading_deg + _OWN_TURN[c.kind]
    return footprint.turn_deg(footprint.direction_deg(a[c.reference], a[c.subject]), wanted) <= 30.0


def _apply_own_side(a: Arrangement, c: Claim) -> None:
    wanted = a[c.reference].heading_deg + _OWN_TURN[c.kind]
    _put_at_gap(a, c.subject, c.reference, wanted, max(_SPACE_M, footprint.gap_m(a[c.subject], a[c.reference])))


def _together_holds(a: Arrangement, c: Claim) -> bool:
    turns = {"side_by_side": (90.0, 270.0), "face_to_face": (0.0,), "back_to_back": (180.0,)}[c.kind]
    heading = a[c.reference].heading_deg
    there = footprint.direction_deg(a[c.reference], a[c.subject])
    is_there = any(footprint.turn_deg(there, heading + turn) <= 30.0 for turn in turns)
    return is_there and (c.kind == "side_by_side" or _opposite_holds(a, c))


def _apply_together(a: Arrangement, c: Claim) -> None:
    heading = a[c.reference].heading_deg
    there = footprint.direction_deg(a[c.reference], a[c.subject])
    if c.kind == "side_by_side":
        turn = 90.0 if footprint.turn_deg(there, heading + 90.0) <= 90.0 else 270.0
    else:
        turn = 0.0 if c.kind == "face_to_face" else 180.0
        a.turn(c.subject, heading + 180.0)
    _put_at_gap(a, c.subject, c.reference, heading + turn, _SPACE_M)


def _facing_holds(a: Arrangement, c: Claim) -> bool:
    return footprint.turn_deg(a[c.subject].heading_deg + a.bearing(c.subject), c.value) <= _TURN_DEG


def _apply_facing(a: Arrangement, c: Claim) -> None:
    a.turn(c.subject, c.value - a.bearing(c.subject))


def _facing_object_holds(a: Arrangement, c: Claim) -> bool:
    wanted = footprint.direction_deg(a[c.subject], a[c.reference])
    return footprint.turn_deg(a[c.subject].heading_deg, wanted) <= _TURN_DEG


def _apply_facing_object(a: Arrangement, c: Claim) -> None:
    a.turn(c.subject, footprint.direction_deg(a[c.subject], a[c.reference]))


def _same_holds(a: Arrangement, c: Claim) -> bool:
    return footprint.turn_deg(a[c.subject].heading_deg, a[c.reference].heading_deg) <= _TURN_DEG


def _opposite_holds(a: Arrangement, c: Claim) -> bool:
    return footprint.turn_deg(a[c.subject].heading_deg, a[c.reference].heading_deg) >= 180.0 - _TURN_DEG


def _seat_m(a: Arrangement, index: int) -> float:
    """How far above its lowest point a person sits."""
    thing = a[index]
    return thing.size_m[1] * 0.42 / 1.33 if thing.shape == "sitting person" else 0.0


def _height_wanted(a: Arrangement, c: Claim) -> float:
    """Where the lowest point of the subject is on, under or above the other one."""
    thing, other = a[c.subject], a[c.reference]
    if c.kind == "under":
        return 0.0
    top = other.position_m[1] + other.size_m[1]
    if c.kind == "above":
        return top + (_SPACE_M if c.value is None else c.value)
    surface = a.surface_height(c.reference, thing.position_m[0], thing.position_m[2])
    return max(0.0, (top if surface is None else surface) - _seat_m(a, c.subject))


def _stacked_holds(a: Arrangement, c: Claim) -> bool:
    thing = a[c.subject]
    is_there = footprint.point_distance_m(a[c.reference], footprint.centre(thing)) <= 1e-6
    return is_there and abs(thing.position_m[1] - _height_wanted(a, c)) <= 0.02


def _apply_stacked(a: Arrangement, c: Claim) -> None:
    if footprint.point_distance_m(a[c.reference], footprint.centre(a[c.subject])) > 1e-6:
        moved, fixed = a.moved_and_fixed(c)
        a.put(moved, a[fixed].position_m[0], a[fixed].position_m[2])
    x, _, z = a[c.subject].position_m
    a.put(c.subject, x, z, _height_wanted(a, c))


RULES: dict[str, Rule] = {
    **{kind: Rule(_size_holds, _apply_size) for kind in (*SIZE_AXES, "height_ratio")},
    **{kind: Rule(_taller_holds, _apply_taller) for kind in ("taller", "smaller")},
    "volume_ratio": Rule(_volume_holds, _apply_volume),
    **{kind: Rule(_side_holds, _apply_side) for kind in ("left_m", "right_m")},
    "distance": Rule(_distance_holds, _apply_distance),
    **{kind: Rule(_view_side_holds, _apply_view_side) for kind in ("view_left", "view_middle", "view_right")},
    **{kind: Rule(_nearer_holds, _apply_nearer) for kind in ("closer", "farther")},
    **{kind: Rule(_depth_order_holds, _apply_depth_order) for kind in ("behind", "before")},
    "beside": Rule(_beside_holds, _apply_beside),
    **{kind: Rule(_own_side_holds, _apply_own_side) for kind in _OWN_TURN},
    **{kind: Rule(_together_holds, _apply_together) for kind in ("side_by_side", "face_to_face", "back_to_back")},
    **{kind: Rule(_lateral_holds, _apply_lateral) for kind in ("left", "right")},
    "gap": Rule(_gap_holds, _apply_gap),
    "facing": Rule(_facing_holds, _apply_facing),
    "facing_object": Rule(_facing_object_holds, _apply_facing_object),
    "same_way": Rule(_same_holds, lambda a, c: a.turn(c.subject, a[c.reference].heading_deg)),
    "opposite_ways": Rule(_opposite_holds, lambda a, c: a.turn(c.subject, a[c.reference].heading_deg + 180.0)),
    **{kind: Rule(_stacked_holds, _apply_stacked) for kind in ("on", "under", "above")},
}
"""In the order in which they are applied: sizes, places, headings, and what stands on what."""
