"""Named shapes: their boxes by brute force, the world's renderer as second implementation, and their JSON."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sf_model.rendering.extent import REACH, bounds
from sf_model.rendering.intersect import INTERVALS
from sf_model.scaffold import Pose, ScaffoldCamera, ScaffoldFigure, compose, compose_depth
from sf_model.scaffold.shapes import named_shapes, shapes_as_json
from sf_model.scaffold.shapes.primitive import beam, box, cone, cylinder, ellipsoid, extent, ring, rod, turned, wedge
from sf_model.world import CATEGORY_NAMES, Camera, Scene, SceneObject, render

Array = NDArray[np.float64]
# The solids as sublevel sets {f <= 0}, as in test_world_render: not by the formulas of the sources.
INSIDE = {
    "box": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 0.5,
    "cylinder": lambda x, y, z: np.maximum(np.hypot(x, z), abs(y)) - 0.5,
    "ellipsoid": lambda x, y, z: np.sqrt(x * x + y * y + z * z) - 0.5,
    "cone": lambda x, y, z: np.maximum(np.hypot(x, z) - 0.5 * (0.5 - y), -y - 0.5),
    "prism": lambda x, y, z: np.maximum(np.maximum(abs(x) - 0.5, -y - 0.5), abs(z) + 0.5 * y - 0.25),
}


def surface(solid: str) -> Array:
    """(N, 3) points of the solid, which have its extreme points among them or close by."""
    steps = np.linspace(-0.5, 0.5, 61)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    angle = np.linspace(0, 2 * np.pi, 1441)
    rim = np.stack([np.cos(angle) / 2, 0 * angle, np.sin(angle) / 2], axis=1)
    a, b = np.meshgrid(angle[::4], angle[:721:4])
    ball = np.stack([np.sin(b) * np.cos(a), np.cos(b), np.sin(b) * np.sin(a)], -1).reshape(-1, 3) / 2
    points = np.concatenate([grid, rim + [0, 0.5, 0], rim - [0, 0.5, 0], ball])
    return points[INSIDE[solid](*points.T) <= 1e-12]


@pytest.mark.parametrize("solid", INTERVALS)
def test_reach_is_the_farthest_point_by_brute_force(solid: str) -> None:
    points = surface(solid)
    generator = np.random.default_rng(3)
    for direction in generator.normal(size=(40, 3)):
        found = (points @ direction).max()
        assert REACH[solid](direction) == pytest.approx(found, abs=2e-3 * np.linalg.norm(direction))
        assert REACH[solid](direction) >= found - 1e-12


def test_the_world_s_ten_and_fifty_more() -> None:
    assert set(CATEGORY_NAMES) <= set(named_shapes())
    assert len(named_shapes()) >= 60
    assert all(name == name.lower() and name.isascii() for name in named_shapes())


@pytest.mark.parametrize("name", named_shapes())
def test_a_shape_fills_its_box_exactly(name: str) -> None:
    corners = [bounds(part.solid, *part.arrays()) for part in named_shapes()[name].primitives]
    low, high = np.min([c[0] for c in corners], axis=0), np.max([c[1] for c in corners], axis=0)
    assert low == pytest.approx([-0.5, 0.0, -0.5], abs=1e-9)
    assert high == pytest.approx([0.5, 1.0, 0.5], abs=1e-9)
    assert all(0.005 < size < 1000 for size in named_shapes()[name].size_m)


@pytest.mark.parametrize("name", CATEGORY_NAMES)
def test_same_depth_as_the_worlds_renderer(name: str) -> None:
    """Every category, turned and off the axis. The world's sizes are (length, width, height), its maths is float32."""
    width, height, length = named_shapes()[name].size_m
    z = 2.5 * max(width, height, length)
    camera = Camera(0.9 * height, 8.0, 55.0)
    theirs = Scene(
        camera, (SceneObject(name, "red", (0.2 * z, z), 37.0, (length, width, height)),), "tiles", "clear", 0, 60
    )
    image = render([theirs], 160, 120)
    figure = ScaffoldFigure(name, (width, height, length), Pose(x_m=0.2 * z, z_m=z, heading_deg=37.0))
    mine = compose_depth((figure,), ScaffoldCamera.level(camera.height_m, camera.pitch_deg, camera.fov_y_deg), 160, 120)
    same = mine.object_index == image.object_index[0]
    seen = same & (mine.object_index == 0)
    assert (~same).sum() <= 3 and seen.sum() > 300
    error = (mine.depth.depth[0] / image.depth_m[0] - 1).abs()[seen]
    # Pixels at an edge between two parts may see either.
    assert error.quantile(0.99) < 1e-5 and error.median() < 1e-6
    assert (error > 1e-4).sum() <= 3


