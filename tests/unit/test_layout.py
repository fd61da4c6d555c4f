"""Layouts: the strict form and its schema, lenses, composing, mattes."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_model.scaffold import GROUND_INDEX, compose
from sf_model.scaffold.layout import (
    MAX_OBJECTS,
    Layout,
    LayoutCamera,
    LayoutObject,
    compose_layout,
    fov_of_lens,
    lens_of_fov,
    unique_names,
)
from sf_model.scaffold.layout_reading import read_layout
from sf_model.scaffold.shapes import named_shapes
from sf_model.world import render, sample_scene

SCHEMA = json.loads(
    Path(__file__).parents[2].joinpath("sf_model", "scaffold", "layout_schema.json").read_text(encoding="utf-8")
)


def faults(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """What is wrong with a value, by the JSON Schema keywords that the file uses. Others raise KeyError."""
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float)}
    ignored = {"$schema", "$id", "title", "description", "type", "properties", "required", "additionalProperties"}
    checks = {
        "const": lambda limit: value == limit,
        "enum": lambda limit: value in limit,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "minItems": lambda limit: len(value) >= limit,
        "maxItems": lambda limit: len(value) <= limit,
        "minLength": lambda limit: len(value) >= limit,
        "maxLength": lambda limit: len(value) <= limit,
        "items": lambda _: True,
    }
    kind = schema.get("type")
    if kind and (not isinstance(value, types[kind]) or (kind == "number" and isinstance(value, bool))):
        return [f"{at} is no {kind}"]
    found = [f"{at}: {name}" for name, limit in schema.items() if name not in ignored and not checks[name](limit)]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        found += [f"{at}.{name} is unknown" for name in value if name not in properties]
        found += [
            fault
            for name in value
            if name in properties
            for fault in faults(value[name], properties[name], f"{at}.{name}")
        ]
    if isinstance(value, list):
        found += [fault for k, part in enumerate(value) for fault in faults(part, schema["items"], f"{at}[{k}]")]
    return found


def random_layout(rng: random.Random) -> Layout:
    camera = LayoutCamera(rng.uniform(0, 10), rng.uniform(-90, 90), rng.uniform(1, 170))
    objects = [
        LayoutObject(
            rng.choice(["red car", "\u732b", 'a "quoted" <b>name</b>', "\u0634\u062c\u0631\u0629", "x" * 200]),
            rng.choice(list(named_shapes())),
            (rng.uniform(-1000, 1000), rng.uniform(-3, 30), rng.uniform(-1000, 1000)),
            rng.uniform(-720, 720),
            tuple(10 ** rng.uniform(-2.9, 2.9) for _ in range(3)),
            rng.random(),
        )
        for _ in range(rng.randrange(9))
    ]
    return Layout(camera, rng.random() < 0.5, tuple(objects))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_keeps_to_the_schema_and_reads_back_without_a_note(seed: int) -> None:
    layout = random_layout(random.Random(seed))
    for text in (layout.to_json(), layout.to_compact_json()):
        assert faults(json.loads(text), SCHEMA) == []
        assert re.search("NaN|Infinity", text) is None
        read = read_layout(text)
        assert read.notes == ()
        # Writing rounds to 0.1 mm and 0.001 degrees; written again, nothing changes.
        assert read.layout.to_json() == layout.to_json()
        assert len(read.layout.objects) == len(layout.objects)
        for mine, theirs in zip(read.layout.objects, layout.objects):
            assert mine.name == theirs.name and mine.shape == theirs.shape
            assert mine.position_m == pytest.approx(theirs.position_m, abs=5.1e-5)
            assert mine.size_m == pytest.approx(theirs.size_m, abs=5.1e-5)
            assert math.cos(math.radians(mine.heading_deg - theirs.heading_deg)) > 1 - 1e-9
    assert "\n" not in layout.to_compact_json() and " " not in re.sub(r'"(\\.|[^"\\])*"', "", layout.to_compact_json())


def test_the_strict_form_of_one_object_by_hand() -> None:
    thing = LayoutObject("red car", "car", (1.5, 0.0, 6.25), -90.0, (1.8, 1.5, 4.2))
    layout = Layout(LayoutCamera(1.5, 5.0, 50.0), True, (thing,))
    assert layout.to_compact_json() == (
        '{"version":1,"camera":{"height_m":1.5,"pitch_deg":5,"fov_y_deg":50},"ground":true,"objects":['
        '{"name":"red car","shape":"car","position_m":[1.5,0,6.25],'
        '"heading_deg":270,"size_m":[1.8,1.5,4.2],"confidence":1}]}'
    )
    assert layout.to_json().count("\n") == 7


def test_the_checker_of_this_test_finds_faults() -> None:
    good = Layout(objects=(LayoutObject("a", "box", (0, 0, 3), 0.0, (1, 1, 1)),)).to_dict()
    assert faults(good, SCHEMA) == []
    for change in (
        lambda d: d.pop("ground"),
        lambda d: d.update(version=2),
        lambda d: d.update(colour="red"),
        lambda d: d["camera"].update(fov_y_deg=171),
        lambda d: d["objects"][0].update(shape="warp drive"),
        lambda d: d["objects"][0].update(position_m=[0, 3]),
        lambda d: d["objects"][0].update(size_m=[1, 0, 1]),
        lambda d: d["objects"][0].update(heading_deg=360),
        lambda d: d["objects"][0].update(confidence=True),
    ):
        bad = json.loads(json.dumps(good))
        change(bad)
        assert len(faults(bad, SCHEMA)) == 1, bad


def test_the_schema_knows_the_shapes_and_the_limits() -> None:
    thing = SCHEMA["properties"]["objects"]["items"]["properties"]
    assert thing["shape"]["enum"] == list(named_shapes())
    assert SCHEMA["properties"]["objects"]["maxItems"] == MAX_OBJECTS
    with pytest.raises(ValueError, match="size_m of 'a' between 0.001 and 1000"):
        LayoutObject("a", "box", (0, 0, 3), 0.0, (1, 1, 1001))
    with pytest.raises(ValueError, match="position_m of 'a' between -1000 and 1000"):
        LayoutObject("a", "box", (0, 0, -1001), 0.0, (1, 1, 1))
    with pytest.raises(ValueError, match="remove objects: the layout has 257"):
        Layout(objects=(LayoutObject("a", "box", (0, 0, 3), 0.0, (1, 1, 1)),) * 257)
    with pytest.raises(ValueError, match="fov_y_deg between 1 and 170: it is nan"):
        LayoutCamera(fov_y_deg=math.nan)


def test_lenses_on_35_mm_film() -> None:
    """Published: a 50 mm lens sees 27.0 degrees of the film's 24 mm, a 35 mm lens 37.8, a 24 mm lens 53.1."""
    for focal_mm, fov in ((50.0, 27.0), (35.0, 37.8), (24.0, 53.1)):
        assert fov_of_lens(focal_mm) == pytest.approx(fov, abs=0.05)
        assert lens_of_fov(fov_of_lens(focal_mm)) == pytest.approx(focal_mm)


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_of_the_world_as_a_layout_has_the_world_s_depth(seed: int) -> None:
    """Several objects that hide one another, on the ground; through the text."""
    scene = sample_scene(random.Random(seed))
    objects = [
        LayoutObject(
            f"{o.color} {o.category}",
            o.category,
            (o.position_m[0], 0.0, o.position_m[1]),
            o.heading_deg,
            (o.size_m[1], o.size_m[2], o.size_m[0]),
        )
        for o in scene.objects
    ]
    camera = LayoutCamera(scene.camera.height_m, scene.camera.pitch_deg, scene.camera.fov_y_deg)
    text = Layout(camera, True, tuple(objects)).to_compact_json()
    mine, theirs = compose_layout(read_layout(text).layout, 192, 128), render([scene], 192, 128)
    same = mine.object_index == theirs.object_index[0]
    assert (~same).float().mean() < 2e-3
    seen = same & (mine.object_index >= 0)
    assert seen.sum() > 200
    error = (mine.depth.depth[0] / theirs.depth_m[0] - 1).abs()[seen]
    # The text has 0.1 mm and 0.001 degrees. Pixels at an edge between two parts may see either.
    assert error.quantile(0.99) < 2e-4 and (error > 1e-3).sum() <= 5
    ground = same & (mine.object_index == GROUND_INDEX)
    torch.testing.assert_close(mine.depth.depth[0][ground], theirs.depth_m[0][ground], rtol=1e-3, atol=0)


