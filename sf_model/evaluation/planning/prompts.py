"""The prompts: fifteen templates of what Plan Scene Layout promises, about everyday things. The seed decides them.

Every prompt comes with its statements and with a layout for which all of them are true: the ceiling of the scores.
The things of the instructions' own example (cat, chair, wooden table, red car) are in no prompt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ...scaffold.layout import Layout, LayoutCamera, LayoutObject, fov_of_lens
from ...scaffold.sizes import typical_size
from .statements import Statement

PROMPTS_PER_TEMPLATE = 4
# "On top" has no more different texts.
MAX_PROMPTS_PER_TEMPLATE = 16
COLORS = ("blue", "green", "yellow", "white", "black", "grey")
COLORED = ("bicycle", "motorcycle", "armchair", "suitcase", "barrel", "mailbox", "bench", "van", "vase", "backpack")
PLAIN = ("dog", "robot", "statue", "snowman", "child", "woman", "fire hydrant", "traffic cone", "bush", "potted plant")
WITH_FRONT = ("dog", "horse", "robot", "woman", "child", "motorcycle", "van", "armchair", "cow", "elephant")
ALIVE = ("dog", "horse", "cow", "elephant", "woman", "child", "robot")
LARGE = ("bus", "truck", "house", "tree", "van", "horse", "tent")
# (thing, what it is on, what is behind that)
ON_TOP = (
    ("laptop", "desk", "bookshelf"),
    ("vase", "sideboard", "floor lamp"),
    ("teapot", "coffee table", "sofa"),
    ("birthday cake", "picnic table", "tree"),
    ("potted plant", "chest of drawers", "armchair"),
    ("monitor", "desk", "refrigerator"),
)
# Their usual heights are more than a third off.
STATED_HEIGHTS = (("statue", 4.0), ("robot", 0.5), ("bush", 2.5), ("snowman", 3.0), ("tree", 3.0), ("tent", 3.0))
# (subject, reference, words, ratio), with the same property.
RATIOS = (
    ("robot", "street lamp", "as tall as", 1.0),
    ("bush", "horse", "as tall as", 1.0),
    ("snowman", "house", "half as tall as", 0.5),
    ("statue", "bus", "twice as tall as", 2.0),
    ("vase", "barrel", "as tall as", 1.0),
    ("dog", "van", "as tall as", 1.0),
)
FACING = (("to the left", 270.0), ("to the right", 90.0), ("the camera", 0.0), ("away from the camera", 180.0))
LENSES_MM = (24, 35, 50, 85)
# Wishes for the camera; the node has an input for them.
WISHES = (
    ("low angle", "low_camera", {"height_m": 0.4, "pitch_deg": -6.0}),
    ("bird's-eye view", "camera_looks_down", {"height_m": 8.0, "pitch_deg": 60.0}),
    ("wide-angle lens", "wide_lens", {"fov_y_deg": 65.0}),
    ("telephoto lens", "long_lens", {"fov_y_deg": 20.0}),
)
Variant = TypeVar("Variant")
# How far a middle is from the optical axis, as a share of the distance: 11 degrees.
_SIDE = 0.2


@dataclass(frozen=True)
class Thing:
    """A named thing. noun: the words by which it is found among a layout's names."""

    name: str
    noun: str


@dataclass(frozen=True)
class PlanPrompt:
    """`number` identifies a prompt of a seed. camera: wishes for the camera, in words, or "" for none."""

    number: int
    template: str
    text: str
    camera: str
    things: tuple[Thing, ...]
    statements: tuple[Statement, ...]
    # All statements are true of it. Its objects are the things, in their order.
    layout: Layout


