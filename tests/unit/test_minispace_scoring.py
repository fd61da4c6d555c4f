"""MiniSpace's scores by hand, template by template, and on the scenes that the prompts were written for."""

import math
from dataclasses import replace

import pytest

from sf_model.evaluation.minispace.prompts import GROUPS, Constraint, Prompt, minispace_prompts
from sf_model.evaluation.minispace.scoring import identity_shares, score, soft, soft_measure
from sf_model.scene_reader.reading import (
    CameraReading,
    FoundObject,
    camera_height_m,
    on_ground,
    seen_from_one_height,
    true_object,
)
from sf_model.world import HELD_OUT, SPATIAL_KINDS, Camera, Fact, Scene, SceneObject
from tests.unit.readers import true_reading

LEVEL = CameraReading(0.0, 50.0)
RED, BLUE = ("chair", "red"), ("chair", "blue")
CUBE = (0.5, 0.5, 0.5)


def at(
    identity: tuple[str, str],
    x: float,
    z: float,
    heading_deg: float,
    size_m: tuple[float, float, float] = CUBE,
) -> FoundObject:
    """An object as a level camera 1 m above the ground sees it; the heading is the world's."""
    view = (heading_deg + math.degrees(math.atan2(x, z))) % 360.0
    return FoundObject(*identity, (x, 1.0, z), size_m, view)


def points(claims: list[Fact], *found: FoundObject) -> float:
    named = (RED, BLUE) if any(claim.reference is not None for claim in claims) else (RED,)
    return score(Constraint(named, tuple(claims)), found, LEVEL)


def test_soft_scores() -> None:
    assert [soft(error, 15, 45) for error in (0, 15, 30, 45, 100)] == [1, 1, 0.5, 0, 0]
    assert soft_measure(1.5, 1.0) == pytest.approx(0.5)
    assert soft_measure(0.5, 1.0) == pytest.approx(0.5)
    assert soft_measure(4 / 3 - 1e-9, 1.0) == 1.0
    assert soft_measure(-1.0, 1.0) == 0.0


@pytest.mark.parametrize(
    "claim, wanted_deg, full_deg, zero_deg",
    [
        (Fact("seen_from", 0, value="front"), 0, 15, 45),
        (Fact("seen_from", 0, value="back"), 180, 15, 45),
        (Fact("seen_from", 0, value="right"), 90, 30, 60),
        (Fact("seen_from", 0, value="left"), 270, 30, 60),
        (Fact("facing", 0, value="camera"), 0, 15, 45),
        (Fact("facing", 0, value="away"), 180, 15, 45),
        (Fact("facing", 0, value="right"), 90, 30, 60),
        (Fact("facing", 0, value="left"), 270, 30, 60),
    ],
)
def test_poses(claim: Fact, wanted_deg: float, full_deg: float, zero_deg: float) -> None:
    for turn, expected in ((0, 1), (full_deg, 1), ((full_deg + zero_deg) / 2, 0.5), (zero_deg, 0), (180, 0)):
        for sign in (1, -1):
            assert points([claim], at(RED, 0, 5, wanted_deg + sign * turn)) == pytest.approx(expected)


@pytest.mark.parametrize("side, view_deg", [("front", 0), ("back", 180), ("right", 90), ("left", 270)])
def test_complex_pose_joins_three_tests(side: str, view_deg: float) -> None:
    claims = [Fact("seen_from", 0, value=side), Fact("seen_from", 1, value=side), Fact("same_facing", 0, 1)]

    def both(first_deg: float, second_deg: float) -> float:
        # Nearly on the camera's axis: headings and view headings are the same.
        return points(claims, at(RED, 0, 5, view_deg + first_deg), at(BLUE, 0, 8, view_deg + second_deg))

    assert both(15, -15) == 1
    lateral = side in ("left", "right")
    # 37.5 degrees: half of the soft range from 30 to 45, a quarter of that from 30 to 60.
    assert both(37.5, 30) == pytest.approx(0.75 if lateral else 0.5)
    # Each is seen from the side, but 37.5 degrees apart.
    assert both(18.75, -18.75) == pytest.approx(0.5)
    assert both(0, 180) == 0


def test_egocentric_relations() -> None:
    near_left, far_right = at(RED, -1, 3, 0), at(BLUE, 1, 6, 0)
    for name, expected in (("closer", 1), ("farther", 0), ("image_left", 1), ("image_right", 0)):
        assert points([Fact(name, 0, 1)], near_left, far_right) == expected
        swapped = replace(near_left, color="blue"), replace(far_right, color="red")
        assert points([Fact(name, 0, 1)], *swapped) == 1 - expected


def test_allocentric_relations() -> None:
    # A faces the camera: its left is image right.
    reference = at(RED, 0, 5, 0)
    places = {"front": (0, 3), "back": (0, 7), "left": (2, 5), "right": (-2, 5)}
    for side, place in places.items():
        for asked in places:
            expected = float(asked == side)
            assert points([Fact("own_view", 1, 0, asked)], reference, at(BLUE, *place, 200)) == expected
    turned = at(RED, 0, 5, 30)
    assert points([Fact("own_view", 1, 0, "front")], turned, at(BLUE, 0, 3, 0)) == pytest.approx(0.5)
    assert points([Fact("own_view", 1, 0, "left")], turned, at(BLUE, 2, 5, 0)) == 1.0


