"""Captions are true of their scenes: every claim is read back from the text and recomputed from the scene alone.

Angles use complex numbers (x + iz seen from above) and gaps use densely sampled outlines: nothing of
`sf_model.world.geometry` is used.
"""

import cmath
import math
import random
import re

import pytest

from sf_model.world import (
    CATEGORY_NAMES,
    COLORS,
    HELD_OUT,
    KINDS,
    SPATIAL_KINDS,
    Camera,
    CaptionedScene,
    SceneObject,
    render,
    sample,
)

SEEDS = 60
_COLOR, _CATEGORY = "|".join(COLORS), "|".join(CATEGORY_NAMES)
NAME = rf"((?:{_COLOR}) (?:{_CATEGORY})|person in (?:{_COLOR}))"


def centre(obj: SceneObject) -> complex:
    return complex(*obj.position_m)


def front(obj: SceneObject) -> complex:
    """Unit vector of the front: heading 0 is -z, 90 is +x."""
    return -1j * cmath.exp(1j * math.radians(obj.heading_deg))


def angle(first: complex, second: complex) -> float:
    """Unsigned angle between two vectors in degrees."""
    return abs(math.degrees(cmath.phase(first / second)))


def outline(obj: SceneObject, steps: int = 60) -> list[complex]:
    """Points along the border of the footprint."""
    along, across = front(obj) * obj.size_m[0] / 2, front(obj) * 1j * obj.size_m[1] / 2
    grid = [2 * k / steps - 1 for k in range(steps + 1)]
    edges = [(t, s) for t in grid for s in (-1, 1)] + [(s, t) for t in grid for s in (-1, 1)]
    return [centre(obj) + a * along + b * across for a, b in edges]


def nearest_m(obj: SceneObject) -> float:
    return min(abs(p) for p in outline(obj))


def shown_side_error_deg(obj: SceneObject, side: str) -> float:
    """Angle by which the viewing direction misses the centre of this side of the object."""
    to_camera = -centre(obj)
    # Seen from above with x right and z up, left of a direction is 90 degrees counterclockwise.
    normal = {"front": 1, "left": 1j, "back": -1, "right": -1j}[side] * front(obj)
    return angle(to_camera, normal)


def facing_error_deg(obj: SceneObject, target: str) -> float:
    ray = centre(obj)
    wanted = {"the camera": -ray, "away": ray, "right": ray * -1j, "left": ray * 1j}[target]
    return angle(front(obj), wanted)


def name_of(obj: SceneObject) -> str:
    return f"person in {obj.color}" if obj.category == "person" else f"{obj.color} {obj.category}"


def by_name(item: CaptionedScene, name: str) -> SceneObject:
    (found,) = [o for o in item.scene.objects if name_of(o) == name]
    return found


def read(item: CaptionedScene, *patterns: str) -> tuple[str, ...]:
    """Groups of the one pattern that occurs in the caption; N stands for a name with its article."""
    found = [m for p in patterns if (m := re.search(re.sub(r"\bN\b", rf"(?:an?|the) {NAME}", p), item.caption))]
    assert len(found) == 1, (item.caption, patterns)
    return found[0].groups()


def limit_deg(side: str) -> float:
    return 15.0 if side in ("front", "back", "the camera", "away") else 30.0


def check_camera_pose(item: CaptionedScene) -> None:
    (side,) = read(item, "(?:sees|from) the (front|back|left|right)")
    assert shown_side_error_deg(item.scene.objects[0], side) <= limit_deg(side)


def check_object_pose(item: CaptionedScene) -> None:
    (target,) = read(item, "facing (the camera|away|left|right)")
    assert facing_error_deg(item.scene.objects[0], target) <= limit_deg(target)


def check_complex_pose(item: CaptionedScene) -> None:
    first, second = item.scene.objects
    (side,) = read(item, "from the (front|back|left|right)")
    assert max(shown_side_error_deg(o, side) for o in (first, second)) <= 30.0
    assert angle(front(first), front(second)) <= 30.0