class _Draft:
    """A prompt while a template writes it."""

    def __init__(self, rng: random.Random, turn: int) -> None:
        """turn: counts the prompts of a template, so that each of its variants comes equally often."""
        self.rng, self._turn = rng, turn
        self.camera, self.wish = LayoutCamera(), ""
        self.things: list[Thing] = []
        self.objects: list[LayoutObject] = []
        self.statements: list[Statement] = []

    def variant(self, variants: Sequence[Variant]) -> Variant:
        return variants[self._turn % len(variants)]

    def add(self, noun: str) -> int:
        """A thing at the origin, of its usual size."""
        row = typical_size(noun)
        name = f"{self.rng.choice(COLORS)} {noun}" if noun in COLORED else noun
        self.things.append(Thing(name, noun))
        self.objects.append(LayoutObject(name, row.shape, (0.0, 0.0, 0.0), 0.0, row.size_m))
        return len(self.things) - 1

    def add_different(self, *choices: Sequence[str]) -> list[int]:
        """One thing of each group, all different."""
        nouns: list[str] = []
        for group in choices:
            nouns.append(self.rng.choice([noun for noun in group if noun not in nouns]))
        return [self.add(noun) for noun in nouns]

    def a(self, index: int) -> str:
        name = self.things[index].name
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"

    def the(self, index: int) -> str:
        return f"the {self.things[index].name}"

    def put(self, index: int, x: float, z: float, heading_deg: float = 0.0, y: float = 0.0) -> None:
        place = (round(x, 2), round(y, 3), round(z, 2))
        self.objects[index] = replace(self.objects[index], position_m=place, heading_deg=heading_deg % 360.0)

    def scale_to_height(self, index: int, height_m: float) -> None:
        ratio = height_m / self.objects[index].size_m[1]
        sides = tuple(round(side * ratio, 3) for side in self.objects[index].size_m)
        self.objects[index] = replace(self.objects[index], size_m=sides)

    def reach(self, index: int) -> float:
        """From the middle to a corner, seen from above."""
        return 0.5 * math.hypot(self.objects[index].size_m[0], self.objects[index].size_m[2])

    def room(self) -> float:
        """A distance from which things beside each other do not fill the picture."""
        return 2.0 + 2.5 * sum(2 * self.reach(k) for k in range(len(self.things)))

    def state(self, kind: str, subject: int | None = None, reference: int | None = None, value: float = 0.0) -> None:
        self.statements.append(Statement(kind, subject, reference, value))

    def put_beside(self, first: int, second: int, gap_m: float = 0.3) -> None:
        """The first to the left of the second, with their sides parallel to the picture."""
        halves = [0.5 * self.objects[k].size_m[0] for k in (first, second)]
        self.put(first, -halves[0] - gap_m / 2, self.room())
        self.put(second, halves[1] + gap_m / 2, self.room())


def _distance_and_heading(draft: _Draft) -> str:
    (one,) = draft.add_different(WITH_FRONT)
    words, heading = draft.variant(FACING)
    distance = draft.rng.choice((3, 4, 5, 6, 8))
    draft.put(one, 0.0, distance + draft.reach(one), heading)
    draft.state("distance", one, value=distance)
    draft.state("facing", one, value=heading)
    return f"{draft.a(one)} {distance} m away, facing {words}"


def _two_distances(draft: _Draft) -> str:
    one, two = draft.add_different(PLAIN, COLORED)
    near, far = draft.variant(((2, 4), (2.5, 6), (3, 5), (3, 8)))
    for index, distance, side in ((one, near, -_SIDE), (two, far, _SIDE)):
        middle = distance + draft.reach(index)
        draft.put(index, side * middle, math.sqrt(1 - side**2) * middle)
        draft.state("distance", index, value=distance)
    return f"{draft.a(one)} {near} m away and {draft.a(two)} {far} m away"


def _sides(draft: _Draft) -> str:
    one, two = draft.add_different(COLORED, PLAIN)
    word, sign = draft.variant((("left", -1.0), ("right", 1.0)))
    for index, side in ((one, sign * _SIDE), (two, -sign * _SIDE)):
        draft.put(index, side * draft.room(), draft.room())
    draft.state(word, one, two)
    return f"{draft.a(one)} to the {word} of {draft.a(two)}"


def _behind(draft: _Draft) -> str:
    one, two = draft.add_different(PLAIN, LARGE)
    is_behind = draft.variant((True, False))
    near, far = (two, one) if is_behind else (one, two)
    draft.put(near, 0.0, draft.room())
    draft.put(far, 0.0, draft.room() + draft.reach(one) + draft.reach(two) + 1.0)
    draft.state("behind" if is_behind else "in_front", one, two)
    return f"{draft.a(one)} {'behind' if is_behind else 'in front of'} {draft.a(two)}"


