"""The planner with language models that answer as told: what is asked, repaired, asked again, corrected and refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from sf_model.scaffold.footprint import camera_distance_m, gap_m, push_apart, turn_deg
from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from sf_model.scaffold.layout_reading import ReadLayout, read_layout
from sf_model.scaffold.planning import (
    PlanningError,
    correct_layout,
    default_instructions,
    plan_layout,
    request_text,
)
from sf_model.scaffold.shapes import named_shapes

CAMERA = '"camera": {"height_m": 1.5, "pitch_deg": 5, "fov_y_deg": 50}'


class LanguageModel:
    """Answers with one text after the other, and keeps the requests."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.requests: list[str] = []

    def __call__(self, request: str, attempt: int) -> str:
        assert attempt == len(self.requests)
        self.requests.append(request)
        return self.answers[attempt]


def answer(*things: tuple[str, float, float]) -> str:
    objects = [{"name": name, "position_m": [x, 0, z], "heading_deg": 0} for name, x, z in things]
    return f'{{{CAMERA}, "objects": {json.dumps(objects)}}}'


def planned(prompt: str, *things: tuple[str, float, float], **options: object) -> tuple[dict[str, LayoutObject], str]:
    """The objects by name, and all notes in one text."""
    plan = plan_layout(prompt, LanguageModel(answer(*things)), **options)
    return {thing.name: thing for thing in plan.layout.objects}, "\n".join(plan.notes)


def test_a_good_answer_is_taken_as_it_is() -> None:
    layout = Layout(LayoutCamera(), True, (LayoutObject("red car", "car", (0.4, 0.0, 8.0), 30.0, (1.8, 1.5, 4.2)),))
    plan = plan_layout("a red car", LanguageModel(layout.to_compact_json()))
    assert (plan.layout, plan.notes) == (layout, ()) and plan.answers == (layout.to_compact_json(),)


def test_the_example_of_the_instructions_is_a_layout_without_a_note() -> None:
    text = default_instructions()
    assert all(f"{{{part}}}" in text for part in ("prompt", "shapes", "camera", "repair"))
    example = next(line for line in text.splitlines() if line.startswith("{"))
    read = read_layout(example)
    assert read.notes == () and len(read.layout.objects) == 3
    corrected, notes = correct_layout(read, "a cat on a wooden table, a chair behind the table")
    assert corrected == read.layout and notes == ()
    seen = compose_layout(read.layout, 128, 128)
    assert all(matte.sum() > 20 for matte in seen.mattes().values())


def test_the_request_has_all_parts_and_leaves_braces_of_the_prompt_alone() -> None:
    request = request_text(default_instructions(), " a {shapes} car {camera} ", "low angle", "REPAIR")
    assert "Description: a {shapes} car {camera}\nCamera: low angle\nREPAIR\n" in request
    assert ", ".join(named_shapes()) in request
    assert request_text("Do it.", "a car", "", "") == "Do it.\n\nDescription: a car\n"
    assert request_text("Do {prompt}!", "a car", "wide", "AGAIN") == "Do a car!\nCamera: wide\nAGAIN\n"


def test_a_bad_answer_is_asked_for_again_with_the_reason() -> None:
    model = LanguageModel("I cannot do that.", '{"objects": []}', answer(("car", 0, 8)))
    plan = plan_layout("a car", model)
    assert [thing.name for thing in plan.layout.objects] == ["car"] and len(plan.answers) == 3
    assert "could not be used" not in model.requests[0]
    assert "there is none in this text" in model.requests[1] and "I cannot do that." in model.requests[1]
    assert "name at least one object" in model.requests[2] and '{"objects": []}' in model.requests[2]


def test_after_the_last_attempt_the_error_shows_what_came() -> None:
    model = LanguageModel("first", "second", "Once upon a time. " * 5000)
    with pytest.raises(PlanningError, match="use a larger language model.*after 3 attempts.*Once upon a time") as error:
        plan_layout("a car", model)
    assert len(str(error.value)) < 1200 and len(model.requests) == 3
    with pytest.raises(ValueError, match="write what the picture shows"):
        plan_layout("  \n", model)
    with pytest.raises(PlanningError, match="after 1 attempts"):
        plan_layout("a car", LanguageModel("no"), attempts=1)


def test_numbers_in_words_go_before_the_answer() -> None:
    things, notes = planned("a red car 2 m away, facing left; camera 0.8 m high, 35 mm lens", ("red car", 3.0, 12.0))
    assert camera_distance_m(things["red car"]) == pytest.approx(2.0, abs=0.06)
    assert "'red car' was changed to be 2 m away" in notes and "'red car' was changed to be facing left" in notes
    assert "the camera was changed to 0.8 m high" in notes and "37.8 degrees of view" in notes
    assert "size of 'red car' taken as 1.8 x 1.48 x 4.4 m" in notes


