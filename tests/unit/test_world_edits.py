"""Edit pairs differ in exactly the named thing, by the stated amount."""

import math
import random
from dataclasses import replace

import pytest

from sf_model.world import EDIT_KINDS, HELD_OUT, EditPair, Scene, SceneObject, sample_edit

SEEDS = range(120)


def changed(pair: EditPair) -> tuple[SceneObject, SceneObject]:
    """The one object that differs; everything else must be equal."""
    before, after = pair.source.objects, pair.target.objects
    assert len(before) == len(after)
    differing = [k for k, (a, b) in enumerate(zip(before, after)) if a != b]
    assert len(differing) == 1 and replace(pair.source, objects=()) == replace(pair.target, objects=())
    assert pair.facts[0].subject == differing[0]
    return before[differing[0]], after[differing[0]]


def named(obj: SceneObject) -> str:
    return f"person in {obj.color}" if obj.category == "person" else f"{obj.color} {obj.category}"


def view_error_deg(obj: SceneObject, target: str) -> float:
    """Angle between where the front points and where it should, for the viewing ray to the object."""
    x, z = obj.position_m
    wanted = {"face the camera": (-x, -z), "face away": (x, z), "face right": (z, -x), "face left": (-z, x)}[target]
    heading = math.radians(obj.heading_deg)
    dot = wanted[0] * math.sin(heading) - wanted[1] * math.cos(heading)
    return math.degrees(math.acos(max(-1.0, min(1.0, dot / math.hypot(*wanted)))))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_same_seed_same_pair(kind: str, seed: int) -> None:
    assert sample_edit(random.Random(seed), kind) == sample_edit(random.Random(seed), kind)


def test_pose_turns_one_object_and_nothing_else() -> None:
    for seed in SEEDS:
        pair = sample_edit(random.Random(seed), "pose")
        before, after = changed(pair)
        assert replace(before, heading_deg=after.heading_deg) == after and named(before) in pair.instruction
        (target,) = [t for t in ("face the camera", "face away", "face left", "face right") if t in pair.instruction]
        assert view_error_deg(after, target) < 1.0 and view_error_deg(before, target) > 40.0


def test_move_shifts_one_object_by_one_metre() -> None:
    for seed in SEEDS:
        pair = sample_edit(random.Random(seed), "move")
        before, after = changed(pair)
        assert replace(before, position_m=after.position_m) == after and named(before) in pair.instruction
        dx, dz = (after.position_m[k] - before.position_m[k] for k in (0, 1))
        assert math.hypot(dx, dz) == pytest.approx(1.0, abs=0.003) and "1 m" in pair.instruction
        nearer = math.hypot(*before.position_m) - math.hypot(*after.position_m)
        expected = {"left": -dx, "right": dx, "closer": nearer, "farther": -nearer}
        (way,) = [word for word in expected if f" {word}" in pair.instruction]
        assert expected[way] == pytest.approx(1.0, abs=0.003)


def test_resize_scales_all_three_sizes() -> None:
    for seed in SEEDS:
        pair = sample_edit(random.Random(seed), "resize")
        before, after = changed(pair)
        assert replace(before, size_m=after.size_m) == after and named(before) in pair.instruction
        factor = 1.2 if "larger" in pair.instruction else 0.8
        assert "20%" in pair.instruction and ("larger" in pair.instruction) != ("smaller" in pair.instruction)
        assert after.size_m == pytest.approx([factor * x for x in before.size_m], abs=0.001)


def test_recolor_changes_one_colour() -> None:
    for seed in SEEDS:
        pair = sample_edit(random.Random(seed), "recolor")
        before, after = changed(pair)
        assert replace(before, color=after.color) == after and before.color != after.color
        assert named(before) in pair.instruction and pair.instruction.endswith(after.color)


def one_more(large: Scene, small: Scene) -> SceneObject:
    """The object that only the larger scene has; all else must be equal, in the same order."""
    (extra,) = [o for o in large.objects if o not in small.objects]
    assert tuple(o for o in large.objects if o != extra) == small.objects and small.objects
    assert replace(large, objects=()) == replace(small, objects=())
    return extra


def test_add_and_remove_change_one_object() -> None:
    for seed in SEEDS:
        added = sample_edit(random.Random(seed), "add")
        extra = one_more(added.target, added.source)
        assert named(extra) in added.instruction and added.target.objects[added.facts[0].subject] == extra
        for side, sign in (("left", -1), ("right", 1)):
            if f"on the {side}" in added.instruction:
                assert sign * extra.position_m[0] > 0
        removed = sample_edit(random.Random(seed), "remove")
        gone = one_more(removed.source, removed.target)
        assert named(gone) in removed.instruction and removed.source.objects[removed.facts[0].subject] == gone


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_held_out_pairs_stay_out_of_train(kind: str) -> None:
    for seed in range(60):
        for split in ("train", "held_out"):
            pair = sample_edit(random.Random(seed), kind, split)
            seen = {(o.category, o.color) for s in (pair.source, pair.target) for o in s.objects}
            assert bool(seen & HELD_OUT) == (split == "held_out")


@pytest.mark.parametrize(("kind", "split", "message"), [("melt", "train", "kind must"), ("add", "all", "split must")])
def test_bad_arguments_are_named(kind: str, split: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_edit(random.Random(0), kind, split)
