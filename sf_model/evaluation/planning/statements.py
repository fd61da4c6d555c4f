"""What the prompts state, and whether a layout keeps to it.

This is a second implementation beside the planner's own rules (`scaffold.planning.rules`), and a more lenient one: it
judges what a language model wrote, and the planner. Where words can be read in two ways, both are right. "2 m away" is
the distance of the middle or of the nearest point. "Facing left" is a direction in space, or as the camera sees it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...scaffold.footprint import (
    bearing_deg,
    camera_distance_m,
    centre,
    direction_deg,
    gap_m,
    point_distance_m,
    turn_deg,
)
from ...scaffold.layout import Layout, LayoutObject

# Relative error of lengths and ratios, too small or too large.
TOLERANCE = 1.0 / 3.0
HEADING_DEG = 30.0
PITCH_DEG = 10.0
# Two things that are beside each other in the picture have middles at least so far apart.
APART_DEG = 2.0
# "Behind" allows this angle between the edges of the two things.
BEHIND_DEG = 10.0
CLOSER_SHARE = 0.95
TALLER_SHARE = 1.05
ON_TOP_M = 0.1
BESIDE_M, BESIDE_SHARE = 1.0, 0.5
# Shares of half of the picture's width. The ends are generous, because only middles are looked at.
MIDDLE_SHARE, SIDE_SHARE, OUTSIDE_SHARE = 0.2, 0.1, 1.25


@dataclass(frozen=True)
class Statement:
    """One thing that a prompt states. subject, reference: indices of the prompt's things; None for the camera."""

    # A key of CHECKS.
    kind: str
    subject: int | None = None
    reference: int | None = None
    # Metres, degrees or a ratio, by kind.
    value: float = 0.0
    # (width, height, length) in metres, for the kind "size".
    size_m: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class _Case:
    """A statement with the things that it is about."""

    statement: Statement
    layout: Layout
    subject: LayoutObject | None
    reference: LayoutObject | None


def is_near(value: float, wanted: float, tolerance: float = TOLERANCE) -> bool:
    """Whether the relative error is within the tolerance."""
    # Decimal numbers such as 4 / 3 of a metre belong to the tolerance.
    return abs(value - wanted) <= tolerance * abs(wanted) + 1e-9


def _distance(case: _Case) -> float:
    thing, wanted = case.subject, case.statement.value
    lengths = (camera_distance_m(thing), math.hypot(*centre(thing)))
    return float(thing.position_m[2] > 0 and any(is_near(length, wanted) for length in lengths))


def _gap(case: _Case) -> float:
    between = math.hypot(*(centre(case.subject) - centre(case.reference)))
    lengths = (between, gap_m(case.subject, case.reference))
    return float(any(is_near(length, case.statement.value) for length in lengths))


def _size(case: _Case) -> float:
    """The share of the three sides that is right."""
    return sum(is_near(side, wanted) for side, wanted in zip(case.subject.size_m, case.statement.size_m)) / 3


def _height(case: _Case) -> float:
    return float(is_near(case.subject.size_m[1], case.statement.value))


def _height_ratio(case: _Case) -> float:
    return float(is_near(case.subject.size_m[1] / case.reference.size_m[1], case.statement.value))


def _turn_error(thing: LayoutObject, wanted_deg: float) -> float:
    """In space, or relative to the ray from the camera: the smaller error, in degrees."""
    return min(turn_deg(thing.heading_deg, wanted_deg), turn_deg(thing.heading_deg + bearing_deg(thing), wanted_deg))


def _facing(case: _Case) -> float:
    return float(_turn_error(case.subject, case.statement.value) <= HEADING_DEG)


def _facing_object(case: _Case) -> float:
    wanted = direction_deg(case.subject, case.reference)
    is_apart = math.hypot(*(centre(case.subject) - centre(case.reference))) > 1e-6
    return float(is_apart and turn_deg(case.subject.heading_deg, wanted) <= HEADING_DEG)


def _same_way(case: _Case) -> float:
    return float(turn_deg(case.subject.heading_deg, case.reference.heading_deg) <= HEADING_DEG)


def _right_by_deg(case: _Case) -> float:
    """How far the subject's middle is to the right of the reference's. nan where one is not before the camera."""
    if min(case.subject.position_m[2], case.reference.position_m[2]) <= 0:
        return math.nan
    return bearing_deg(case.subject) - bearing_deg(case.reference)


def _left(case: _Case) -> float:
    return float(_right_by_deg(case) <= -APART_DEG)


def _right(case: _Case) -> float:
    return float(_right_by_deg(case) >= APART_DEG)


def _half_angle_deg(thing: LayoutObject) -> float:
    width, _, length = thing.size_m
    return math.degrees(math.atan2(0.5 * math.hypot(width, length), math.hypot(*centre(thing))))


