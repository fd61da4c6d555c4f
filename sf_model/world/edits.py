"""Editing pairs: two scenes that differ in exactly one thing, and the instruction that changes one into the other."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from .caption_common import Fact, name_of, with_article
from .categories import HELD_OUT
from .geometry import VIEW_HEADING_DEG, angle_between_deg, bearing_deg, image_slope, view_heading_deg
from .palette import COLORS
from .sampling import SPLITS, is_good_picture, sample_scene
from .scene import Scene, SceneObject

MOVE_M = 1.0
RESIZE_FACTORS: dict[str, float] = {"larger": 1.2, "smaller": 0.8}
MOVES: tuple[str, ...] = ("left", "right", "closer", "farther")
_FACINGS: dict[str, str] = {"camera": "front", "away": "back", "left": "left", "right": "right"}
_MIN_TURN_DEG = 45.0
_MIN_SIDE_SLOPE = 0.1


@dataclass(frozen=True)
class EditPair:
    """Two scenes and the instruction that changes `source` into `target`."""

    source: Scene
    target: Scene
    instruction: str
    # One of `EDIT_KINDS`.
    kind: str
    # The change. Object indices are those of `target` for "add", and of `source` otherwise.
    facts: tuple[Fact, ...]


Editor = Callable[[random.Random, Scene, str], "EditPair | None"]


def _with_object(scene: Scene, index: int, obj: SceneObject) -> Scene:
    return replace(scene, objects=(*scene.objects[:index], obj, *scene.objects[index + 1 :]))


def _without_object(scene: Scene, index: int) -> Scene:
    return replace(scene, objects=scene.objects[:index] + scene.objects[index + 1 :])


def _pose(rng: random.Random, scene: Scene, split: str) -> EditPair | None:
    index = rng.randrange(len(scene.objects))
    obj = scene.objects[index]
    facing = rng.choice(tuple(_FACINGS))
    wanted = VIEW_HEADING_DEG[_FACINGS[facing]]
    if angle_between_deg(view_heading_deg(obj), wanted) < _MIN_TURN_DEG:
        return None
    target = _with_object(scene, index, replace(obj, heading_deg=round(wanted - bearing_deg(obj)) % 360.0))
    words = {"camera": "face the camera", "away": "face away from the camera"}.get(facing, f"face {facing}")
    instruction = rng.choice(
        (
            f"turn the {name_of(obj)} to {words}",
            f"make the {name_of(obj)} {words}",
            f"the {name_of(obj)} should {words}",
        )
    )
    return EditPair(scene, target, instruction, "pose", (Fact("facing", index, value=facing),))


def _move(rng: random.Random, scene: Scene, split: str) -> EditPair:
    index = rng.randrange(len(scene.objects))
    obj = scene.objects[index]
    way = rng.choice(MOVES)
    # Closer and farther move along the viewing ray, so the distance changes by exactly the stated length.
    angle = math.radians(bearing_deg(obj))
    ray = (math.sin(angle), math.cos(angle))
    dx, dz = {"left": (-1, 0), "right": (1, 0), "closer": (-ray[0], -ray[1]), "farther": ray}[way]
    position = (round(obj.position_m[0] + MOVE_M * dx, 3), round(obj.position_m[1] + MOVE_M * dz, 3))
    target = _with_object(scene, index, replace(obj, position_m=position))
    where = {"closer": "closer to the camera", "farther": "farther from the camera"}.get(way, f"to the {way}")
    text = f"{MOVE_M:g} m"
    instruction = rng.choice(
        (
            f"move the {name_of(obj)} {text} {where}",
            f"the {name_of(obj)} should be {text} {where}".replace("to the", "more to the"),
            f"move the {name_of(obj)} {where} by {text}",
        )
    )
    return EditPair(scene, target, instruction, "move", (Fact(f"moved_{way}_m", index, value=MOVE_M),))


def _resize(rng: random.Random, scene: Scene, split: str) -> EditPair:
    index = rng.randrange(len(scene.objects))
    obj = scene.objects[index]
    way = rng.choice(tuple(RESIZE_FACTORS))
    factor = RESIZE_FACTORS[way]
    length, width, height = (round(factor * extent, 3) for extent in obj.size_m)
    target = _with_object(scene, index, replace(obj, size_m=(length, width, height)))
    instruction = rng.choice(
        (
            f"make the {name_of(obj)} 20% {way}",
            f"the {name_of(obj)} should be 20% {way}",
            f"resize the {name_of(obj)} to be 20% {way}",
        )
    )
    return EditPair(scene, target, instruction, "resize", (Fact("size_factor", index, value=factor),))


def _add(rng: random.Random, scene: Scene, split: str) -> EditPair | None:
    if len(scene.objects) < 2:
        return None
    index = rng.randrange(len(scene.objects))
    obj = scene.objects[index]
    what, slope = with_article(name_of(obj)), image_slope(obj)
    facts = (Fact("category", index, value=obj.category), Fact("color", index, value=obj.color))
    where = ""
    if abs(slope) > _MIN_SIDE_SLOPE:
        side = "right" if slope > 0 else "left"
        where = f" on the {side}"
        facts += (Fact("image_side", index, value=side),)
    instruction = rng.choice((f"add {what}{where}", f"insert {what}{where}", f"there should be {what}{where}"))
    return EditPair(_without_object(scene, index), scene, instruction, "add", facts)


def _remove(rng: random.Random, scene: Scene, split: str) -> EditPair | None:
    if len(scene.objects) < 2:
        return None
    index = rng.randrange(len(scene.objects))
    name = name_of(scene.objects[index])
    instruction = rng.choice((f"remove the {name}", f"take away the {name}", f"the {name} should not be there"))
    return EditPair(scene, _without_object(scene, index), instruction, "remove", (Fact("removed", index),))


def _recolor(rng: random.Random, scene: Scene, split: str) -> EditPair | None:
    index = rng.randrange(len(scene.objects))
    obj = scene.objects[index]
    color = rng.choice(COLORS)
    taken = {(o.category, o.color) for o in scene.objects}
    if (obj.category, color) in taken or (split == "train" and (obj.category, color) in HELD_OUT):
        return None
    target = _with_object(scene, index, replace(obj, color=color))
    name = name_of(obj)
    phrasings = [f"change the color of the {name} to {color}"]
    if obj.category != "person":
        phrasings += [f"make the {name} {color}", f"paint the {name} {color}"]
    instruction = rng.choice(phrasings)
    return EditPair(scene, target, instruction, "recolor", (Fact("color", index, value=color),))


_EDITORS: dict[str, Editor] = {
    "pose": _pose,
    "move": _move,
    "resize": _resize,
    "add": _add,
    "remove": _remove,
    "recolor": _recolor,
}
EDIT_KINDS: tuple[str, ...] = tuple(_EDITORS)


def sample_edit(rng: random.Random, kind: str, split: str = "train") -> EditPair:
    """A random pair of scenes that differ in one thing, with the instruction. Both pass `is_good_picture`.

    split: in "train" neither scene has a held-out (category, colour) pair, in "held_out" at least one has.
    Raises ValueError for an unknown kind or split.
    """
    if kind not in _EDITORS:
        raise ValueError(f"kind must be one of {EDIT_KINDS}, not {kind!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    while True:
        pair = _EDITORS[kind](rng, sample_scene(rng, split), split)
        if pair is not None and all(is_good_picture(s.camera, s.objects) for s in (pair.source, pair.target)):
            return pair
