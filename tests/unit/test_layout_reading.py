"""The lenient reader: what people and language models write, what it assumes and says, and bad input."""

from __future__ import annotations

import json
import math
import random

import pytest

from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, fov_of_lens
from sf_model.scaffold.layout_reading import MAX_TEXT, ReadLayout, read_layout
from sf_model.scaffold.lenient_json import UnreadableError, read_value
from sf_model.scaffold.quantities import degrees_of, metres_of
from sf_model.scaffold.shapes import named_shapes
from sf_model.scaffold.sizes import size_table, typical_size

CAR = '{"name": "car", "position_m": [1, 0, 6], "size_m": [1.8, 1.5, 4.2]}'


def only(read: ReadLayout) -> LayoutObject:
    (thing,) = read.layout.objects
    return thing


def read_thing(**fields: object) -> tuple[LayoutObject, tuple[str, ...]]:
    """An object with these fields, and the notes about it."""
    read = read_layout(json.dumps({"camera": {"height": 1.5, "pitch": 5, "fov": 50}, "objects": [fields]}))
    return only(read), read.notes


@pytest.mark.parametrize(
    "text, value",
    [
        ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ("{'a': 'it''s', \"b\": \"x\"}", None),
        ("{'a': 'it's here'}", {"a": "it's here"}),
        ("{a: red car, b: 2}", {"a": "red car", "b": 2}),
        ('{"a": 1 "b": 2\n"c": 3}', {"a": 1, "b": 2, "c": 3}),
        ('{"a": 1, // one\n "b": 2, # two\n /* three */ "c": 3}', {"a": 1, "b": 2, "c": 3}),
        (
            "{a: True, b: None, c: NaN, d: -Infinity, e: false}",
            {"a": True, "b": None, "c": None, "d": None, "e": False},
        ),
        ("{a: +1.5, b: .5, c: 5., d: -1e-2, e: 1e999}", {"a": 1.5, "b": 0.5, "c": 5.0, "d": -0.01, "e": None}),
        ("[1, 2, ...]", [1, 2]),
        ("{a = 1; b => 2}", {"a": 1, "b": 2}),
        ("{\u201ca\u201d: \u201cb\u201d}", {"a": "b"}),
        ('{"a": "\\u732b \\ud83d\\ude00 \\ud83d \\n \\q"}', {"a": "\u732b \U0001f600 \ufffd \n q"}),
        ("{a: (1, 2, 3)}", {"a": [1, 2, 3]}),
        ("{a: 1.8 m, b: [90 cm, 2 m]}", {"a": "1.8 m", "b": ["90 cm", "2 m"]}),
        ('{"a": [1, {"b": 2}', {"a": [1, {"b": 2}]}),
        ('{"a": "cut', {}),
        ('{"a": [{"b": 1}, {"c": 12', {"a": [{"b": 1}, {}]}),
        ('{"a": [1, 2, 3', {}),
    ],
)
def test_lenient_json(text: str, value: object) -> None:
    if value is None:
        with pytest.raises(UnreadableError):
            read_value(text)
    else:
        assert read_value(text).value == value


def test_strict_json_reads_as_the_standard_library_reads_it() -> None:
    rng = random.Random(1)

    def make(depth: int) -> object:
        kind = rng.randrange(6 if depth < 4 else 4)
        if kind == 0:
            return rng.choice([True, False, None])
        if kind == 1:
            return rng.choice([rng.randrange(-1000, 1000), rng.uniform(-1e6, 1e6), rng.uniform(-1e-6, 1e-6)])
        if kind < 4:
            return "".join(rng.choice(" \"'\\/{}[]:,#ab\n\t\u732b\U0001f600") for _ in range(rng.randrange(12)))
        if kind == 4:
            return [make(depth + 1) for _ in range(rng.randrange(5))]
        return {f"key {k}": make(depth + 1) for k in range(rng.randrange(5))}

    for _ in range(300):
        value = [make(0)]
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
        assert read_value(text).value == value


