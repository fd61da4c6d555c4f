"""Moves the objects of a layout until it says what the words say, nothing is in another thing, and all is in view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import footprint
from ..layout import MIN_SIZE_M, Layout, LayoutObject
from ..layout_fields import Notes
from .arrangement import Arrangement, ray
from .claims import Claim
from .rules import RULES

_ROUNDS = 6
_MIN_SEEN, _MIN_COVERED = 0.4, 0.2
_TOUCH_M = 0.02
# So that a hundred things at one place take seconds and not minutes.
_MAX_PAIRS, _MAX_TRIES = 200, 1500
_STACKED = frozenset(("on", "under", "above"))
# Shapes that other things are in, on or at, without a word in the prompt.
_HOSTS = frozenset(
    ("chair", "sofa", "bench", "stool", "office chair", "bed", "bicycle", "motorcycle", "horse", "boat", "car", "table")
    + ("desk", "round table", "wall", "wall with window", "house", "tent", "arch", "stairs", "tower", "tree", "palm")
)
_GUESTS = frozenset(
    ("sitting person", "lying person", "door", "window", "chair", "office chair", "stool", "cat", "bird", "book", "cup")
    + ("plate", "bowl", "bottle", "laptop", "monitor", "vase", "television", "wine glass", "table lamp", "mailbox")
)
# Shapes whose upper part hangs over the ground: the share of their rectangle in which nothing else can stand.
_FOOT = {"tree": 0.15, "palm": 0.12, "umbrella": 0.08, "street lamp": 0.2, "floor lamp": 0.8, "conifer": 0.5}


def solve_layout(layout: Layout, claims: Sequence[Claim], aspect: float = 1.0) -> tuple[Layout, tuple[str, ...]]:
    """The layout with its objects moved, turned and resized, and a note on every change and on what cannot be.

    What the words say goes before what the layout has. aspect: width / height of the image.
    """
    order = list(RULES)
    ordered = sorted(claims, key=lambda claim: order.index(claim.kind))
    state = Arrangement(layout.objects, ordered, layout.camera, aspect)
    changed: dict[Claim, None] = {}
    pushed: set[int] = set()
    shown: set[int] = set()
    for _ in range(_ROUNDS):
        before = list(state.things)
        for claim in ordered:
            if not RULES[claim.kind].holds(state, claim):
                RULES[claim.kind].apply(state, claim)
                changed[claim] = None
        pushed |= _separate(state, ordered)
        shown |= _bring_into_view(state, ordered)
        if state.things == before:
            break
    result = replace(layout, objects=tuple(state.things))
    return result, _notes(layout, result, state, ordered, changed, (pushed, shown))


def _may_touch(state: Arrangement, claims: Sequence[Claim], first: int, second: int) -> bool:
    """Whether two objects may be in one another: the words or their shapes say so."""
    if any(c.kind in _STACKED and {c.subject, c.reference} == {first, second} for c in claims):
        return True
    shapes = state[first].shape, state[second].shape
    return any(a in _GUESTS and b in _HOSTS for a, b in (shapes, shapes[::-1]))


def _foot(thing: LayoutObject) -> LayoutObject:
    """The object with the rectangle that nothing else can stand in."""
    share = _FOOT.get(thing.shape, 1.0)
    width, height, length = thing.size_m
    return replace(thing, size_m=(max(width * share, MIN_SIZE_M), height, max(length * share, MIN_SIZE_M)))


def _overlaps(state: Arrangement, claims: Sequence[Claim]) -> list[tuple[int, int, np.ndarray]]:
    """Pairs that are in one another, with the shortest shift of the second; at most _MAX_PAIRS."""
    feet = [_foot(thing) for thing in state.things]
    centres = np.array([footprint.centre(foot) for foot in feet]).reshape(-1, 2)
    radii = np.array([math.hypot(foot.size_m[0], foot.size_m[2]) / 2 for foot in feet])
    apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    found = []
    for second, first in np.argwhere(np.tril(apart < radii[:, None] + radii[None], -1)).tolist():
        if footprint.overlap_in_height_m(feet[first], feet[second]) <= _TOUCH_M:
            continue
        push = footprint.push_apart(feet[first], feet[second])
        if push is not None and np.hypot(*push) > _TOUCH_M and not _may_touch(state, claims, first, second):
            found.append((first, second, push))
            if len(found) == _MAX_PAIRS:
                break
    return found


def _separate(state: Arrangement, claims: Sequence[Claim]) -> set[int]:
    """Push objects apart. Those that words place stay, then the larger ones. Returns what was moved."""
    moved: set[int] = set()
    said = {index for c in claims for index in (c.subject,) if c.kind in ("distance", "left_m", "right_m", *_STACKED)}
    for _ in range(_ROUNDS):
        pairs = _overlaps(state, claims)
        for first, second, push in pairs:
            larger = state[first].size_m[0] * state[first].size_m[2] < state[second].size_m[0] * state[second].size_m[2]
            if first in said and second in said:
                continue
            is_first = second in said or (first not in said and larger)
            state.shift(first if is_first else second, (-push if is_first else push) * 1.01)
            moved.add(first if is_first else second)
        if not pairs:
            break
    return moved


def _is_seen(state: Arrangement, index: int) -> bool:
    """Whether enough of an object is in the picture, or it fills much of it. What hides it does not matter."""
    box, view = state.box(index), state.view
    if box is None:
        return False
    across = min(box.right, view.width) - max(box.left, 0.0)
    down = min(box.bottom, view.height) - max(box.top, 0.0)
    fills = across > 0 and down > 0 and across * down >= _MIN_COVERED * view.width * view.height
    return fills or box.seen_share(view.width, view.height) >= _MIN_SEEN


def _bring_into_view(state: Arrangement, claims: Sequence[Claim]) -> set[int]:
    """Move groups of objects to the middle of the view, and then away, until all of them are seen."""
    moved: set[int] = set()
    tries = 0
    for group in _groups(state, claims):
        if tries > _MAX_TRIES or all(_is_seen(state, index) for index in group):
            continue
        before = list(state.things)
        for step in _steps(state, group):
            tries += len(group)
            for index in group:
                state.things[index] = before[index]
                state.shift(index, step)
            if all(_is_seen(state, index) for index in group):
                moved |= set(group)
                break
        else:
            state.things = before
    return moved


def _groups(state: Arrangement, claims: Sequence[Claim]) -> list[list[int]]:
    """Objects that words tie together and that move as one. One whose place is said does not move at all."""
    group = list(range(len(state.things)))
    for claim in claims:
        if claim.reference is not None and state.is_free(claim.subject) and state.is_free(claim.reference):
            old, new = group[claim.subject], group[claim.reference]
            group = [new if g == old else g for g in group]
    indices = [index for index in range(len(group)) if state.is_free(index)]
    return [[index for index in indices if group[index] == g] for g in dict.fromkeys(group[i] for i in indices)]


def _steps(state: Arrangement, group: Sequence[int]) -> list[np.ndarray]:
    """Shifts (x, z) to try, which put the group's middle at other distances and bearings: near places first."""
    middle = np.mean([footprint.centre(state[index]) for index in group], axis=0)
    largest = max(max(state[index].size_m[0], state[index].size_m[2]) for index in group)
    start = max(float(np.hypot(*middle)), 0.5 * largest + 0.3)
    # What is behind the camera is turned to the place before it.
    bearing = math.degrees(math.atan2(middle[0], abs(middle[1])))
    turns = [bearing * share for share in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)]
    return [ray(turn) * start * 1.25**k - middle for k in range(18) for turn in turns]