def subject_word_reference(groups: tuple[str, ...]) -> tuple[str, str, str]:
    """(subject, word, reference) from those three, or from (one, other, subject, word)."""
    if len(groups) == 3:
        return groups
    first, second, subject, word = groups
    return subject, word, second if subject == first else first


def check_egocentric(item: CaptionedScene) -> None:
    groups = read(
        item,
        "N (closer|farther)(?: (?:to|from) the camera)? than N",
        "N and N, the N is (closer|farther)".replace("the N", f"the {NAME}"),
        "N to the (left|right) of N",
        "N and N, the N is on the (left|right) in the image".replace("the N", f"the {NAME}"),
    )
    a, word, b = subject_word_reference(groups)
    subject, reference = by_name(item, a), by_name(item, b)
    if word in ("closer", "farther"):
        near, far = (subject, reference) if word == "closer" else (reference, subject)
        assert nearest_m(near) < nearest_m(far) and near.position_m[1] < far.position_m[1]
        return
    slopes = [o.position_m[0] / o.position_m[1] for o in (subject, reference)]
    assert (slopes[0] < slopes[1]) == (word == "left")


def check_allocentric(item: CaptionedScene) -> None:
    word = "(in front of|behind|to the left of|to the right of)"
    groups = read(
        item,
        f"N {word} N, in the own view",
        f"from the own view of N, N is {word} it()",
        rf"N and N, the {NAME} is {word} the {NAME} in its own view",
    )
    if len(groups) == 3:
        b, where, a = groups
    elif len(groups) == 4:
        a, b, where, _ = groups
    else:
        _, _, b, where, a = groups
    reference, other = by_name(item, a), by_name(item, b)
    turn = {"in front of": 1, "behind": -1, "to the left of": 1j, "to the right of": -1j}[where]
    error = angle(centre(other) - centre(reference), front(reference) * turn)
    assert error <= (15.0 if where in ("in front of", "behind") else 30.0)


def check_intrinsic(item: CaptionedScene) -> None:
    (manner,) = read(item, "(face to face|back to back|side by side)")
    first, second = item.scene.objects
    between = centre(second) - centre(first)
    if manner == "side by side":
        (way,) = read(item, "facing (the same way|opposite ways)")
        assert min(angle(between, front(first) * turn) for turn in (1j, -1j)) <= 30.0
        assert angle(front(second), front(first) * (1 if way == "the same way" else -1)) <= 30.0
        return
    sign = 1 if manner == "face to face" else -1
    assert angle(sign * between, front(first)) <= 30.0
    assert angle(-sign * between, front(second)) <= 30.0


def check_size(item: CaptionedScene) -> None:
    a, claim, b = read(
        item,
        rf"(?:the )?{NAME} (?:that )?(?:is|has) (1.2 times the volume of|\d+ cm \w+ than) (?:the|an?) {NAME}",
    )
    large, small = by_name(item, a).size_m, by_name(item, b).size_m
    assert by_name(item, a).category == by_name(item, b).category
    if "volume" in claim:
        assert abs(math.prod(large) / math.prod(small) - 1.2) <= 0.2 / 3
        return
    amount, word = re.match(r"(\d+) cm (\w+)", claim).groups()
    axis = {"longer": 0, "wider": 1, "taller": 2}[word]
    assert large[axis] - small[axis] == pytest.approx(int(amount) / 100, rel=1 / 3)
    assert [x for k, x in enumerate(large) if k != axis] == [x for k, x in enumerate(small) if k != axis]


def metres(item: CaptionedScene) -> float:
    (text,) = re.findall(r"([\d.]+) m\b", item.caption)
    return float(text)


def check_object_distance(item: CaptionedScene) -> None:
    first, second = (outline(o) for o in item.scene.objects)
    gap = min(abs(p - q) for p in first for q in second)
    assert gap == pytest.approx(metres(item), abs=0.06)


def check_camera_distance(item: CaptionedScene) -> None:
    assert nearest_m(item.scene.objects[0]) == pytest.approx(metres(item), abs=0.02)


CHECKS = {
    "camera_pose": check_camera_pose,
    "object_pose": check_object_pose,
    "complex_pose": check_complex_pose,
    "egocentric_relation": check_egocentric,
    "allocentric_relation": check_allocentric,
    "intrinsic_relation": check_intrinsic,
    "object_size": check_size,
    "object_distance": check_object_distance,
    "camera_distance": check_camera_distance,
}