def inside_json(shape: dict, points: Array) -> Array:
    """Whether points (N, 3) of the unit box are in the shape: from the JSON and its description alone."""
    found = np.zeros(len(points), dtype=bool)
    for part in shape["primitives"]:
        q = np.linalg.solve(np.array(part["matrix"]), (points - part["centre"]).T)
        found |= INSIDE[part["solid"]](*q) <= 1e-9
    return found


@pytest.mark.parametrize("name", ["car", "standing person", "bicycle", "laptop", "stairs", "aeroplane", "tree"])
def test_the_json_describes_what_is_drawn(name: str) -> None:
    """The composed surface is the boundary: a little behind it is inside, and nothing before it is."""
    shape = json.loads(json.dumps(shapes_as_json()))["shapes"][name]
    size = tuple(shape["size_m"])
    scale, heading_deg = max(size), 205.0
    camera = ScaffoldCamera.level(0.6 * size[1], 4.0, 40.0)
    pose = Pose(x_m=0.1 * scale, z_m=2.2 * scale, heading_deg=heading_deg)
    scene = compose_depth((ScaffoldFigure(name, size, pose),), camera, 64, 64, ground_extent_m=None)
    seen = scene.object_index == 0
    assert seen.sum() > 60
    eye = camera.position_m
    points = scene.depth.points()[0][seen].double().numpy() @ camera.rotation.T + eye
    rays = (points - eye) / np.linalg.norm(points - eye, axis=1, keepdims=True)

    def local(world: Array) -> Array:
        h = math.radians(heading_deg)
        dx, up, dz = world[:, 0] - pose.x_m, -world[:, 1], world[:, 2] - pose.z_m
        right, front = -dx * math.cos(h) - dz * math.sin(h), dx * math.sin(h) - dz * math.cos(h)
        return np.stack([right / size[0], up / size[1], front / size[2]], axis=1)

    step = 1e-4 * scale
    assert inside_json(shape, local(points + step * rays)).mean() > 0.98
    for share in (0.2, 0.5, 0.8, 0.9, 0.97):
        assert not inside_json(shape, local(eye + share * (points - eye) - step * rays)).any()


def test_json_is_plain_data_without_surprises() -> None:
    text = json.dumps(shapes_as_json(), allow_nan=False)
    assert len(text) < 200_000
    loaded = json.loads(text)
    assert loaded["version"] == 1 and list(loaded["shapes"]) == list(named_shapes())
    assert {part["solid"] for shape in loaded["shapes"].values() for part in shape["primitives"]} == set(INTERVALS)


def test_ranges_and_directions_of_the_builders() -> None:
    for make in (box, ellipsoid, cylinder, cone, wedge):
        low, high = extent(make((1.0, 2.0), (3.0, 5.0), (-4.0, 0.0)))
        assert low == pytest.approx([1, 3, -4]) and high == pytest.approx([2, 5, 0])
    (tip,) = cone((-1, 1), (-1, 1), (0, 4), tip="+z")
    matrix, centre = tip.arrays()
    assert matrix @ [0, 0.5, 0] + centre == pytest.approx([0, 0, 4])
    (gable,) = wedge((-1, 1), (0, 2), (0, 6), ridge="y", tip="-z")
    matrix, centre = gable.arrays()
    assert matrix @ [0.5, 0.5, 0] + centre == pytest.approx([0, 2, 0])
    assert matrix @ [-0.5, 0.5, 0] + centre == pytest.approx([0, 0, 0])