ARRANGED = {
    "side by side, same way": (at(RED, -1, 5, 0), at(BLUE, 1, 5, 0)),
    "side by side, opposite ways": (at(RED, -1, 5, 0), at(BLUE, 1, 5, 180)),
    "face to face": (at(RED, -1, 5, 90), at(BLUE, 1, 5, 270)),
    "back to back": (at(RED, -1, 5, 270), at(BLUE, 1, 5, 90)),
}


@pytest.mark.parametrize("asked", ARRANGED)
def test_intrinsic_relations(asked: str) -> None:
    claim = [Fact("arrangement", 0, 1, asked)]
    for name, found in ARRANGED.items():
        assert points(claim, *found) == float(name == asked)
    first, second = ARRANGED[asked]
    # The second turned by 37.5 degrees: half for its heading, half for where the first stands in its view.
    turned = replace(second, view_heading_deg=second.view_heading_deg + 37.5)
    assert points(claim, first, turned) == pytest.approx(0.25)


def test_face_to_face_needs_each_in_the_others_view() -> None:
    """The published lateral test always passes: opposite headings, but one behind the other's side."""
    beside = at(RED, 0, 4, 90), at(BLUE, 0, 6, 270)
    assert points([Fact("arrangement", 0, 1, "face to face")], *beside) == 0
    assert points([Fact("arrangement", 0, 1, "side by side, opposite ways")], *beside) == 1


@pytest.mark.parametrize("name, wanted_cm, axis", [("longer_cm", 50, 0), ("wider_cm", 30, 1), ("taller_cm", 20, 2)])
def test_size_differences_are_two_sided_and_directed(name: str, wanted_cm: float, axis: int) -> None:
    def grown(cm: float) -> float:
        size = list(CUBE)
        size[axis] += cm / 100
        large, small = at(RED, -1, 5, 40, tuple(size)), at(BLUE, 1, 5, 0)
        return points([Fact(name, 0, 1, wanted_cm)], large, small)

    assert grown(wanted_cm) == 1
    assert grown(1.5 * wanted_cm) == pytest.approx(0.5)
    assert grown(0.5 * wanted_cm) == pytest.approx(0.5)
    assert grown(0) == 0
    assert grown(-wanted_cm) == 0


def test_the_volume_ratio_minds_direction() -> None:
    def ratio(value: float) -> float:
        edge = 0.5 * value ** (1 / 3)
        return points([Fact("volume_ratio", 0, 1, 1.2)], at(RED, -1, 5, 0, (edge,) * 3), at(BLUE, 1, 5, 0))

    assert ratio(1.2) == 1
    assert ratio(1.8) == pytest.approx(0.5)
    # Within a third of 1.2, but smaller.
    assert ratio(0.9) == 0


@pytest.mark.parametrize("wanted_m", [0.5, 1.0, 1.5, 2.0])
def test_gaps_between_objects(wanted_m: float) -> None:
    def gap(metres: float) -> float:
        # Half a cube on either side.
        return points([Fact("gap_m", 0, 1, wanted_m)], at(RED, -1, 5, 0), at(BLUE, metres - 0.5, 5, 0))

    assert gap(wanted_m) == 1
    assert gap(1.5 * wanted_m) == pytest.approx(0.5)
    assert gap(0.5 * wanted_m) == pytest.approx(0.5)
    assert gap(2 * wanted_m) == 0


@pytest.mark.parametrize("wanted_m, tolerance", [(1.0, 1 / 3), (2.0, 1 / 3), (3.0, 0.3), (4.0, 0.2)])
def test_camera_distances(wanted_m: float, tolerance: float) -> None:
    def distance(metres: float) -> float:
        return points([Fact("camera_distance_m", 0, value=wanted_m)], at(RED, 0, metres + 0.25, 0))

    for sign in (1, -1):
        assert distance(wanted_m * (1 + sign * 0.99 * tolerance)) == 1
        assert distance(wanted_m * (1 + sign * 1.5 * tolerance)) == pytest.approx(0.5)
        assert distance(wanted_m * (1 + sign * 2.01 * tolerance)) == 0


def test_an_object_that_is_not_found_scores_nothing() -> None:
    claim = [Fact("seen_from", 0, value="front")]
    assert points(claim) == 0
    assert points(claim, at(("chair", "green"), 0, 5, 0)) == 0
    assert points(claim, at(("sofa", "red"), 0, 5, 0)) == 0
    assert points(claim, at(("sofa", "red"), 0, 5, 0), at(RED, 0, 5, 0)) == 1