def _three_things(draft: _Draft) -> str:
    one, two, three = draft.add_different(PLAIN, COLORED, LARGE)
    distance = draft.room()
    draft.put(one, -2 * _SIDE * distance / 2, distance)
    draft.put(two, _SIDE * distance / 2, distance)
    away = 1.0 + (draft.reach(two) + draft.reach(three) + 1.0) / distance
    draft.put(three, _SIDE * distance / 2 * away, distance * away)
    draft.state("left", one, two)
    draft.state("behind", three, two)
    return f"{draft.a(one)} to the left of {draft.a(two)}, and {draft.a(three)} behind {draft.the(two)}"


def _gap(draft: _Draft) -> str:
    one, two = draft.add_different(COLORED, PLAIN)
    gap = draft.variant((1, 1.5, 2, 3))
    draft.put_beside(one, two, gap)
    draft.state("gap", one, two, gap)
    return f"{draft.a(one)} and {draft.a(two)}, {gap} m apart"


def _height_ratio(draft: _Draft) -> str:
    subject, reference, words, ratio = draft.variant(RATIOS)
    one, two = draft.add(subject), draft.add(reference)
    draft.scale_to_height(one, ratio * draft.objects[two].size_m[1])
    draft.put_beside(one, two)
    draft.state("height_ratio", one, two, ratio)
    draft.state("beside", one, two)
    return f"{draft.a(one)} {words} {draft.a(two)}, next to it"


def _stated_height(draft: _Draft) -> str:
    noun, height = draft.variant(STATED_HEIGHTS)
    one = draft.add(noun)
    (two,) = draft.add_different(COLORED)
    draft.scale_to_height(one, height)
    draft.put_beside(one, two)
    draft.state("height", one, value=height)
    draft.state("beside", one, two)
    return f"a {height:g} m tall {draft.things[one].name} next to {draft.a(two)}"


def _on_top(draft: _Draft) -> str:
    one, two, three = (draft.add(noun) for noun in draft.variant(ON_TOP))
    distance = draft.room()
    draft.put(two, 0.0, distance)
    draft.put(one, 0.0, distance, y=draft.objects[two].size_m[1])
    draft.put(three, 0.0, distance + draft.reach(two) + draft.reach(three) + 0.5)
    draft.state("on", one, two)
    draft.state("behind", three, two)
    return f"{draft.a(one)} on {draft.a(two)}, and {draft.a(three)} behind {draft.the(two)}"


def _looking(draft: _Draft) -> str:
    one, two = draft.add_different(ALIVE, ALIVE)
    sign, is_mutual = draft.variant(((-1.0, False), (1.0, True), (1.0, False), (-1.0, True)))
    draft.put(two, -sign * _SIDE * draft.room(), draft.room())
    # From the left it looks to the right, which is 90 degrees.
    draft.put(one, sign * _SIDE * draft.room(), draft.room(), -90.0 * sign)
    draft.state("facing_object", one, two)
    if is_mutual:
        draft.put(two, -sign * _SIDE * draft.room(), draft.room(), 90.0 * sign)
        draft.state("facing_object", two, one)
        return f"{draft.a(one)} and {draft.a(two)} face to face"
    return f"{draft.a(one)} looking at {draft.a(two)}"


def _side_by_side(draft: _Draft) -> str:
    one, two = draft.add_different(WITH_FRONT, WITH_FRONT)
    draft.put_beside(one, two)
    draft.state("beside", one, two)
    draft.state("same_way", one, two)
    return f"{draft.a(one)} and {draft.a(two)} side by side, facing the same way"


def _nearer(draft: _Draft) -> str:
    one, two = draft.add_different(COLORED, LARGE)
    word, places = draft.variant((("closer to", (1.0, 1.8)), ("farther from", (1.8, 1.0))))
    for index, side, share in zip((one, two), (-_SIDE, _SIDE), places):
        draft.put(index, side * share * draft.room(), share * draft.room())
    draft.state(word.split()[0], one, two)
    return f"{draft.a(one)} {word} the camera than {draft.a(two)}"


