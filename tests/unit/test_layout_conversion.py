"""Layouts as text and as numbers: to one another and back, by hand, and against the world and its trainings."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from sf_model import world
from sf_model.models.layout import NEAREST_M, layout_of, layout_state, picture_numbers
from sf_model.models.layout import Layout as LayoutNumbers
from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from sf_model.scaffold.layout_numbers import MIN_CAMERA_HEIGHT_M, given_layout, object_name, scene_of
from sf_model.scaffold.layout_reading import read_layout
from sf_model.training.bases.sizes import smoke_sizes
from sf_model.training.data.layouts import layouts_of

WORDS = smoke_sizes().spatialfusion.layout
CAR = LayoutObject("red car", "car", (-0.5, 0.0, 6.0), 90.0, (1.8, 1.5, 4.2))
PERSON = LayoutObject("person in blue", "person", (1.0, 0.0, 4.0), 0.0, (0.6, 1.75, 0.5))
SCENE = Layout(LayoutCamera(1.5, 8.0, 55.0), True, (CAR, PERSON))


def scenes(count: int, seed: int = 7) -> tuple[list[world.Scene], LayoutNumbers]:
    rng = random.Random(seed)
    drawn = [world.sample_scene(rng) for _ in range(count)]
    return drawn, layouts_of(drawn, [range(len(scene.objects)) for scene in drawn], WORDS.objects)


def assert_same(found: LayoutNumbers, expected: LayoutNumbers, atol: float = 0.0) -> None:
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=atol)


def notes_of(thing: LayoutObject, **changes: object) -> tuple[str, ...]:
    return given_layout(replace(SCENE, objects=(replace(thing, **changes),)), WORDS, 64, 64).notes


def test_numbers_by_hand() -> None:
    """The car is the first of the categories, red the first colour; blue is the fifth, person the sixth."""
    given = given_layout(SCENE, WORDS, 64, 64)
    numbers = given.numbers
    assert given.layout == SCENE and given.notes == ()
    assert numbers.present.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    assert numbers.category.argmax(-1)[0, :2].tolist() == [0, 5] and numbers.category.sum(-1).tolist() == [[1.0] * 4]
    assert numbers.color.argmax(-1)[0, :2].tolist() == [0, 4]
    assert numbers.position_m[0, :2].tolist() == [[-0.5, 6.0], [1.0, 4.0]]
    assert numbers.heading_deg[0, :2].tolist() == [90.0, 0.0]
    torch.testing.assert_close(numbers.size_m[0, :2], torch.tensor([[4.2, 1.8, 1.5], [0.5, 0.6, 1.75]]))
    torch.testing.assert_close(numbers.camera, torch.tensor([[1.5, 8.0, 55.0]]))


def test_a_scene_of_the_world_has_the_numbers_that_trainings_have() -> None:
    """Also in the empty places, which the predictor sees. `layouts_of` reads the world's own scene."""
    drawn, numbers = scenes(40)
    for index in range(len(drawn)):
        one = LayoutNumbers(**{name: value[index : index + 1] for name, value in vars(numbers).items()})
        given = given_layout(scene_of(numbers, WORDS, index), WORDS, 64, 64)
        assert given.notes == ()
        assert_same(given.numbers, one)


def test_there_and_back_is_the_same_scene() -> None:
    _, numbers = scenes(40)
    for index in range(40):
        scene = scene_of(numbers, WORDS, index)
        assert scene_of(given_layout(scene, WORDS, 64, 64).numbers, WORDS) == scene
        written = read_layout(scene.to_json())
        assert written.notes == ()
        assert_same(
            given_layout(written.layout, WORDS, 64, 64).numbers, given_layout(scene, WORDS, 64, 64).numbers, 6e-4
        )


@pytest.mark.parametrize("seed", range(4))
def test_the_composed_depth_is_the_world_s(seed: int) -> None:
    """The world's renderer is another one. Pixels at the edge of an object may see either side."""
    (scene,), numbers = scenes(1, seed)
    theirs = world.render([scene], 192, 128)
    mine = compose_layout(scene_of(numbers, WORDS), 192, 128)
    same = mine.object_index == theirs.object_index[0]
    assert (~same).float().mean() < 2e-3
    assert (same & (mine.object_index >= 0)).sum() > 200
    near = same & (mine.object_index >= 0)
    error = (mine.depth.depth[0] / theirs.depth_m[0] - 1).abs()[near]
    assert error.quantile(0.99) < 2e-4 and (error > 1e-3).sum() <= 5


def test_names_are_those_of_the_captions() -> None:
    for category in WORDS.categories:
        for color in WORDS.colors:
            obj = world.SceneObject(category, color, (0.0, 4.0), 0.0, (1.0, 1.0, 1.0))
            assert object_name(category, color) == world.name_of(obj)