def _is_behind(far: LayoutObject, near: LayoutObject) -> float:
    if min(far.position_m[2], near.position_m[2]) <= 0:
        return 0.0
    is_farther = CLOSER_SHARE * math.hypot(*centre(far)) > math.hypot(*centre(near))
    turn = turn_deg(bearing_deg(far), bearing_deg(near))
    return float(is_farther and turn <= _half_angle_deg(far) + _half_angle_deg(near) + BEHIND_DEG)


def _is_closer(near: LayoutObject, far: LayoutObject) -> float:
    return float(
        min(near.position_m[2], far.position_m[2]) > 0
        and camera_distance_m(near) < CLOSER_SHARE * camera_distance_m(far)
    )


def _beside(case: _Case) -> float:
    sides = (side for thing in (case.subject, case.reference) for side in (thing.size_m[0], thing.size_m[2]))
    is_near_by = gap_m(case.subject, case.reference) <= max(BESIDE_M, BESIDE_SHARE * max(sides))
    return float(is_near_by and abs(_right_by_deg(case)) >= APART_DEG)


def _on(case: _Case) -> float:
    top = case.reference.position_m[1] + case.reference.size_m[1]
    is_over = point_distance_m(case.reference, centre(case.subject)) == 0
    return float(is_over and abs(case.subject.position_m[1] - top) <= ON_TOP_M)


def _picture_share(case: _Case) -> float:
    """Where the middle is in a square picture: -1 at its left edge, 1 at its right edge. nan behind the camera."""
    x, _, z = case.subject.position_m
    return x / z / math.tan(math.radians(case.layout.camera.fov_y_deg) / 2) if z > 0 else math.nan


def _picture_left(case: _Case) -> float:
    return float(-OUTSIDE_SHARE <= _picture_share(case) <= -SIDE_SHARE)


def _picture_right(case: _Case) -> float:
    return float(SIDE_SHARE <= _picture_share(case) <= OUTSIDE_SHARE)


def _picture_middle(case: _Case) -> float:
    return float(abs(_picture_share(case)) <= MIDDLE_SHARE)


@dataclass(frozen=True)
class Check:
    """How a kind of statement is judged. truth: a share in [0, 1]."""

    measure: str
    truth: Callable[[_Case], float]


MEASURES = ("relations", "distances", "sizes", "headings", "camera")
CHECKS: dict[str, Check] = {
    "left": Check("relations", _left),
    "right": Check("relations", _right),
    "behind": Check("relations", lambda case: _is_behind(case.subject, case.reference)),
    "in_front": Check("relations", lambda case: _is_behind(case.reference, case.subject)),
    "closer": Check("relations", lambda case: _is_closer(case.subject, case.reference)),
    "farther": Check("relations", lambda case: _is_closer(case.reference, case.subject)),
    "beside": Check("relations", _beside),
    "on": Check("relations", _on),
    "picture_left": Check("relations", _picture_left),
    "picture_middle": Check("relations", _picture_middle),
    "picture_right": Check("relations", _picture_right),
    "distance": Check("distances", _distance),
    "gap": Check("distances", _gap),
    "size": Check("sizes", _size),
    "height": Check("sizes", _height),
    "height_ratio": Check("sizes", _height_ratio),
    "facing": Check("headings", _facing),
    "facing_object": Check("headings", _facing_object),
    "same_way": Check("headings", _same_way),
    "camera_height": Check("camera", lambda case: float(is_near(case.layout.camera.height_m, case.statement.value))),
    "camera_fov": Check("camera", lambda case: float(is_near(case.layout.camera.fov_y_deg, case.statement.value))),
    "camera_pitch": Check(
        "camera", lambda case: float(abs(case.layout.camera.pitch_deg - case.statement.value) <= PITCH_DEG)
    ),
    # Words without a number. Only the side of a limit is judged.
    "low_camera": Check("camera", lambda case: float(case.layout.camera.height_m <= 1.0)),
    "camera_looks_down": Check("camera", lambda case: float(case.layout.camera.pitch_deg >= 40.0)),
    "wide_lens": Check("camera", lambda case: float(case.layout.camera.fov_y_deg >= 58.0)),
    "long_lens": Check("camera", lambda case: float(case.layout.camera.fov_y_deg <= 30.0)),
}


def truth(statement: Statement, layout: Layout, found: Sequence[LayoutObject | None]) -> float:
    """The share in [0, 1] to which a layout keeps to a statement.

    found: the objects of the prompt's things, in their order. A statement about a thing that is not there is false.
    """
    subject, reference = (None if k is None else found[k] for k in (statement.subject, statement.reference))
    is_missing = [k is not None and found[k] is None for k in (statement.subject, statement.reference)]
    if any(is_missing):
        return 0.0
    return CHECKS[statement.kind].truth(_Case(statement, layout, subject, reference))