@pytest.mark.parametrize(
    "value, metres",
    [
        (1.8, 1.8),
        ("1.8", 1.8),
        ("1.8 m", 1.8),
        ("180cm", 1.8),
        ("1,8 m", 1.8),
        ("6 ft 2 in", 1.8796),
        ("6'2\"", 1.8796),
        ("about 2 metres", 2.0),
        ("~3m", 3.0),
        ("1 m 80", None),
        ("red", None),
        ("12 parsecs", None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        (None, None),
        ("", None),
    ],
)
def test_metres(value: object, metres: float | None) -> None:
    found = metres_of(value)
    assert found == (pytest.approx(metres) if metres is not None else None) or value == "1 m 80"


def test_degrees() -> None:
    assert degrees_of("90\u00b0") == 90 and degrees_of("45 degrees") == 45 and degrees_of(30) == 30
    assert degrees_of("1.5707963 rad") == pytest.approx(90) and degrees_of(math.pi, math.degrees(1)) == pytest.approx(
        180
    )


def test_an_answer_of_a_language_model_with_everything_wrong_in_it() -> None:
    text = """<think>The user wants {"objects": [{"name": "draft", "position": [0, 1]}]}? No.</think>
    Sure! Here is your **layout**:
    ```json
    {
      camera: {"height": "160 cm", tilt: 8, 'lens': "35mm"},   // as asked
      "objects": [
        {'name': 'red car', 'position': ['0.5 m', 6], facing: left,},
        {"name": "oak tree", "x": -3, "z": 12 "size": {"height": "10 m"}},
        {"name": "man", "position_m": [-1, 0
    """
    read = read_layout(text)
    car, tree = read.layout.objects
    assert read.layout.camera == LayoutCamera(1.6, 8.0, fov_of_lens(35.0))
    assert (car.name, car.shape, car.position_m, car.heading_deg) == ("red car", "car", (0.5, 0.0, 6.0), 270.0)
    assert (tree.shape, tree.position_m, tree.size_m) == ("tree", (-3.0, 0.0, 12.0), (7.5, 10.0, 7.5))
    assert read.notes == (
        "the text ended early, and what was complete was read",
        "object 3 was left out: the text ended inside of it",
        "size of 'red car' taken as 1.8 x 1.48 x 4.4 m",
        "size of 'oak tree' taken as 7.5 x 10 x 7.5 m",
    )


@pytest.mark.parametrize(
    "text",
    [
        f"[{CAR}]",
        CAR,
        f'{{"objects": [{CAR}]}}',
        f'{{"layout": {{"objects": [{CAR}]}}}}',
        f'[{{"scene": {{"things": [{CAR}]}}}}]',
        '{"objects": {"car": {"position_m": [1, 0, 6], "size_m": [1.8, 1.5, 4.2]}}}',
        f'A set {{of braces}} and [1, 2] first. {{"objects": [{CAR}]}} and {{"objects": []}}',
        f'{{"Objects": [{CAR.replace("position_m", "Position").replace("size_m", "Dimensions")}]}}',
        f'```json\n{{"objects": [{CAR}]}}\n```\nuser: another scene\n{{"objects": [{CAR}, {CAR}]}}',
        f'{{"objects": [{CAR}, {CAR}, {CAR}]}}',
        '{"objects": [{"name": "car", "position_cm": [100, 0, 600], "size_mm": [1800, 1500, 4200]}]}',
        '{"objects": [{"name": "car", "x": 1, "z": "6 m", "width": 1.8, "height": "150 cm", "depth": 4.2}]}',
        '{"objects": [{"name": "car", "location": {"x": 1, "z": 6}, "size": "1.8 x 1.5 x 4.2 m"}]}',
        '{"objects": [{"name": "car", "position": "1, 0, 6", "size": {"w": 1.8, "h": 1.5, "l": 4.2}}]}',
    ],
)
def test_many_ways_to_write_one_car(text: str) -> None:
    thing = only(read_layout(text))
    assert (thing.name, thing.shape, thing.position_m) == ("car", "car", (1.0, 0.0, 6.0))
    assert thing.size_m == pytest.approx((1.8, 1.5, 4.2))


@pytest.mark.parametrize(
    "heading, degrees",
    [
        (-90, 270),
        (450, 90),
        ("left", 270),
        ("facing right", 90),
        ("towards the camera", 0),
        ("away from the camera", 180),
        ("45 deg", 45),
        ([0, 30, 0], 30),
        ({"yaw": 15}, 15),
    ],
)
def test_headings(heading: object, degrees: float) -> None:
    thing, notes = read_thing(name="car", position=[0, 5], size=[1, 1, 1], facing=heading)
    assert thing.heading_deg == degrees and notes == ()


def test_away_from_the_camera_is_away_though_the_camera_is_named() -> None:
    assert read_thing(name="car", position=[0, 5], facing="back to the camera")[0].heading_deg == 180


def test_what_is_missing_is_taken_from_the_table_and_listed() -> None:
    thing, notes = read_thing(name="oak tree", position_m=[0, 0, 9])
    assert thing.size_m == (6.0, 8.0, 6.0) and thing.shape == "tree"
    assert notes == ("size of 'oak tree' taken as 6 x 8 x 6 m",)
    thing, notes = read_thing(name="glorbnax", position_m=[0, 0, 9])
    assert (thing.shape, thing.size_m) == ("box", (1.0, 1.0, 1.0))
    assert notes == (
        "'glorbnax' is drawn as a box: no shape for it is known",
        "size of 'glorbnax' taken as 1 x 1 x 1 m",
    )
    thing, notes = read_thing(name="my treasure", shape="warp drive", position_m=[0, 0, 9], size=[1, 2, 3])
    assert thing.shape == "box" and len(notes) == 1
    thing, notes = read_thing(name="old Betsy", shape="automobile", position_m=[0, 0, 9], size=[1, 2, 3])
    assert thing.shape == "car" and notes == ("the shape 'automobile' of 'old Betsy' was taken as 'car'",)
    assert read_thing(name="my SITTING_PERSON", shape="Sitting-Person", position=[0, 3])[0].shape == "sitting person"


def test_one_size_scales_the_others() -> None:
    thing, notes = read_thing(name="car", position=[0, 5], height="3 m")
    assert thing.size_m == pytest.approx((3.6486, 3.0, 8.9189), abs=1e-3)
    assert notes == ("size of 'car' taken as 3.65 x 3 x 8.92 m",)
    assert read_thing(name="car", position=[0, 5], size=3)[0].size_m[1] == 3.0


def test_things_without_a_place_stand_beside_one_another() -> None:
    read = read_layout('{"objects": ["a red car", "a tree", {"name": "dog"}]}')
    first, second, third = read.layout.objects
    assert first.position_m[0] + 0.9 < second.position_m[0] - 3.0
    assert second.position_m[0] + 3.0 < third.position_m[0] - 0.16
    assert all("place of" in " ".join(note for note in read.notes if name in note) for name in ("car", "tree", "dog"))


@pytest.mark.parametrize(
    "camera, expected, note",
    [
        ({"height_m": 2, "pitch_deg": -3, "focal_mm": 50}, LayoutCamera(2, -3, fov_of_lens(50.0)), None),
        ({"position": [0, 1.2, 0], "tilt": "10 deg", "fov": 40}, LayoutCamera(1.2, 10, 40), None),
        ({"position": [3, 1.2, 0], "tilt": 10, "fov": 40}, LayoutCamera(1.2, 10, 40), "moved to the origin"),
        ([{"height": 1, "pitch": 0, "fov": 30}, {"height": 9}], LayoutCamera(1, 0, 30), "2 cameras"),
        ({"height": math.nan, "pitch": 500, "fov": 0}, LayoutCamera(1.5, 90, 1), "pitch was taken as 90 degrees: 500"),
        (None, LayoutCamera(), "the camera was taken as 1.5 m high, looking 5 degrees down"),
        ("fisheye", LayoutCamera(), "the camera was taken"),
    ],
)
def test_cameras(camera: object, expected: LayoutCamera, note: str | None) -> None:
    read = read_layout(json.dumps({"camera": camera, "objects": [json.loads(CAR)]}))
    assert read.layout.camera == expected
    assert any(note in text for text in read.notes) if note else read.notes == ()


def test_two_cameras_by_one_name() -> None:
    camera = '"camera": {"height": 1, "pitch": 0, "fov": 30}'
    read = read_layout(f'{{{camera}, {camera.replace("30", "60")}, "objects": [{CAR}]}}')
    assert read.layout.camera.fov_y_deg == 30 and read.notes == ("given twice, and read once: 'camera'",)


def test_ground() -> None:
    for value, expected in (("true", True), ("false", False), ("0", False), ('"grass"', True), ("null", True)):
        assert read_layout(f'{{"ground": {value}, "objects": [{CAR}]}}').layout.ground is expected


def test_sizes_and_places_out_of_range() -> None:
    thing, notes = read_thing(name="car", position=[0, 5], size=[0, math.nan, "10 km"])
    assert thing.size_m[2] == 1000.0 and "size of 'car' taken as" in notes[0]
    thing, notes = read_thing(name="hill", position=["-20 km", 0, "30 km"], size=[-5, 9, 5000], confidence=7)
    assert thing.position_m == (-1000.0, 0.0, 1000.0) and thing.size_m == (5.0, 9.0, 1000.0)
    assert thing.confidence == 1.0 and len(notes) == 3
    thing, _ = read_thing(name="car", position=[0, 0, -8], size=[1, 1, 1])
    assert thing.position_m == (0.0, 0.0, -8.0)  # behind the camera: a place like any other here


@pytest.mark.parametrize(
    "name, kept",
    [
        ("\u732b", "\u732b"),
        ("\u0634\u062c\u0631\u0629", "\u0634\u062c\u0631\u0629"),
        ("\u0434\u0435\u0440\u0435\u0432\u043e \U0001f333", "\u0434\u0435\u0440\u0435\u0432\u043e \U0001f333"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("a\nb\t\0c\x9b", "a b c"),
        ("half \ud83d", "half \ufffd"),
        ("", "object 1"),
        (17, "object 1"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_names(name: object, kept: str) -> None:
    thing, _ = read_thing(name=name, position=[0, 5])
    assert thing.name == kept
    thing.name.encode("utf-8")


def test_colours_become_part_of_the_name_and_unknown_fields_are_said() -> None:
    thing, notes = read_thing(name="car", color="red", material="steel", position=[0, 5], size=[1, 1, 1])
    assert thing.name == "red car"
    assert notes == ("the colour became a part of the name 'red car'", "not used: 'material' of 'red car'")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am sorry, I cannot do that.",
        "{}",
        "[]",
        "{" * 5000,
        "[" * 5000,
        '{"a":' * 5000,
        '{"error": "no", "code": [1, 2, 3]}',
        "It was the best of times, it was the worst of times. " * 2000,
        "{x: [it was the best] of times} " * 3000,
        "\0\x01\ud800",
    ],
)
def test_no_layout(text: str) -> None:
    with pytest.raises(ValueError, match="write a layout such as .* there is none in this text: '") as error:
        read_layout(text)
    assert len(str(error.value)) < 500


def test_a_layout_in_a_novel_is_found() -> None:
    novel = "It was the best of times; it was the worst of times. " * 2000
    assert only(read_layout(f'{novel}\n{{"objects": [{CAR}]}}\n{novel}')).name == "car"
    with pytest.raises(ValueError, match="shorten the text"):
        read_layout("x" * (MAX_TEXT + 1))


def test_a_model_that_never_stops() -> None:
    """It says one object again and again, until its tokens are used up."""
    read = read_layout('{"objects": [' + f"{CAR}, " * 900 + CAR[:30])
    assert len(read.layout.objects) == 1 and any("read once" in note for note in read.notes)


def test_ten_thousand_objects_and_newer_versions_are_refused() -> None:
    many = ",".join(f'{{"name": "dot", "position": [{k}, 5]}}' for k in range(10_000))
    with pytest.raises(ValueError, match="remove objects: the layout has 10000"):
        read_layout(f'{{"objects": [{many}]}}')
    for version in ("2", '"2.1"', '"v3"'):
        with pytest.raises(ValueError, match="update ComfyUI-SpatialFusion"):
            read_layout(f'{{"version": {version}, "objects": [{CAR}]}}')
    for version in ("1", '"1.0"', '"draft"', "null"):
        assert only(read_layout(f'{{"version": {version}, "objects": [{CAR}]}}')).name == "car"


def test_damaged_text_is_read_or_refused_but_nothing_else() -> None:
    rng = random.Random(9)
    objects = tuple(
        LayoutObject(f"thing {k}", rng.choice(list(named_shapes())), (k, 0, 5), 0.0, (1, 1, 1)) for k in range(4)
    )
    good = Layout(objects=objects).to_json()
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        text = list(good)
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(
                ['"', "{", "}", "[", "]", ":", ",", "'", "e9", "-", "\\", "/*", ""]
            )
        try:
            read = read_layout("".join(text))
            read_layout(read.layout.to_json())
            outcomes["read"] += 1
        except ValueError:
            outcomes["refused"] += 1
    assert outcomes["read"] > 800


def test_the_table_of_sizes() -> None:
    rows = size_table()
    words = [word for row in rows for word in (row.name, *row.synonyms)]
    assert len(rows) >= 200 and len(words) == len(set(words))
    assert all(row.shape in named_shapes() and row.source for row in rows)
    assert all(0.001 <= size <= 1000 for row in rows for size in row.size_m)
    assert all(typical_size(row.name) == row for row in rows)
    missing = [name for name in named_shapes() if typical_size(name) is None]
    assert missing == []


@pytest.mark.parametrize(
    "words, name",
    [
        ("a big red sports car", "sports car"),
        ("The Old Oak Tree", "tree"),
        ("cup of coffee", "cup"),
        ("man with a hat on the table", "man"),
        ("two dogs", "dog"),
        ("wooden bookshelves", "shelf"),
        ("three children", "child"),
        ("chair 2", "chair"),
        ("dining-table", "table"),
        ("coffee_table", "coffee table"),
        ("pick up truck", "truck"),
        ("bus", "bus"),
        ("glass", "glass"),
        ("green glasses", "glasses"),
        ("cat, sleeping", "cat"),
        ("street-lamp", "street lamp"),
        ("glorbnax", None),
        ("\u732b", None),
        ("", None),
    ],
)
def test_names_in_the_table(words: str, name: str | None) -> None:
    row = typical_size(words)
    assert (row.name if row else None) == name