@pytest.mark.parametrize("template", range(4))
@pytest.mark.parametrize("kind", SPATIAL_KINDS)
def test_spatial_captions_are_true(kind: str, template: int) -> None:
    captions = set()
    for seed in range(SEEDS // 4 if kind == "object_distance" else SEEDS):
        item = sample(random.Random(seed), kind, template=template)
        assert item.kind == kind
        assert set(re.findall(NAME, item.caption)) == {name_of(o) for o in item.scene.objects}
        CHECKS[kind](item)
        captions.add(item.caption)
    assert len(captions) > 10


@pytest.mark.parametrize("kind", SPATIAL_KINDS)
def test_the_four_templates_of_a_kind_claim_different_things(kind: str) -> None:
    facts = [sample(random.Random(0), kind, template=t).facts[0] for t in range(4)]
    assert len({(f.name, f.value) for f in facts}) == 4


def check_free(item: CaptionedScene) -> None:
    camera = item.scene.camera
    height, fov = read(item, r"camera (?:at )?([\d.]+) m")[0], read(item, r"(\d+) degrees field of view")[0]
    assert float(height) == camera.height_m and float(fov) == camera.fov_y_deg
    tilt = re.search(r"tilted (\d+) degrees (up|down)", item.caption)
    pitch = 0.0 if tilt is None else float(tilt[1]) * (1 if tilt[2] == "down" else -1)
    assert pitch == camera.pitch_deg and (tilt is not None or "level" in item.caption)
    phrases = re.split(rf"(?:an?) {NAME}", item.caption)[1:]
    assert len(phrases) == 2 * len(item.scene.objects)
    for name, text in zip(phrases[::2], phrases[1::2]):
        obj = by_name(item, name)
        assert nearest_m(obj) == pytest.approx(float(re.search(r"([\d.]+) m away", text)[1]), abs=0.06)
        side = re.search(r"([\d.]+) m to the (left|right)", text)
        x = 0.0 if side is None else float(side[1]) * (1 if side[2] == "right" else -1)
        assert obj.position_m[0] == pytest.approx(x, abs=0.051)
        heading = re.search(r"facing ((?:front |back )?(?:left|right)|away|the camera)", text)[1]
        ray = centre(obj)
        parts = {"the camera": -ray, "front": -ray, "away": ray, "back": ray, "right": ray * -1j, "left": ray * 1j}
        wanted = parts[heading] if heading in parts else sum(parts[word] for word in heading.split())
        assert angle(front(obj), wanted) <= 22.6
    assert len(item.caption.split()) <= (64 if len(item.scene.objects) < 3 else 90)


def test_free_captions_fix_their_scenes() -> None:
    for seed in range(200):
        check_free(sample(random.Random(seed), "free"))


SKY_WORDS = {"clear": "clear", "cloudy": "cloudy", "sunset": "sunset", "night": "night"}


@pytest.mark.parametrize("kind", ["plain", "view", "free", "camera_pose"])
def test_named_grounds_and_skies_are_the_scenes(kind: str) -> None:
    for seed in range(150):
        item = sample(random.Random(seed), kind)
        named = {fact.name: fact.value for fact in item.facts if fact.subject is None}
        for ground in ("grass", "sand", "asphalt", "wooden floor", "snow", "tiles"):
            assert (ground in item.caption) == (named.get("ground") == ground)
        for sky, word in SKY_WORDS.items():
            assert (word in item.caption) == (named.get("sky") == sky)
        assert named.get("ground", item.scene.ground) == item.scene.ground
        assert named.get("sky", item.scene.sky) == item.scene.sky


def test_plain_captions_hardly_ever_state_positions() -> None:
    items = [sample(random.Random(seed), "plain") for seed in range(600)]
    placed = [item for item in items if re.search(r"on the (left|right)", item.caption)]
    assert 0.005 < len(placed) / len(items) < 0.08
    for item in placed:
        for name, side in re.findall(rf"{NAME} on the (left|right)", item.caption):
            assert (by_name(item, name).position_m[0] > 0) == (side == "right")
    for item in items:
        names = set(re.findall(NAME, item.caption))
        assert names <= {name_of(o) for o in item.scene.objects}
    assert not any(re.search(r"\d", item.caption) for item in items)


def test_view_captions_say_where_in_the_picture_things_are() -> None:
    """Against the pinhole projection of the objects' own corners, and against their distances."""
    seen = set()
    for seed in range(600):
        item = sample(random.Random(seed), "view")
        camera = item.scene.camera
        pattern = rf"{NAME}( close to the camera| far away)? (?:on|at|in) the (left|right|middle|centre)"
        claims = re.findall(pattern, item.caption)
        assert {claim[0] for claim in claims} == {name_of(obj) for obj in item.scene.objects}
        for name, distance, side in claims:
            obj = by_name(item, name)
            column = middle_column(obj, camera)
            assert {"left": column < 0.42, "right": column > 0.58}.get(side, 0.42 <= column <= 0.58), item.caption
            if distance:
                assert nearest_m(obj) < 2.51 if "close" in distance else nearest_m(obj) > 11.9
            seen.add((side, distance))
    assert len(seen) == 12


def middle_column(obj: SceneObject, camera: Camera) -> float:
    """Middle of the projected bounding box's columns, for a square picture."""
    pitch, focal = math.radians(camera.pitch_deg), 0.5 / math.tan(math.radians(camera.fov_y_deg) / 2)
    half_length, half_width = front(obj) * obj.size_m[0] / 2, front(obj) * 1j * obj.size_m[1] / 2
    columns = []
    for corner in (centre(obj) + a * half_length + b * half_width for a in (-1, 1) for b in (-1, 1)):
        for below_camera_m in (camera.height_m, camera.height_m - obj.size_m[2]):
            depth_m = below_camera_m * math.sin(pitch) + corner.imag * math.cos(pitch)
            columns.append(0.5 + focal * corner.real / depth_m)
    return (min(columns) + max(columns)) / 2


def pairs(item: CaptionedScene) -> set[tuple[str, str]]:
    return {(o.category, o.color) for o in item.scene.objects}


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_pairs_stay_out_of_train(kind: str) -> None:
    count = 12 if kind == "object_distance" else 60
    for seed in range(count):
        assert not pairs(sample(random.Random(seed), kind)) & HELD_OUT
        assert pairs(sample(random.Random(seed), kind, "held_out")) & HELD_OUT


def test_one_held_out_colour_a_category() -> None:
    assert sorted(category for category, _ in HELD_OUT) == sorted(CATEGORY_NAMES)
    assert all(color in COLORS for _, color in HELD_OUT)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_caption(kind: str) -> None:
    assert sample(random.Random(5), kind) == sample(random.Random(5), kind)


def test_left_and_right_are_so_in_the_image() -> None:
    items = [sample(random.Random(seed), "egocentric_relation", template=2 + seed % 2) for seed in range(40)]
    image = render([item.scene for item in items], 64, 64).object_index
    for b, item in enumerate(items):
        first, second = ((image[b] == index).nonzero()[:, 1].double().mean() for index in (0, 1))
        assert (first < second) == (b % 2 == 0), item.caption


def test_every_sampled_object_is_visible() -> None:
    rng = random.Random(17)
    items = [sample(rng, kind) for kind in KINDS for _ in range(6)]
    image = render([item.scene for item in items], 64, 64)
    for b, item in enumerate(items):
        for index in range(len(item.scene.objects)):
            rows = (image.object_index[b] == index).nonzero()[:, 0]
            assert len(rows) >= 8 and rows.max() - rows.min() >= 4, item.caption


@pytest.mark.parametrize(
    ("kind", "split", "template", "message"),
    [
        ("poem", "train", None, "kind must be"),
        ("plain", "test", None, "split must be"),
        ("plain", "train", 1, "template of 'plain'"),
        ("object_size", "train", 4, "template of 'object_size'"),
    ],
)
def test_bad_arguments_are_named(kind: str, split: str, template: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(random.Random(0), kind, split, template)