def test_what_a_flow_draws_is_a_scene() -> None:
    """However far the numbers go: `layout_of` bounds them, and a place in a layout is within 1000 m."""
    generator = torch.Generator().manual_seed(3)
    state = 30 * torch.randn(50, 1 + WORDS.objects, layout_state(scenes(1)[1]).shape[-1], generator=generator)
    numbers = layout_of(state, len(WORDS.categories))
    found = [scene_of(numbers, WORDS, index) for index in range(50)]
    assert {len(scene.objects) for scene in found} == set(range(WORDS.objects + 1))
    for scene, present in zip(found, numbers.present):
        assert len(scene.objects) == int((present > 0.5).sum())
        assert read_layout(scene.to_json()).notes == ()


def test_a_kind_without_a_shape_is_a_box_with_its_name() -> None:
    words = replace(WORDS, categories=("unicycle", *WORDS.categories[1:]))
    scene = scene_of(given_layout(SCENE, WORDS, 64, 64).numbers, words)
    assert (scene.objects[0].name, scene.objects[0].shape) == ("red unicycle", "box")
    given = given_layout(scene, words, 64, 64)
    assert given.notes == () and given.layout == scene
    assert_same(given.numbers, given_layout(SCENE, WORDS, 64, 64).numbers)


def test_colours_and_kinds_in_the_words_of_a_name() -> None:
    def read(name: str, shape: str) -> tuple[str, str]:
        given = given_layout(replace(SCENE, objects=(replace(CAR, name=name, shape=shape),)), WORDS, 64, 64)
        assert given.layout.objects[0].name == name
        thing = scene_of(given.numbers, WORDS).objects[0]
        return thing.name, thing.shape

    assert read("an old Blue sports car with a white roof", "car") == ("blue car", "car")
    assert read("coloured house", "house") == ("red house", "house")  # "red" ends "coloured", and is no word of it
    assert read("person in green", "standing person") == ("person in green", "person")
    assert read("yellow dog house", "box") == ("yellow house", "house")


def test_notes_say_what_to_do() -> None:
    assert notes_of(CAR, name="car") == (
        "write a colour into the name of 'car', one of red, orange, yellow, green, blue, purple, white, black: it was "
        "taken as red",
    )
    assert notes_of(PERSON, shape="standing person") == (
        "choose the shape 'person' for 'person in blue': it was taken as that, because the checkpoint does not know "
        "'standing person'",
    )
    assert notes_of(CAR, position_m=(0.0, 0.5, 6.0)) == (
        "set y of 'red car' to 0: the checkpoint's objects stand on the ground, and so it was put",
    )
    assert notes_of(CAR, confidence=0.5) == (
        "use confidence in Compose Depth Scaffold: a prediction does not use that of objects",
    )
    (note,) = given_layout(replace(SCENE, ground=False), WORDS, 64, 64).notes
    assert note.startswith("switch the layout's ground on: ")


@pytest.mark.parametrize("place", [(0.0, 0.0, -6.0), (20.0, 0.0, 6.0), (0.0, 0.0, 0.0)])
def test_what_is_not_in_the_picture_is_left_out(place: tuple[float, float, float]) -> None:
    """Behind the camera, beside the picture, and around the camera."""
    given = given_layout(replace(SCENE, objects=(replace(CAR, position_m=place), PERSON)), WORDS, 64, 64)
    assert given.notes == ("move 'red car' into the picture, ahead of the camera: it was left out",)
    assert given.layout.objects == (PERSON,)
    assert given.numbers.present.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_a_wide_picture_shows_more() -> None:
    beside = replace(SCENE, objects=(replace(CAR, position_m=(7.0, 0.0, 6.0)),))
    assert given_layout(beside, WORDS, 64, 64).layout.objects == ()
    assert given_layout(beside, WORDS, 192, 64).layout == beside


def test_numbers_are_finite_for_every_scene() -> None:
    """The camera on the ground and an object at the lens: the predictor takes logarithms of both, and quotients."""
    near = replace(PERSON, position_m=(0.01, 0.0, NEAREST_M), size_m=(0.001, 0.001, 0.001))
    given = given_layout(Layout(LayoutCamera(0.0, 90.0, 170.0), True, (near,)), WORDS, 64, 64)
    assert layout_state(given.numbers).isfinite().all()
    assert all(values.isfinite().all() for values in picture_numbers(given.numbers, 1.0))
    assert given.layout.camera.height_m == MIN_CAMERA_HEIGHT_M
    assert "raise the camera: it was taken as 0.05 m high, which is the least" in given.notes


def test_what_a_checkpoint_cannot_hold_is_an_error() -> None:
    many = replace(SCENE, objects=tuple(replace(PERSON, position_m=(0.5 * k, 0.0, 6.0)) for k in range(5)))
    with pytest.raises(ValueError, match="^remove objects: the layout has 5 in the picture, .* holds at most 4$"):
        given_layout(many, WORDS, 64, 64)
    unseen = replace(many, objects=(*many.objects[:4], replace(PERSON, position_m=(0.0, 0.0, -3.0))))
    assert len(given_layout(unseen, WORDS, 64, 64).layout.objects) == 4
    tree = LayoutObject("oak", "tree", (0.0, 0.0, 9.0), 0.0, (6.0, 8.0, 6.0))
    with pytest.raises(ValueError, match="^choose another shape for 'oak', one of car, bus, .*: .* not know 'tree'$"):
        given_layout(replace(SCENE, objects=(tree,)), WORDS, 64, 64)