def _notes(
    old: Layout,
    new: Layout,
    state: Arrangement,
    claims: Sequence[Claim],
    changed: dict[Claim, None],
    moved: tuple[set[int], set[int]],
) -> tuple[str, ...]:
    notes = Notes()
    label = lambda index: repr(new.objects[index].name[:60])  # noqa: E731
    for claim in changed:
        told = [index for index in (claim.subject, claim.reference) if index is not None]
        is_other = any(old.objects[index] != new.objects[index] for index in told)
        if RULES[claim.kind].holds(state, claim) and is_other:
            notes.add(f"{label(claim.subject)} was changed to be {claim.words}, as the words say")
    for text, indices in zip(("to stand free", "to be in the picture"), moved):
        for index in sorted(indices):
            if old.objects[index].position_m != new.objects[index].position_m:
                notes.add(f"{label(index)} was moved {text}")
    for claim in claims:
        if not RULES[claim.kind].holds(state, claim):
            notes.add(f"not possible together with the rest: {label(claim.subject)} {claim.words}")
    for first, second, _ in _overlaps(state, claims):
        notes.add(f"{label(first)} and {label(second)} are in one another")
    for index in range(len(new.objects)):
        if not _is_seen(state, index):
            notes.add(f"{label(index)} is not in the picture")
    return notes.sentences()
