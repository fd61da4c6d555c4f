"""What words say about things: hand-written cases, and the captions of the world, which are true of their scenes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject
from sf_model.scaffold.planning.arrangement import Arrangement
from sf_model.scaffold.planning.camera_claims import CameraClaims, find_camera_claims
from sf_model.scaffold.planning.claims import MAX_PROMPT, Claim, find_claims
from sf_model.scaffold.planning.rules import RULES
from sf_model.scaffold.planning.solving import solve_layout
from sf_model.world import KINDS, CaptionedScene, sample
from sf_model.world.caption_common import name_of


def found(prompt: str, *names: str) -> set[tuple[object, ...]]:
    """(kind, subject, reference, value) of the claims, with names for indices."""
    label = lambda index: None if index is None else names[index]  # noqa: E731
    return {(c.kind, label(c.subject), label(c.reference), c.value) for c in find_claims(prompt, names)}


@pytest.mark.parametrize(
    "prompt, names, claims",
    [
        (
            "a red car 4.0 m away, facing left, 0.5 m to the right; camera 1.5 m high, tilted 8 degrees down",
            ["red car"],
            {("distance", "red car", None, 4.0), ("right_m", "red car", None, 0.5), ("facing", "red car", None, 270.0)},
        ),
        (
            "A dog to the left of a tree, two metres away. Behind the tree stands a house.",
            ["dog", "oak tree", "house"],
            {("left", "dog", "oak tree", None), ("distance", "dog", None, 2.0), ("behind", "house", "oak tree", None)},
        ),
        (
            "a 2 m tall man next to a boy half as tall as the man, a cup on the table",
            ["man", "boy", "cup", "table"],
            {
                ("height", "man", None, 2.0),
                ("beside", "man", "boy", None),
                ("height_ratio", "boy", "man", 0.5),
                ("on", "cup", "table", None),
            },
        ),
        (
            "a red chair and a blue chair side by side, facing opposite ways, 1.5 m apart",
            ["red chair", "blue chair"],
            {
                ("side_by_side", "blue chair", "red chair", None),
                ("opposite_ways", "blue chair", "red chair", None),
                ("gap", "blue chair", "red chair", 1.5),
            },
        ),
        (
            "The cat is looking at the bird. It is 50 cm from the camera.",
            ["cat", "bird"],
            {("facing_object", "cat", "bird", None), ("distance", "cat", None, 0.5)},
        ),
        ("a man and a woman facing the camera", ["man", "woman"], {("facing", n, None, 0.0) for n in ("man", "woman")}),
        ("a horse twice as tall as a dog", ["horse", "dog"], {("height_ratio", "horse", "dog", 2.0)}),
        ("a lamp half a metre to the left of the sofa", ["lamp", "sofa"], {("left", "lamp", "sofa", 0.5)}),
        ("a bus 6 ft 2 wide", ["bus"], set()),
        ("two chairs, one on the left", ["chair 1", "chair 2"], set()),
        ("a chair with its back to the camera", ["chair"], {("facing", "chair", None, 180.0)}),
        ("a photo of nothing in particular", ["car"], set()),
    ],
)
def test_claims_of_a_prompt(prompt: str, names: list[str], claims: set[tuple[object, ...]]) -> None:
    assert found(prompt, *names) == claims


def test_a_long_prompt_takes_little_time() -> None:
    names = [f"thing {k} of many words" for k in range(60)]
    text = " ".join(f"thing {k % 60} of many words 2 m away, left of thing {k % 7} of many words." for k in range(5000))
    assert find_claims(text, names)
    assert find_claims("as tall as " * 10_000, names) == ()
    assert find_camera_claims("camera " * 10_000) == CameraClaims()
    assert len(text) > MAX_PROMPT


@pytest.mark.parametrize(
    "prompt, claims",
    [
        ("camera 1.5 m high, tilted 8 degrees down, 50 degrees field of view", CameraClaims(1.5, 8.0, 50.0)),
        ("the camera is at 90 cm, looking up by 10 degrees", CameraClaims(0.9, -10.0)),
        ("low angle, 35mm", CameraClaims(0.4, -6.0, None, 35.0)),
        ("a nail 20 mm long", CameraClaims()),
        ("bird's-eye view of a city", CameraClaims(8.0, 60.0)),
        ("low angle, camera 2 m high", CameraClaims(2.0, -6.0)),
        ("wide angle shot", CameraClaims(None, None, 65.0)),
        ("a dog 2 m from the camera", CameraClaims()),
    ],
)
def test_camera_claims(prompt: str, claims: CameraClaims) -> None:
    assert find_camera_claims(prompt) == claims


def objects_of(captioned: CaptionedScene) -> list[LayoutObject]:
    return [
        LayoutObject(
            name_of(o),
            o.category,
            (o.position_m[0], 0.0, o.position_m[1]),
            o.heading_deg,
            (o.size_m[1], o.size_m[2], o.size_m[0]),
        )
        for o in captioned.scene.objects
    ]


def camera_of(captioned: CaptionedScene) -> LayoutCamera:
    camera = captioned.scene.camera
    return LayoutCamera(camera.height_m, camera.pitch_deg, camera.fov_y_deg)


def claims_of(captioned: CaptionedScene) -> tuple[Claim, ...]:
    return find_claims(captioned.caption, [name_of(o) for o in captioned.scene.objects])


def broken(things: list[LayoutObject], claims: tuple[Claim, ...], camera: LayoutCamera) -> list[Claim]:
    state = Arrangement(things, claims, camera, 1.0)
    return [claim for claim in claims if not RULES[claim.kind].holds(state, claim)]


def test_what_the_world_s_captions_say_is_found_and_true_of_their_scenes() -> None:
    """The world places first and describes then, by its own geometry: the second implementation."""
    count, wrong, kinds = 0, [], Counter()
    for kind in KINDS:
        for seed in range(60):
            captioned = sample(random.Random(seed), kind)
            claims = claims_of(captioned)
            assert claims or kind == "plain", captioned.caption
            wrong += broken(objects_of(captioned), claims, camera_of(captioned))
            count += len(claims)
            kinds.update(claim.kind for claim in claims)
    assert count > 1000 and len(kinds) >= 25
    # A thing that is barely to the left of a large one may be judged otherwise.
    assert len(wrong) <= 0.005 * count, wrong


def test_the_world_s_free_captions_give_the_camera() -> None:
    for seed in range(120):
        captioned = sample(random.Random(seed), "free")
        said, true = find_camera_claims(captioned.caption), captioned.scene.camera
        assert said.height_m == pytest.approx(true.height_m, abs=0.051), captioned.caption
        assert said.pitch_deg == pytest.approx(true.pitch_deg, abs=0.51), captioned.caption
        assert said.fov_y_deg == pytest.approx(true.fov_y_deg, abs=0.51), captioned.caption


def test_a_muddled_layout_becomes_what_the_caption_says() -> None:
    """Objects of the right kinds at random places, with random headings and wrong sizes."""
    count, wrong, notes_of_wrong = 0, 0, 0
    overlapping, unseen = 0, 0
    for kind in KINDS:
        for seed in range(10):
            rng = random.Random(seed)
            captioned = sample(random.Random(seed), kind)
            claims, camera = claims_of(captioned), camera_of(captioned)
            muddled = tuple(
                LayoutObject(
                    thing.name,
                    thing.shape,
                    (rng.uniform(-3, 3), 0.0, rng.uniform(1, 8)),
                    rng.uniform(0, 360),
                    tuple(side * rng.uniform(0.7, 1.4) for side in thing.size_m),
                )
                for thing in objects_of(captioned)
            )
            layout, notes = solve_layout(Layout(camera, True, muddled), claims)
            left = broken(list(layout.objects), claims, camera)
            count += len(claims)
            wrong += len(left)
            notes_of_wrong += sum(note.startswith("not possible together") for note in notes)
            overlapping += any("in one another" in note for note in notes)
            unseen += any("not in the picture" in note for note in notes)
            if not notes or not any(
                word in " ".join(notes) for word in ("not possible", "in one another", "not in the")
            ):
                assert solve_layout(layout, claims) == (layout, ())
    assert count > 150 and wrong <= 0.02 * count
    # What could not be done is said, and only that.
    assert notes_of_wrong == wrong
    assert overlapping <= 2 and unseen <= 3