def test_relations_and_sizes_in_words() -> None:
    things, notes = planned(
        "a dog to the left of a tree, a house behind the tree, a boy half as tall as a man, the boy facing the dog",
        ("dog", 2.0, 6.0),
        ("tree", 0.0, 9.0),
        ("house", 0.0, 3.0),
        ("man", 1.5, 5.0),
        ("boy", 2.0, 5.0),
    )
    assert "not possible" not in notes and "in one another" not in notes
    assert things["dog"].position_m[0] / things["dog"].position_m[2] < things["tree"].position_m[0] / 9.0
    assert things["house"].position_m[2] > things["tree"].position_m[2] + 3.0
    assert things["boy"].size_m[1] == pytest.approx(0.5 * things["man"].size_m[1], rel=0.03)
    dx, dz = (things["dog"].position_m[k] - things["boy"].position_m[k] for k in (0, 2))
    heading = things["boy"].heading_deg
    # Heading 90 is +x, 180 is +z.
    assert turn_deg(heading, math.degrees(math.atan2(dx, -dz))) < 24


def test_things_on_other_things_have_their_height() -> None:
    things, _ = planned("a cup on a table, a woman sitting on a chair", ("cup", 0, 3), ("table", 0, 3))
    assert things["cup"].position_m[1] == pytest.approx(0.75, abs=0.01)
    things, _ = planned("a sitting woman on a chair", ("sitting woman", 1, 4), ("chair", 0, 4))
    woman = things["sitting woman"]
    assert woman.position_m[0] == pytest.approx(0.0, abs=0.2) and woman.position_m[1] < 0.25


def test_overlaps_are_resolved_and_things_out_of_view_come_back() -> None:
    things, notes = planned("a car and a truck and a dog", ("car", 0, 8), ("truck", 0.5, 9), ("dog", -30.0, 4.0))
    assert push_apart(things["car"], things["truck"]) is None and gap_m(things["car"], things["truck"]) > 0
    assert "was moved to stand free" in notes
    assert abs(things["dog"].position_m[0]) < 0.5 * things["dog"].position_m[2]
    assert "'dog' was moved to be in the picture" in notes


def test_behind_the_camera_comes_before_it_but_what_words_place_stays() -> None:
    things, notes = planned("a dog", ("dog", 0.5, -4.0))
    assert things["dog"].position_m[2] > 1.0 and "moved to be in the picture" in notes
    things, notes = planned("a dog 30 m to the left", ("dog", 0.0, 4.0))
    assert things["dog"].position_m[0] == pytest.approx(-30.0)
    assert "'dog' is not in the picture" in notes


def test_contradictions_are_reported() -> None:
    _, notes = planned("a dog left of a car, the car left of the dog", ("dog", 0, 5), ("car", 1, 9))
    assert notes.count("not possible together with the rest") == 1
    _, notes = planned("a dog 2 m away behind a car 9 m away", ("dog", 0, 5), ("car", 0, 9))
    assert "not possible together with the rest: 'dog' behind 'car'" in notes


def test_the_wishes_for_the_camera_are_asked_for_and_kept() -> None:
    model = LanguageModel(answer(("car", 0, 8)))
    plan = plan_layout("a car", model, camera="low angle, 24 mm lens")
    assert "Camera: low angle, 24 mm lens" in model.requests[0]
    assert plan.layout.camera.height_m == 0.4 and plan.layout.camera.fov_y_deg == pytest.approx(53.13, abs=0.01)


def test_a_wide_picture_shows_what_a_square_one_does_not() -> None:
    things: Sequence[tuple[str, float, float]] = (("dog", 4.5, 5.0),)
    assert planned("a dog", *things, aspect=1.0)[0]["dog"].position_m != (4.5, 0.0, 5.0)
    assert planned("a dog", *things, aspect=2.5)[0]["dog"].position_m == (4.5, 0.0, 5.0)


@pytest.mark.parametrize("spacing_m", [1.0, 0.0])
def test_many_things_take_seconds_and_html_stays_text(spacing_m: float) -> None:
    """On a lattice, and all at one place."""
    objects = tuple(
        LayoutObject(
            f"<b>thing {k}</b>",
            "box",
            (spacing_m * (k % 12 - 6.0), 0.0, 4.0 + spacing_m * (k // 12)),
            0.0,
            (0.4, 0.4, 0.4),
        )
        for k in range(100)
    )
    layout, notes = correct_layout(ReadLayout(Layout(objects=objects), ()), "<script>alert(1)</script> things")
    assert layout.objects[0].name == "<b>thing 0</b>" and len(notes) <= 200