def test_mattes_by_name_and_confidence() -> None:
    layout = Layout(
        LayoutCamera(1.0, 0.0, 60.0),
        True,
        (
            LayoutObject("chair", "chair", (-1.0, 0, 4), 0.0, (0.6, 1, 0.6), 0.5),
            LayoutObject("chair", "chair", (1.0, 0, 4), 0.0, (0.6, 1, 0.6)),
            LayoutObject("hidden", "box", (2.25, 0.2, 9), 0.0, (0.1, 0.1, 0.1)),
        ),
    )
    drawn = compose_layout(layout, 64, 48)
    mattes = drawn.mattes()
    assert list(mattes) == ["chair", "chair 2", "hidden"]
    assert mattes["chair"][:, :32].sum() > 20 and mattes["chair"][:, 32:].sum() == 0
    assert torch.equal(mattes["chair"].flip(1), mattes["chair 2"])
    assert not mattes["hidden"].any()
    assert set(drawn.depth.confidence[0][mattes["chair"] > 0].tolist()) == {0.5}
    full = compose([thing.scaffold() for thing in layout.objects], layout.camera.scaffold(), 64, 48)
    assert torch.equal(full.depth.depth, drawn.depth.depth)
    bare = compose_layout(Layout(layout.camera, False, ()), 8, 8)
    assert bare.depth.depth.isinf().all() and bare.mattes() == {}


def test_equal_names_get_numbers_that_nothing_else_has() -> None:
    names = ["chair", "chair 2", "chair", "chair", "table"]
    things = tuple(LayoutObject(name, "box", (0, 0, 3), 0.0, (1, 1, 1)) for name in names)
    assert unique_names(Layout(objects=things)) == ["chair", "chair 2", "chair 3", "chair 4", "table"]


def test_the_page_shows_a_layout_that_keeps_to_the_schema() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "layouts.md").read_text(encoding="utf-8")
    example = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert faults(json.loads(example.group(1)), SCHEMA) == []
    assert read_layout(example.group(1)).notes == ()
    for name in (*SCHEMA["properties"], *SCHEMA["properties"]["objects"]["items"]["properties"]):
        assert f"`{name}`" in page or f"`{name}." in page or name == "objects"
