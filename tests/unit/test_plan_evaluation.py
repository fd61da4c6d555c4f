"""`evaluation plan` with language models that answer as told: what is asked, what is scored, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sf_model.evaluation import __main__ as command_line
from sf_model.evaluation.planning.asking import (
    ask,
    names_only,
    next_request,
    read_answers,
    results_of,
    write_answers,
    write_requests,
)
from sf_model.evaluation.planning.command import table
from sf_model.evaluation.planning.prompts import (
    MAX_PROMPTS_PER_TEMPLATE,
    TEMPLATES,
    PlanPrompt,
    Thing,
    plan_prompts,
)
from sf_model.evaluation.planning.scoring import Result, find_things, scores_of
from sf_model.evaluation.planning.statements import CHECKS, MEASURES, Statement, truth
from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject
from sf_model.scaffold.planning import ATTEMPTS, default_instructions, request_text
from sf_model.scaffold.sizes import typical_size

SEED = 3
PROMPTS = plan_prompts(SEED, 2)
ALL = ("valid at first", "valid", "complete", *MEASURES)


def mirrored(layout: Layout) -> Layout:
    """Left and right changed."""
    objects = []
    for thing in layout.objects:
        x, y, z = thing.position_m
        objects.append(replace(thing, position_m=(-x, y, z), heading_deg=-thing.heading_deg % 360.0))
    return replace(layout, objects=tuple(objects))


def means(prompts: Sequence[PlanPrompt], answers: dict[int, list[str]]) -> dict[str, dict[str, float]]:
    rows, _ = table(prompts, answers)
    return {row: {name: estimate.mean for name, estimate in values.items()} for row, values in rows.items()}


def test_a_perfect_answer_scores_in_full_and_stays_so_when_it_is_corrected() -> None:
    rows = means(PROMPTS, {prompt.number: [prompt.layout.to_json()] for prompt in PROMPTS})
    for row in ("written", "planned", "true"):
        assert rows[row] == dict.fromkeys(ALL, 100.0), row


def test_nonsense_scores_nothing_and_is_asked_again_with_the_planners_own_words() -> None:
    requests: list[list[str]] = []

    def answer_all(texts: Sequence[str], attempt: int) -> list[str]:
        assert attempt == len(requests)
        requests.append(list(texts))
        return ["Once upon a time"] * len(texts)

    answers = ask(PROMPTS, answer_all)
    rows = means(PROMPTS, answers)
    assert rows["written"] == rows["planned"] == dict.fromkeys(ALL, 0.0)
    assert len(requests) == ATTEMPTS and [len(texts) for texts in requests] == [len(PROMPTS)] * ATTEMPTS
    assert requests[0] == [request_text(default_instructions(), one.text, one.camera) for one in PROMPTS]
    assert all("could not be used" in text and "Once upon a time" in text for text in requests[1])


def test_a_second_answer_counts_as_valid_but_not_at_first() -> None:
    layouts = {request_text(default_instructions(), p.text, p.camera): p.layout.to_json() for p in PROMPTS}

    def answer_all(texts: Sequence[str], attempt: int) -> list[str]:
        if attempt == 0:
            return ["no" if place % 2 == 0 else layouts[text] for place, text in enumerate(texts)]
        first = [text.split("Your last answer could not be used")[0] for text in texts]
        return [layouts[text] for text in first]

    answers = ask(PROMPTS, answer_all)
    assert [len(answers[prompt.number]) for prompt in PROMPTS] == [2, 1] * (len(PROMPTS) // 2)
    rows = means(PROMPTS, answers)
    assert rows["written"] == dict.fromkeys(ALL, 100.0) | {"valid at first": 50.0}


def test_a_mirrored_scene_loses_relations_and_headings_only_and_the_node_mends_it() -> None:
    rows = means(PROMPTS, {prompt.number: [mirrored(prompt.layout).to_json()] for prompt in PROMPTS})
    lost = {name for name, value in rows["written"].items() if value < 100.0}
    assert lost == {"relations", "headings"}
    assert rows["planned"] == dict.fromkeys(ALL, 100.0)


def test_each_mirrored_statement_is_lost_that_has_a_side() -> None:
    sided = {"left", "right", "picture_left", "picture_right"}
    for prompt in plan_prompts(SEED, 4):
        layout = mirrored(prompt.layout)
        for statement in prompt.statements:
            has_side = statement.kind in sided or (statement.kind == "facing" and statement.value in (90.0, 270.0))
            assert truth(statement, layout, layout.objects) == float(not has_side), (prompt.text, statement)


def test_the_control_rows_have_the_names_and_do_without_a_model() -> None:
    rows = means(PROMPTS, {prompt.number: [] for prompt in PROMPTS})
    assert rows["written"] == rows["planned"] == dict.fromkeys(ALL, 0.0)
    assert rows["names"]["complete"] == rows["names, planned"]["complete"] == 100.0
    for measure in ("relations", "distances", "headings", "camera"):
        assert rows["names"][measure] < 90.0 < rows["names, planned"][measure], measure
    read, corrected = results_of(PROMPTS[0], [names_only(PROMPTS[0])])
    assert read.layout != corrected.layout


def test_a_thing_that_is_left_out_makes_its_statements_false() -> None:
    prompt = next(one for one in PROMPTS if one.template == "three things")
    without = replace(prompt.layout, objects=prompt.layout.objects[:2])
    scores = scores_of(prompt, Result(without, True))
    # "Left of" holds, "behind" has lost its thing; two of three sizes are there.
    assert scores["complete"] == 0.0 and scores["relations"] == 0.5 and scores["sizes"] == pytest.approx(2 / 3)


def test_things_are_found_by_their_nouns() -> None:
    def found(*names: str) -> list[str | None]:
        things = (Thing("laptop", "laptop"), Thing("desk", "desk"), Thing("grey van", "van"))
        objects = [LayoutObject(name, "box", (0.0, 0.0, 1.0), 0.0, (1.0, 1.0, 1.0)) for name in names]
        return [None if obj is None else obj.name for obj in find_things(things, objects)]

    assert found("A Laptop", "desk", "van") == ["A Laptop", "desk", "van"]
    assert found("laptop on a desk", "old desk", "white_van") == ["laptop on a desk", "old desk", "white_van"]
    # One object is one thing. "Vanity" is no van.
    assert found("laptop on a desk", "vanity") == ["laptop on a desk", None, None]
    assert found() == [None, None, None]


def thing(x: float, z: float, heading_deg: float = 0.0, y: float = 0.0, size: float = 1.0) -> LayoutObject:
    return LayoutObject("thing", "box", (x, y, z), heading_deg, (size, size, size))


@pytest.mark.parametrize(
    "statement, first, second, expected",
    [
        # The middle is at 5 m and the nearest point at 4.5 m: 3.6 to 6.67 m would be true.
        (Statement("distance", 0, value=6.7), thing(0, 5), None, 1),
        (Statement("distance", 0, value=7.6), thing(0, 5), None, 0),
        (Statement("distance", 0, value=3.4), thing(0, 5), None, 1),
        (Statement("distance", 0, value=3.3), thing(0, 5), None, 0),
        (Statement("distance", 0, value=5), thing(0, -5), None, 0),
        # Middles 3 m apart, sides 2 m.
        (Statement("gap", 0, 1, 1.5), thing(0, 5), thing(3, 5), 1),
        (Statement("gap", 0, 1, 1.4), thing(0, 5), thing(3, 5), 0),
        (Statement("gap", 0, 1, 4.5), thing(0, 5), thing(3, 5), 1),
        (Statement("gap", 0, 1, 4.6), thing(0, 5), thing(3, 5), 0),
        (Statement("size", 0, size_m=(1.0, 1.3, 2.0)), thing(0, 5), None, 2 / 3),
        (Statement("height", 0, value=1.5), thing(0, 5), None, 1),
        (Statement("height", 0, value=1.51), thing(0, 5), None, 0),
        (Statement("height_ratio", 0, 1, 2.0), thing(0, 5, size=1.4), thing(0, 5), 1),
        (Statement("height_ratio", 0, 1, 2.0), thing(0, 5, size=1.3), thing(0, 5), 0),
        # The thing is 45 degrees to the right. It faces left in space, or as the camera sees it at 225.
        (Statement("facing", 0, value=270.0), thing(5, 5, 270), None, 1),
        (Statement("facing", 0, value=270.0), thing(5, 5, 225), None, 1),
        (Statement("facing", 0, value=270.0), thing(5, 5, 190), None, 0),
        (Statement("facing", 0, value=0.0), thing(0, 5, 329), None, 0),
        (Statement("facing", 0, value=0.0), thing(0, 5, 331), None, 1),
        # To the right is 90 degrees.
        (Statement("facing_object", 0, 1), thing(0, 5, 119), thing(3, 5), 1),
        (Statement("facing_object", 0, 1), thing(0, 5, 121), thing(3, 5), 0),
        (Statement("facing_object", 0, 1), thing(0, 5), thing(0, 5), 0),
        (Statement("same_way", 0, 1), thing(0, 5, 350), thing(0, 5, 15), 1),
        (Statement("same_way", 0, 1), thing(0, 5, 350), thing(0, 5, 25), 0),
        (Statement("left", 0, 1), thing(-1, 5), thing(0, 5), 1),
        (Statement("left", 0, 1), thing(0, 5), thing(0, 5), 0),
        (Statement("left", 0, 1), thing(-1, -5), thing(0, 5), 0),
        (Statement("right", 0, 1), thing(1, 5), thing(0, 5), 1),
        (Statement("behind", 0, 1), thing(0, 8), thing(0, 5), 1),
        (Statement("behind", 0, 1), thing(0, 5), thing(0, 8), 0),
        # 45 degrees aside: half angles of 7 and 5 degrees, and 10.
        (Statement("behind", 0, 1), thing(6, 6), thing(0, 5), 0),
        (Statement("in_front", 0, 1), thing(0, 5), thing(0, 8), 1),
        (Statement("closer", 0, 1), thing(0, 5), thing(4, 5), 1),
        (Statement("closer", 0, 1), thing(0, 5), thing(0, 5), 0),
        (Statement("farther", 0, 1), thing(4, 5), thing(0, 5), 1),
        (Statement("beside", 0, 1), thing(0, 5), thing(2, 5), 1),
        (Statement("beside", 0, 1), thing(0, 5), thing(2.1, 5), 0),
        (Statement("beside", 0, 1), thing(0, 5), thing(0, 6.5), 0),
        (Statement("on", 0, 1), thing(0.4, 5, y=1.09), thing(0, 5), 1),
        (Statement("on", 0, 1), thing(0.4, 5, y=1.2), thing(0, 5), 0),
        (Statement("on", 0, 1), thing(0.6, 5, y=1.0), thing(0, 5), 0),
        # At 5 m the picture of 90 degrees is 10 m wide.
        (Statement("picture_left", 0), thing(-0.5, 5), None, 1),
        (Statement("picture_left", 0), thing(-0.4, 5), None, 0),
        (Statement("picture_left", 0), thing(-6.3, 5), None, 0),
        (Statement("picture_right", 0), thing(0.5, 5), None, 1),
        (Statement("picture_middle", 0), thing(-0.9, 5), None, 1),
        (Statement("picture_middle", 0), thing(1.1, 5), None, 0),
        (Statement("picture_middle", 0), thing(0, -5), None, 0),
        # The camera: 1.5 m high, 5 degrees down, 90 degrees of view.
        (Statement("camera_height", value=2.0), thing(0, 5), None, 1),
        (Statement("camera_height", value=2.3), thing(0, 5), None, 0),
        (Statement("camera_fov", value=130.0), thing(0, 5), None, 1),
        (Statement("camera_fov", value=60.0), thing(0, 5), None, 0),
        (Statement("camera_pitch", value=15.0), thing(0, 5), None, 1),
        (Statement("camera_pitch", value=-6.0), thing(0, 5), None, 0),
        (Statement("low_camera"), thing(0, 5), None, 0),
        (Statement("camera_looks_down"), thing(0, 5), None, 0),
        (Statement("wide_lens"), thing(0, 5), None, 1),
        (Statement("long_lens"), thing(0, 5), None, 0),
    ],
)
def test_statements_by_hand(
    statement: Statement, first: LayoutObject, second: LayoutObject | None, expected: float
) -> None:
    objects = tuple(one for one in (first, second) if one is not None)
    layout = Layout(LayoutCamera(1.5, 5.0, 90.0), True, objects)
    assert truth(statement, layout, objects) == pytest.approx(expected)
    if statement.subject is not None:
        assert truth(statement, layout, (None, second)) == 0.0


def test_the_prompts_are_the_seeds_and_every_kind_of_statement_is_in_them() -> None:
    prompts = plan_prompts(SEED, 4)
    assert len({(one.text, one.camera) for one in prompts}) == len(prompts) == 4 * len(TEMPLATES) == 60
    first = [one for one in prompts if one.number % 1000 < 2]
    assert first == PROMPTS and plan_prompts(SEED, 2) == PROMPTS != plan_prompts(SEED + 1, 2)
    assert {statement.kind for one in prompts for statement in one.statements} == set(CHECKS)
    most = plan_prompts(SEED, MAX_PROMPTS_PER_TEMPLATE)
    assert len({(one.text, one.camera) for one in most}) == len(most) == MAX_PROMPTS_PER_TEMPLATE * len(TEMPLATES)
    for number in (0, MAX_PROMPTS_PER_TEMPLATE + 1):
        with pytest.raises(ValueError, match="give --prompts from 1 to 16"):
            plan_prompts(SEED, number)


def test_things_are_found_in_the_prompt_and_in_the_table_and_not_in_the_instructions() -> None:
    example = default_instructions().split("Example.")[1]
    for prompt in plan_prompts(SEED, MAX_PROMPTS_PER_TEMPLATE):
        for one in prompt.things:
            assert one.name in prompt.text and f'"{one.name}"' not in example
            assert typical_size(one.name) == typical_size(one.noun) is not None


def test_answers_are_kept_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    answers = {prompt.number: ["no", prompt.layout.to_json()] for prompt in PROMPTS}
    _, scores = table(PROMPTS, answers)
    write_answers(path, PROMPTS, answers, scores)
    assert read_answers(path, PROMPTS) == answers
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert row["prompt"] == PROMPTS[0].text and row["scores"]["valid at first"] == 0.0 < row["scores"]["valid"]
    write_requests(tmp_path / "requests.jsonl", PROMPTS)
    row = json.loads((tmp_path / "requests.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert row["number"] == PROMPTS[-1].number and row["camera"] == PROMPTS[-1].camera != ""
    assert row["request"] == next_request(PROMPTS[-1], []) and f"Camera: {row['camera']}" in row["request"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("no", "one JSON object on each line: line 2 of a.jsonl is none"),
        ("[" * 100_000, "line 2 of a.jsonl is none"),
        ("[1]", "give --prompts and --seed as for --requests: line 2 of a.jsonl is not so"),
        ('{"answer": "x"}', "line 2 of a.jsonl is not so"),
        ('{"number": [0], "answer": "x"}', "line 2 of a.jsonl is not so"),
        ('{"number": false, "answer": "x"}', "line 2 of a.jsonl is not so"),
        ('{"number": 999, "answer": "x"}', "line 2 of a.jsonl is not so"),
        ('{"number": 0}', "line 2 of a.jsonl is not so"),
        ('{"number": 0, "answers": "x"}', "line 2 of a.jsonl is not so"),
        ('{"number": 0, "answer": 5}', "line 2 of a.jsonl is not so"),
        ('{"number": 0, "answer": "x", "prompt": "a moon"}', "give --seed as for --requests: line 2 .* 'a moon'"),
        ('{"number": 0, "answer": "x", "prompt": null}', "give --seed as for --requests: line 2"),
    ],
)
def test_files_that_are_no_answers_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"number": 0, "answer": "x"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_answers(path, PROMPTS)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["evaluation", "plan", *arguments])
    command_line.main()


def test_the_command_scores_a_file_of_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, answers, output = (tmp_path / name for name in ("requests.jsonl", "answers.jsonl", "out"))
    run_command(monkeypatch, "--requests", str(requests), "--prompts", "1")
    asked = [json.loads(line) for line in requests.read_text(encoding="utf-8").splitlines()]
    true = {prompt.number: prompt for prompt in plan_prompts(7, 1)}
    assert [row["number"] for row in asked] == list(true)
    # The first prompt has no answer.
    rows = [{"number": row["number"], "answer": true[row["number"]].layout.to_json()} for row in asked[1:]]
    answers.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run_command(monkeypatch, "--answers", str(answers), "--prompts", "1", "--output", str(output))
    report = json.loads((output / "plan.json").read_text(encoding="utf-8"))
    assert report["run"]["prompts"] == 15 and report["run"]["without_an_answer"] == 1
    assert report["run"]["answers_file"] == "answers.jsonl" and report["run"]["seed"] == 7
    assert report["table"]["written"]["valid"]["mean"] == pytest.approx(100 * 14 / 15)
    assert report["table"]["true"]["valid"]["mean"] == 100.0
    assert "| names, planned |" in (output / "plan.md").read_text(encoding="utf-8")
    assert len((output / "plan_answers.jsonl").read_text(encoding="utf-8").splitlines()) == 15
    with pytest.raises(SystemExit, match="line 1"):
        run_command(monkeypatch, "--answers", str(requests), "--prompts", "1")
    with pytest.raises(SystemExit, match="give --prompts from 1"):
        run_command(monkeypatch, "--requests", str(requests), "--prompts", "0")


def test_half_views_of_lenses_are_those_of_the_film() -> None:
    """The field of view of 24 mm on 36 x 24 mm film is 2 atan(1/2)."""
    wanted = {
        statement.value
        for prompt in plan_prompts(SEED, 4)
        for statement in prompt.statements
        if statement.kind == "camera_fov"
    }
    assert any(value == pytest.approx(math.degrees(2 * math.atan(0.5))) for value in wanted) and len(wanted) == 4
