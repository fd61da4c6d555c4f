"""Layouts as numbers: to the flow's state and back, and what a picture shows of them."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from sf_model import world
from sf_model.models.layout import (
    OBJECT_NUMBERS,
    Layout,
    layout_of,
    layout_state,
    picture_numbers,
    projected_boxes,
    state_channels,
    state_weight,
)
from sf_model.training.data.layouts import edited_layouts, joined_layouts, layouts_of, order_of
from sf_model.world.geometry import view_heading_deg
from sf_model.world.sampling import projected_box

CATEGORIES, COLORS, OBJECTS = len(world.CATEGORY_NAMES), len(world.COLORS), 4


def scenes(count: int) -> list[world.Scene]:
    rng = random.Random(7)
    return [world.sample_scene(rng) for _ in range(count)]


def layouts(count: int) -> tuple[list[world.Scene], Layout]:
    drawn = scenes(count)
    return drawn, layouts_of(drawn, [range(len(scene.objects)) for scene in drawn], OBJECTS)


def test_a_state_says_the_whole_layout() -> None:
    _, layout = layouts(40)
    state = layout_state(layout)
    assert state.shape == (40, 1 + OBJECTS, state_channels(CATEGORIES, COLORS))
    back = layout_of(state, CATEGORIES)
    present = layout.present > 0.5
    torch.testing.assert_close(back.present, layout.present)
    torch.testing.assert_close(back.camera, layout.camera, rtol=1e-4, atol=1e-4)
    for name in ("category", "color", "position_m", "size_m"):
        torch.testing.assert_close(getattr(back, name)[present], getattr(layout, name)[present], rtol=1e-4, atol=1e-4)
    turned = (back.heading_deg - layout.heading_deg + 180) % 360 - 180
    assert turned[present].abs().max() < 0.01


def test_a_state_has_about_unit_variance() -> None:
    """The flow's noise has it, too. Choices are +1 and -1 whatever they are."""
    _, layout = layouts(400)
    state, present = layout_state(layout), layout.present > 0.5
    numbers = state[:, 1:][present][:, 1:OBJECT_NUMBERS]
    for values in (*numbers.T, *state[:, 0, :3].T):
        assert 0.4 < values.square().mean() < 2.0
    assert set(state[:, 1:, OBJECT_NUMBERS:].unique().tolist()) == {-1.0, 1.0}


def test_boxes_are_those_of_the_world() -> None:
    drawn, layout = layouts(60)
    boxes = projected_boxes(layout, 1.0)
    for scene, row in zip(drawn, boxes):
        for obj, box in zip(scene.objects, row):
            expected = projected_box(obj, scene.camera)
            assert expected is not None
            known = [expected.left, expected.top, expected.right, expected.bottom, expected.depth_m]
            torch.testing.assert_close(box, torch.tensor(known), rtol=1e-4, atol=1e-4)


def test_a_wide_picture_shows_the_same_rows_and_more_columns() -> None:
    """At twice the width the vertical field of view is the same: columns move half as far from the middle."""
    _, layout = layouts(10)
    square, wide = projected_boxes(layout, 1.0), projected_boxes(layout, 2.0)
    torch.testing.assert_close(wide[..., (1, 3, 4)], square[..., (1, 3, 4)])
    torch.testing.assert_close(wide[..., (0, 2)] - 0.5, (square[..., (0, 2)] - 0.5) / 2)


def test_a_picture_s_numbers_by_hand() -> None:
    camera = world.Camera(1.0, 0.0, 90.0)
    obj = world.SceneObject("dog", "red", (0.0, 5.0), 90.0, (2.0, 1.0, 1.0))
    scene = replace(scenes(1)[0], camera=camera, objects=(obj,))
    objects, centres, _ = picture_numbers(layouts_of([scene], [[0]], 2), 1.0)
    near = 4.5
    # The camera stands as high as the dog and looks level: its top is in the middle row, its nearest side at 4.5 m.
    bottom = 0.5 + 0.5 * 1.0 / near
    torch.testing.assert_close(centres[0, 0], torch.tensor([(0.5 + bottom) / 2, 0.5]))
    presence, row, column, width, height, _, slope, sine, cosine = objects[0, 0, :9].tolist()
    assert (presence, slope) == (1.0, 0.0)
    assert math.isclose(width, 2 * 0.5 * 1.0 / near, rel_tol=1e-5) and math.isclose(height, bottom - 0.5, rel_tol=1e-5)
    assert math.isclose(row, (0.5 + bottom) / 2, rel_tol=1e-5) and math.isclose(column, 0.5, rel_tol=1e-5)
    heading = math.radians(view_heading_deg(obj))
    assert math.isclose(sine, math.sin(heading), abs_tol=1e-5) and math.isclose(cosine, math.cos(heading), abs_tol=1e-5)
    assert objects[0, 1].count_nonzero() == 0


def test_what_means_nothing_counts_a_fifth() -> None:
    weight = state_weight(torch.tensor([[True, False]]), CATEGORIES, COLORS)
    assert weight[0, 0].tolist() == pytest.approx([1.0] * 3 + [0.2] * (weight.shape[2] - 3))
    torch.testing.assert_close(weight[0, 2, 1:], 0.2 * weight[0, 1, 1:])
    assert weight[0, 1, 0] == weight[0, 2, 0] == 1.0


def test_objects_stand_in_the_order_of_their_mention() -> None:
    rng = random.Random(3)
    for _ in range(40):
        item = world.sample(rng, "free")
        order = order_of(item)
        assert sorted(order) == list(range(len(item.scene.objects)))
        places = [item.caption.index(world.name_of(item.scene.objects[index])) for index in order]
        assert places == sorted(places)


def test_an_edit_keeps_every_object_in_its_place() -> None:
    rng = random.Random(5)
    for kind in world.EDIT_KINDS:
        for _ in range(10):
            pair = world.sample_edit(rng, kind)
            before, after = edited_layouts(pair.source, pair.target, OBJECTS)
            both = (before.present > 0.5) & (after.present > 0.5)
            assert int(before.present.sum()) == len(pair.source.objects)
            assert int(after.present.sum()) == len(pair.target.objects)
            assert int(both.sum()) == min(len(pair.source.objects), len(pair.target.objects))
            assert bool((before.category[both] == after.category[both]).all())
            slopes = (before.position_m[..., 0] / before.position_m[..., 1])[before.present > 0.5]
            assert bool((slopes.diff() >= 0).all())
            changed = (layout_state(before) - layout_state(after)).abs().amax(-1)[0, 1:] > 1e-6
            assert int(changed.sum()) == 1, pair.instruction


def test_layouts_join_in_order() -> None:
    _, whole = layouts(3)
    parts = [Layout(**{name: value[place : place + 1] for name, value in vars(whole).items()}) for place in range(3)]
    torch.testing.assert_close(layout_state(joined_layouts(parts)), layout_state(whole))