def test_identity_shares_by_hand() -> None:
    constraint = Constraint((RED, BLUE), ())
    found = (at(RED, 0, 5, 0), at(("chair", "green"), 1, 5, 0), at(("sofa", "blue"), 2, 5, 0))
    assert identity_shares(constraint, found) == (1.0, 0.5)
    assert identity_shares(constraint, found[1:]) == (0.5, 0.0)
    assert identity_shares(constraint, ()) == (0.0, 0.0)


def test_a_pitched_camera_reads_back_the_world() -> None:
    camera = Camera(1.7, 21.0, 50.0)
    obj = SceneObject("car", "red", (-1.3, 6.2), 212.0, (4.0, 1.8, 1.5))
    back = on_ground(true_object(obj, camera), camera.pitch_deg)
    assert back.position_m == pytest.approx(obj.position_m)
    assert back.heading_deg == pytest.approx(obj.heading_deg)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return minispace_prompts(seed=0, per_template=10)


def scene_score(prompt: Prompt, scene: Scene) -> float:
    reading = true_reading(scene)
    return score(prompt.constraint, reading.objects, reading.camera)


def contradicted(prompt: Prompt) -> Scene:
    """The prompt's scene with its claim turned round."""
    first, *rest = prompt.scene.objects
    if prompt.sub_domain in ("camera_pose", "object_pose", "complex_pose"):
        objects = [replace(obj, heading_deg=obj.heading_deg + 180) for obj in (first, *rest)]
    elif prompt.sub_domain == "allocentric_relation":
        objects = [replace(first, heading_deg=first.heading_deg + 180), *rest]
    elif prompt.sub_domain == "intrinsic_relation":
        objects = [first, replace(rest[0], heading_deg=rest[0].heading_deg + 90)]
    elif prompt.sub_domain in ("egocentric_relation", "object_size"):
        second = rest[0]
        objects = [
            replace(first, category=second.category, color=second.color),
            replace(second, category=first.category, color=first.color),
        ]
    elif prompt.sub_domain == "object_distance":
        dx, dz = (b - a for a, b in zip(first.position_m, rest[0].position_m))
        far = 10 / math.hypot(dx, dz)
        x, z = rest[0].position_m
        objects = [first, replace(rest[0], position_m=(x + far * dx, z + far * dz))]
    else:
        x, z = first.position_m
        objects = [replace(first, position_m=(3 * x, 3 * z))]
    return replace(prompt.scene, objects=tuple(objects))


def test_the_scenes_own_truth_scores_1_and_its_contradiction_0(prompts: list[Prompt]) -> None:
    assert {prompt.sub_domain for prompt in prompts} == {kind for kinds in GROUPS.values() for kind in kinds}
    for prompt in prompts:
        assert scene_score(prompt, prompt.scene) == 1.0, prompt
        assert scene_score(prompt, contradicted(prompt)) == 0.0, prompt
        missing = replace(prompt.scene, objects=prompt.scene.objects[1:])
        assert scene_score(prompt, missing) == 0.0, prompt


def test_prompts_are_held_out_distinct_and_of_the_seed_alone(prompts: list[Prompt]) -> None:
    assert len(prompts) == len(SPATIAL_KINDS) * 4 * 10
    assert len({prompt.number for prompt in prompts}) == len(prompts)
    for kind in SPATIAL_KINDS:
        for template in range(4):
            texts = {p.text for p in prompts if (p.sub_domain, p.template) == (kind, template)}
            assert len(texts) == 10
    assert all(HELD_OUT & set(prompt.constraint.objects) for prompt in prompts)
    few = minispace_prompts(seed=0, per_template=2)
    assert few == [prompt for prompt in prompts if prompt.number % 10_000 < 2]
    assert few != minispace_prompts(seed=1, per_template=2)


def test_objects_of_one_picture_are_seen_from_one_height() -> None:
    """Two chairs under a camera 1.5 m high; one is 1.44 times as large and was read as 1.44 times as near, from 1.5 /
    1.44 m. Seen from the mean height of 1.25 m, it is 1.2 times as large as was read, the other 1 / 1.2."""
    size = (0.5, 0.5, 1.0)
    one = FoundObject("chair", "red", (0.0, 1.5, 6.0), size, 0.0)
    other = FoundObject("chair", "blue", (1.0 / 1.44, 1.5 / 1.44, 6.0 / 1.44), size, 0.0)
    assert camera_height_m(other, 0.0) == pytest.approx(1.5 / 1.44)
    small, large = seen_from_one_height([one, other], 0.0)
    assert small.size_m == pytest.approx([x / 1.2 for x in size])
    assert large.size_m == pytest.approx([x * 1.2 for x in size])
    assert large.position_m == pytest.approx((1.0 / 1.2, 1.25, 6.0 / 1.2))
    # Looking down by 30 degrees at a point 4 m ahead along the axis: 2 m below the camera.
    assert camera_height_m(FoundObject("chair", "red", (0.0, 0.0, 4.0), size, 0.0), 30.0) == pytest.approx(2)
    above = FoundObject("chair", "red", (0.0, -1.0, 4.0), size, 0.0)
    assert seen_from_one_height([one, above], 0.0) == [one, above]