def _in_the_picture(draft: _Draft) -> str:
    one, two, three = draft.add_different(PLAIN, COLORED, PLAIN)
    for index, side in ((one, -_SIDE), (two, 0.0), (three, _SIDE)):
        draft.put(index, side * draft.room(), draft.room())
    for index, kind in ((one, "left"), (two, "middle"), (three, "right")):
        draft.state(f"picture_{kind}", index)
    return f"{draft.a(one)} on the left, {draft.a(two)} in the middle and {draft.a(three)} on the right"


def _camera_numbers(draft: _Draft) -> str:
    (one,) = draft.add_different(COLORED)
    distance = draft.rng.choice((3, 4, 6))
    height, down = draft.variant(((0.5, 0), (1, 5), (2, 20), (3, 30)))
    lens = draft.variant(LENSES_MM)
    draft.put(one, 0.0, distance + draft.reach(one))
    draft.camera = LayoutCamera(height, down, fov_of_lens(lens))
    draft.state("distance", one, value=distance)
    draft.state("camera_height", value=height)
    draft.state("camera_pitch", value=down)
    draft.state("camera_fov", value=fov_of_lens(lens))
    tilt = f"tilted {down} degrees down" if down else "level"
    return f"{draft.a(one)} {distance} m away; camera {height} m high, {tilt}, {lens} mm lens"


def _camera_wishes(draft: _Draft) -> str:
    one, two = draft.add_different(COLORED, PLAIN)
    draft.put_beside(one, two)
    draft.wish, kind, fields = draft.variant(WISHES)
    draft.camera = replace(draft.camera, **fields)
    draft.state("beside", one, two)
    draft.state(kind)
    return f"{draft.a(one)} next to {draft.a(two)}"


TEMPLATES: dict[str, Callable[[_Draft], str]] = {
    "distance and heading": _distance_and_heading,
    "two distances": _two_distances,
    "left or right": _sides,
    "behind or in front": _behind,
    "three things": _three_things,
    "apart": _gap,
    "as tall as": _height_ratio,
    "stated height": _stated_height,
    "on top": _on_top,
    "looking at": _looking,
    "side by side": _side_by_side,
    "closer or farther": _nearer,
    "places in the picture": _in_the_picture,
    "camera in numbers": _camera_numbers,
    "camera in words": _camera_wishes,
}


def plan_prompts(seed: int, per_template: int = PROMPTS_PER_TEMPLATE) -> list[PlanPrompt]:
    """`per_template` different prompts of each template. A smaller number gives the first prompts of a larger one.

    ValueError for a number out of [1, MAX_PROMPTS_PER_TEMPLATE].
    """
    if not 1 <= per_template <= MAX_PROMPTS_PER_TEMPLATE:
        raise ValueError(f"give --prompts from 1 to {MAX_PROMPTS_PER_TEMPLATE}: it is {per_template}")
    prompts = []
    for number, (name, template) in enumerate(TEMPLATES.items()):
        drafts = _different_drafts(random.Random(f"plan-{seed}-{name}"), template, per_template)
        prompts += [_finished(draft, name, text, 1000 * number + k) for k, (text, draft) in enumerate(drafts)]
    return prompts


def _different_drafts(rng: random.Random, template: Callable[[_Draft], str], count: int) -> list[tuple[str, _Draft]]:
    """(text, draft) of each prompt."""
    found: dict[tuple[str, str], tuple[str, _Draft]] = {}
    turn = rng.randrange(60)
    while len(found) < count:
        draft = _Draft(rng, turn)
        text = template(draft)
        found.setdefault((text, draft.wish), (text, draft))
        turn += 1
    return list(found.values())


def _finished(draft: _Draft, template: str, text: str, number: int) -> PlanPrompt:
    """With the usual sizes of all things of which the words state none."""
    sized = {s.subject for s in draft.statements if s.kind in ("height", "height_ratio")}
    sizes = [
        Statement("size", index, size_m=thing.size_m) for index, thing in enumerate(draft.objects) if index not in sized
    ]
    layout = Layout(draft.camera, True, tuple(draft.objects))
    return PlanPrompt(number, template, text, draft.wish, tuple(draft.things), (*draft.statements, *sizes), layout)