def test_rods_and_beams_run_between_their_ends() -> None:
    for make in (lambda a, b: rod(a, b, 0.2), lambda a, b: beam(a, b, 0.2, 0.4)):
        for end in ((1.0, 2.0, 3.0), (0.0, 5.0, 0.0), (0.0, 0.0, -2.0)):
            (part,) = make((0.0, 0.0, 0.0), end)
            matrix, centre = part.arrays()
            assert matrix @ [0, 0.5, 0] + centre == pytest.approx(end)
            assert matrix @ [0, -0.5, 0] + centre == pytest.approx([0, 0, 0])
            across = np.linalg.norm(matrix, axis=0)
            assert across[0] == pytest.approx(0.2) and matrix.T @ matrix == pytest.approx(np.diag(across**2))


def test_turned_goes_from_the_next_axis_to_the_one_after_it() -> None:
    (part,) = turned(box((-0.1, 0.1), (0.9, 1.1), (-0.1, 0.1)), "x", 90.0)
    assert part.centre == pytest.approx((0.0, 0.0, 1.0))
    (part,) = turned(box((0.9, 1.1), (-0.1, 0.1), (-0.1, 0.1)), "z", 90.0, about=(1.0, 1.0, 0.0))
    assert part.centre == pytest.approx((2.0, 1.0, 0.0))
    centres = [part.centre for part in ring(box((-0.1, 0.1), (-0.1, 0.1), (0.9, 1.1)), 4)]
    assert np.array(centres) == pytest.approx(np.array([[0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]]), abs=1e-12)


def test_a_tipped_figure_stands_on_its_lowest_point() -> None:
    pose = Pose(x_m=0.4, y_m=0.7, z_m=5.0, heading_deg=30.0, pitch_deg=50.0, roll_deg=-20.0)
    figure = ScaffoldFigure("horse", (0.5, 2.1, 2.6), pose)
    lowest = max((surface(solid.solid) @ solid.matrix.T + solid.centre)[:, 1].max() for solid in figure.placed())
    assert -lowest == pytest.approx(0.7, abs=2e-3)


def test_the_lighter_compose_has_the_same_depth() -> None:
    rng = random.Random(5)
    things = [
        ScaffoldFigure(name, (0.8, 1.2, 0.9), Pose(rng.uniform(-2, 2), 0.0, rng.uniform(2, 7), rng.uniform(0, 360)))
        for name in rng.sample(list(named_shapes()), 12)
    ]
    camera = ScaffoldCamera.level(1.5, 10.0, 60.0)
    confidence = [0.1 * k for k in range(12)]
    full = compose(things, camera, 96, 64, 50.0, 0.25, 0.5, object_confidence=confidence)
    light = compose_depth(things, camera, 96, 64, 50.0, 0.25, 0.5, object_confidence=confidence)
    assert torch.equal(full.depth.depth, light.depth.depth) and torch.equal(full.object_index, light.object_index)
    assert torch.equal(full.depth.confidence, light.depth.confidence)
    for k in full.object_index.unique().tolist():
        expected = {-1: 0.25, -2: 0.5}.get(k, 0.1 * k)
        assert light.depth.confidence[0][light.object_index == k].unique().tolist() == pytest.approx([expected])
    assert full.picture[full.object_index >= 0].std() > 0.05


def test_an_unknown_shape_and_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of .*car.* no shape 'warp drive'"):
        ScaffoldFigure("warp drive", (1.0, 1.0, 1.0), Pose())
    for size in ((0.0, 1.0, 1.0), (1.0, math.nan, 1.0), (1.0, 1.0, math.inf)):
        with pytest.raises(ValueError, match="positive metres"):
            ScaffoldFigure("car", size, Pose())
