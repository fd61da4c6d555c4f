"""Projected boxes against the drawn pixels, and rectangles on the ground against the world's geometry."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from sf_model.scaffold import footprint
from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from sf_model.scaffold.layout_view import projected_boxes
from sf_model.scaffold.shapes import named_shapes
from sf_model.world import SceneObject
from sf_model.world import geometry as world


def thing(x: float, z: float, heading: float, size: tuple[float, float, float], shape: str = "box") -> LayoutObject:
    return LayoutObject("thing", shape, (x, 0.0, z), heading, size)


def test_the_box_of_a_sphere_by_hand() -> None:
    """Radius 0.5 at 5 m, its centre at the camera's height: the tangents are at asin(0.1)."""
    layout = Layout(LayoutCamera(0.5, 0.0, 60.0), True, (thing(0.0, 5.0, 0.0, (1, 1, 1), "sphere"),))
    (box,) = projected_boxes(layout, 400, 200)
    reach = math.tan(math.asin(0.1)) * 100 / math.tan(math.radians(30))
    assert (box.left, box.right) == pytest.approx((200 - reach, 200 + reach), abs=1e-6)
    assert (box.top, box.bottom) == pytest.approx((100 - reach, 100 + reach), abs=1e-6)
    assert (box.nearest_m, box.farthest_m) == pytest.approx((4.5, 5.5))
    assert box.seen_share(400, 200) == 1.0


@pytest.mark.parametrize("name", named_shapes())
def test_the_box_holds_the_drawn_pixels_and_touches_them(name: str) -> None:
    rng = random.Random(name)
    longest = max(named_shapes()[name].size_m)
    size = tuple(2.0 * side / longest for side in named_shapes()[name].size_m)
    height = rng.uniform(0.4, 3.0)
    pitch = math.degrees(math.atan2(height - size[1] / 2, 5.2)) + rng.uniform(-5, 5)
    camera = LayoutCamera(height, pitch, rng.uniform(50, 65))
    place = thing(rng.uniform(-0.6, 0.6), 5.2, rng.uniform(0, 360), size, name)
    layout = Layout(camera, False, (place,))
    pixels = 700
    (box,) = projected_boxes(layout, pixels, pixels)
    drawn = compose_layout(layout, pixels, pixels)
    rows, columns = (drawn.object_index == 0).nonzero(as_tuple=True)
    found = [columns.min() + 0.5, rows.min() + 0.5, columns.max() + 0.5, rows.max() + 0.5]
    assert box.seen_share(pixels, pixels) == 1.0
    outside = np.array([box.left - found[0], box.top - found[1], found[2] - box.right, found[3] - box.bottom])
    assert outside.max() <= 1e-6
    # The tip of a cone or a rod may fall between pixel centres.
    assert outside.min() > -4.0 and np.median(outside) > -1.2
    depth = drawn.depth.depth[drawn.depth.valid]
    assert box.nearest_m - 1e-4 <= depth.min() and depth.max() <= box.farthest_m + 1e-4


def test_behind_beside_and_partly_behind_the_camera() -> None:
    camera = LayoutCamera(1.5, 0.0, 60.0)
    things = (thing(0, -5, 0, (1, 1, 1)), thing(-40, 5, 0, (1, 1, 1)), thing(-2, 0, 0, (1, 1, 20)))
    behind, beside, partly = projected_boxes(Layout(camera, True, things), 100, 100)
    assert behind is None
    assert beside.right < 0 and beside.seen_share(100, 100) == 0.0
    assert partly.left == -math.inf and partly.right == math.inf and partly.seen_share(100, 100) == 1.0


@pytest.mark.parametrize("seed", range(60))
def test_distances_and_gaps_as_the_world_has_them(seed: int) -> None:
    rng = random.Random(seed)
    mine = [
        thing(rng.uniform(-4, 4), rng.uniform(2, 9), rng.uniform(0, 360), tuple(rng.uniform(0.3, 3) for _ in range(3)))
        for _ in range(2)
    ]
    theirs = [
        SceneObject("car", "red", (t.position_m[0], t.position_m[2]), t.heading_deg, (t.size_m[2], t.size_m[0], 1))
        for t in mine
    ]
    assert footprint.camera_distance_m(mine[0]) == pytest.approx(world.camera_distance_m(theirs[0]))
    assert footprint.bearing_deg(mine[0]) == pytest.approx(world.bearing_deg(theirs[0]))
    assert footprint.direction_deg(*mine) == pytest.approx(world.direction_deg(*theirs))
    push = footprint.push_apart(*mine)
    if push is None:
        assert footprint.gap_m(*mine) == pytest.approx(world.gap_m(*theirs))
        return
    assert footprint.gap_m(*mine) == 0.0
    x, _, z = mine[1].position_m

    def moved(share: float) -> LayoutObject:
        return thing(x + share * push[0], z + share * push[1], mine[1].heading_deg, mine[1].size_m)

    assert footprint.push_apart(mine[0], moved(1.0 + 1e-9)) is None
    assert footprint.push_apart(mine[0], moved(0.98)) is not None
    # No other direction is shorter: by brute force.
    for angle in np.linspace(0, 2 * np.pi, 73):
        step = 0.97 * np.hypot(*push) * np.array([np.cos(angle), np.sin(angle)])
        assert (
            footprint.push_apart(mine[0], thing(x + step[0], z + step[1], mine[1].heading_deg, mine[1].size_m))
            is not None
        )


def test_overlap_in_height() -> None:
    table = LayoutObject("table", "table", (0, 0, 3), 0.0, (1, 0.75, 1))
    cup = LayoutObject("cup", "cup", (0, 0.75, 3), 0.0, (0.1, 0.1, 0.1))
    assert footprint.overlap_in_height_m(table, cup) == pytest.approx(0.0)
    assert footprint.overlap_in_height_m(
        table, LayoutObject("dog", "dog", (0, 0, 3), 0.0, (1, 0.6, 1))
    ) == pytest.approx(0.6)
