"""Composed scenes against values computed by hand, and meshes against the analytic solids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from sf_model.scaffold import (
    GROUND_INDEX,
    SHAPES,
    SKY_INDEX,
    Composition,
    Pose,
    ScaffoldCamera,
    ScaffoldMesh,
    ScaffoldObject,
    ScaffoldSolid,
    compose,
    prepare_mesh,
)
from sf_model.world import Camera, Scene, SceneObject, render
from sf_model.world.categories import Part
from sf_model.world.packing import CATEGORY_TABLES, category_table

LEVEL = ScaffoldCamera.level(0.5, 0.0, 60.0)
# The corners of a cube of 1 m with its front at +z (glTF), and its six sides as triangles.
CORNERS = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE = torch.tensor([t for a, b, c, d in SIDES for t in ((a, b, c), (a, c, d))])


def solid(shape: str, size_m: tuple[float, float, float] = (1.0, 1.0, 1.0), **pose: float) -> ScaffoldSolid:
    return ScaffoldSolid(shape, size_m, Pose(**{"z_m": 4.0} | pose))


def cube(size_m: tuple[float, float, float] = (1.0, 1.0, 1.0), **pose: float) -> ScaffoldMesh:
    """The mesh of `solid("box", ...)`: width is x, height y, length z."""
    return prepare_mesh(CORNERS * torch.tensor(size_m), CUBE, 0.0, "height", Pose(**{"z_m": 4.0} | pose))


def view(
    *objects: ScaffoldObject, size: int = 33, camera: ScaffoldCamera = LEVEL, ground: float | None = None
) -> Composition:
    return compose(objects, camera, size, size, ground)


def tangent(size: int, index: int, fov_deg: float) -> float:
    """Tangent of the angle between the optical axis and the centre of pixel `index`."""
    return (2 * (index + 0.5) / size - 1) * math.tan(math.radians(fov_deg) / 2)


def silhouette(seen: torch.Tensor) -> tuple[int, int, int, int]:
    """First and last row, first and last column."""
    rows, columns = seen.nonzero(as_tuple=True)
    return rows.min().item(), rows.max().item(), columns.min().item(), columns.max().item()


def test_nearest_point_of_a_sphere_is_its_distance_minus_its_radius() -> None:
    scene = view(solid("sphere", z_m=6.0))
    assert scene.depth.depth[0, 16, 16].item() == pytest.approx(5.5, rel=1e-6)
    assert scene.depth.depth.min().item() == scene.depth.depth[0, 16, 16].item()


def test_sphere_off_centre_at_a_hand_computed_pixel() -> None:
    """|t d - c| = r with d = (a, 0, 1), c = (0, 0, 6), r = 0.5 is (1 + a^2) t^2 - 12 t + 35.75 = 0."""
    scene = view(solid("sphere", z_m=6.0), size=65)
    a = tangent(65, 36, 60.0)
    expected = (12 - math.sqrt(144 - 4 * (1 + a * a) * 35.75)) / (2 * (1 + a * a))
    assert scene.depth.depth[0, 32, 36].item() == pytest.approx(expected, rel=1e-6)


def test_a_box_face_has_one_depth_and_the_right_place() -> None:
    """Front 2 m wide and 1 m high at 3.5 m; its bottom is on the ground, 0.5 m below the camera, its left at x = 0."""
    size = 400
    scene = view(solid("box", (2.0, 1.0, 1.0), x_m=1.0, z_m=4.0), size=size)
    seen = scene.object_index == 0
    front = scene.depth.depth[0][seen & (scene.depth.depth[0] < 3.5001)]
    torch.testing.assert_close(front, torch.full_like(front, 3.5), rtol=1e-6, atol=0)
    per_m = size / (2 * 3.5 * math.tan(math.radians(30)))
    top, bottom, left, right = silhouette(seen & (scene.depth.depth[0] < 3.5001))
    assert (top, bottom + 1) == pytest.approx((size / 2 - 0.5 * per_m, size / 2 + 0.5 * per_m), abs=1)
    assert (left, right + 1) == pytest.approx((size / 2, min(size, size / 2 + 2 * per_m)), abs=1)


@pytest.mark.parametrize("heading_deg", [45.0, 225.0])
def test_a_turned_box_shows_its_edge(heading_deg: float) -> None:
    scene = view(solid("box", z_m=5.0, heading_deg=heading_deg))
    assert scene.depth.depth[0, 16, 16].item() == pytest.approx(5.0 - math.sqrt(0.5), rel=1e-6)


def test_length_runs_along_the_front_and_turns_with_the_heading() -> None:
    """2 m wide, 1 m long: ahead the surface is 0.5 m nearer than the centre, turned by 90 degrees 1 m."""
    for heading_deg, expected in ((0.0, 3.5), (90.0, 3.0), (180.0, 3.5), (270.0, 3.0)):
        scene = view(solid("box", (2.0, 1.0, 1.0), heading_deg=heading_deg))
        assert scene.depth.depth[0, 16, 16].item() == pytest.approx(expected, rel=1e-6), heading_deg


def test_cylinder_side_and_top() -> None:
    """Radius 0.5 at 4 m: 3.5 m at the middle. From 2.5 m, looking down 90 degrees, its top is 1.5 m away and round."""
    assert view(solid("cylinder")).depth.depth[0, 16, 16].item() == pytest.approx(3.5, rel=1e-6)
    size = 301
    above = view(solid("cylinder", z_m=0.0), size=size, camera=ScaffoldCamera.level(2.5, 90.0, 90.0))
    depth = above.depth.depth[0]
    assert depth[150, 150].item() == pytest.approx(1.5, rel=1e-6)
    top = (depth < 1.5001).sum().item()
    assert top == pytest.approx(math.pi * (0.5 / 1.5 * size / 2) ** 2, rel=0.01)


def test_ground_depth_of_every_row_and_the_horizon() -> None:
    pitch_deg, height_m, fov_deg, rows = 10.0, 1.5, 50.0, 64
    scene = view(size=rows, camera=ScaffoldCamera.level(height_m, pitch_deg, fov_deg), ground=80.0)
    for row in range(rows):
        pitch = math.radians(pitch_deg)
        drop = tangent(rows, row, fov_deg) * math.cos(pitch) + math.sin(pitch)
        expected = height_m / drop if drop > 0 and height_m / drop <= 80.0 else math.inf
        assert scene.depth.depth[0, row, 3].item() == pytest.approx(expected, rel=1e-6)
        assert scene.object_index[row, 3].item() == (SKY_INDEX if math.isinf(expected) else GROUND_INDEX)


@pytest.mark.parametrize("shape", SHAPES)
def test_same_depth_as_the_worlds_renderer(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second implementation, in float32. Its sizes are (length, width, height)."""
    whole = Part(SHAPES[shape], "body", (-0.5, 0.5), (0.0, 1.0), (-0.5, 0.5))
    monkeypatch.setitem(CATEGORY_TABLES, shape, category_table([whole]))
    camera = Camera(1.4, 8.0, 55.0)
    theirs = Scene(camera, (SceneObject(shape, "red", (0.6, 3.0), 30.0, (1.2, 0.7, 0.9)),), "tiles", "clear", 0, 60)
    image = render([theirs], 96, 64)
    thing = solid(shape, (0.7, 0.9, 1.2), x_m=0.6, z_m=3.0, heading_deg=30.0)
    mine = compose((thing,), ScaffoldCamera.level(camera.height_m, camera.pitch_deg, camera.fov_y_deg), 96, 64)
    same = mine.object_index == image.object_index[0]
    assert (~same).sum() <= 2 and (mine.object_index == 0).sum() > 100
    torch.testing.assert_close(mine.depth.depth[0][same], image.depth_m[0][same], rtol=1e-4, atol=0)


TILTED = {"heading_deg": 25.0, "pitch_deg": 35.0, "roll_deg": -15.0}


@pytest.mark.parametrize("shape", ["box", "sphere", "cylinder"])
@pytest.mark.parametrize("attitude", [{}, TILTED], ids=["upright", "tilted"])
def test_the_lowest_point_is_at_the_elevation(shape: str, attitude: dict[str, float]) -> None:
    """By brute force over the surface, which the canonical solids inscribe."""
    thing = solid(shape, (0.6, 1.5, 2.2), y_m=0.3, **attitude)
    matrix, centre = thing.placement()
    angle = np.linspace(0, 2 * np.pi, 721)
    if shape == "box":
        surface = CORNERS.numpy()
    elif shape == "cylinder":
        surface = np.concatenate(
            [np.stack([np.cos(angle) / 2, 0 * angle + y, np.sin(angle) / 2], 1) for y in (-0.5, 0.5)]
        )
    else:
        a, b = np.meshgrid(angle, angle[:361])
        surface = np.stack([np.sin(b) * np.cos(a), np.cos(b), np.sin(b) * np.sin(a)], -1).reshape(-1, 3) / 2
    world = surface @ matrix.T + centre
    assert -world[:, 1].max() == pytest.approx(0.3, abs=1e-4)


def test_positive_pitch_tips_the_front_down_and_roll_leans_to_the_objects_right() -> None:
    rotation = Pose(pitch_deg=30.0).rotation()
    assert rotation[:, 2] == pytest.approx([0.0, 0.5, -math.cos(math.radians(30))])  # front: nearer and lower
    rotation = Pose(roll_deg=30.0).rotation()
    # Heading 0 looks at the camera: its right is image left, and its up axis leans there.
    assert rotation[:, 1] == pytest.approx([-0.5, -math.cos(math.radians(30)), 0.0])
    assert Pose(heading_deg=90.0).rotation()[:, 2] == pytest.approx([1.0, 0.0, 0.0])


@pytest.mark.parametrize("attitude", [{}, TILTED, {"heading_deg": 300.0, "roll_deg": 80.0}])
def test_a_mesh_cube_agrees_with_the_analytic_box(attitude: dict[str, float]) -> None:
    camera = ScaffoldCamera.level(1.3, 12.0, 50.0)
    pose = {"x_m": -0.4, "y_m": 0.2, "z_m": 2.5} | attitude
    analytic = view(solid("box", (0.8, 1.2, 0.5), **pose), size=257, camera=camera)
    mesh = view(cube((0.8, 1.2, 0.5), **pose), size=257, camera=camera)
    both = (analytic.object_index == 0) & (mesh.object_index == 0)
    assert both.sum() > 3000
    # A pixel centre on the silhouette may fall to either side.
    assert (analytic.object_index != mesh.object_index).sum() <= 2
    error = (mesh.depth.depth[0] / analytic.depth.depth[0] - 1).abs()[both]
    assert error.max() < 1e-6
    # The same normals, but for pixels whose mesh face is another one at an edge.
    assert (mesh.picture - analytic.picture).abs()[both].quantile(0.99) < 1e-3


@pytest.mark.parametrize(
    "make", [lambda: solid("box", (4.0, 4.0, 4.0), z_m=0.0), lambda: cube((4.0, 4.0, 4.0), z_m=0.0)]
)
def test_from_inside_the_far_sides_are_seen(make: Callable[[], ScaffoldObject]) -> None:
    scene = view(make(), size=65)
    assert (scene.object_index == 0).all()
    assert scene.depth.depth[0, 32, 32].item() == pytest.approx(2.0, rel=1e-6)
    analytic = view(solid("box", (4.0, 4.0, 4.0), z_m=0.0), size=65)
    torch.testing.assert_close(scene.depth.depth, analytic.depth.depth, rtol=1e-6, atol=0)


def test_a_solid_behind_the_camera_is_not_seen() -> None:
    for thing in (solid("box", z_m=-4.0), solid("sphere", z_m=-4.0), cube(z_m=-4.0)):
        assert (view(thing).object_index == SKY_INDEX).all()


def test_nearer_objects_hide_farther_ones_in_either_order() -> None:
    near, far = solid("sphere", z_m=3.0), cube((2.0, 2.0, 1.0), z_m=6.0)
    one, other = view(near, far), view(far, near)
    torch.testing.assert_close(one.depth.depth, other.depth.depth, rtol=0, atol=0)
    assert one.object_index[16, 16] == 0 and other.object_index[16, 16] == 1
    assert (one.masks(2) == other.masks(2).flip(0)).all()
    assert (one.masks(2).sum(dim=(1, 2)) > 0).all()


def test_confidence_of_objects_ground_and_background() -> None:
    scene = compose((solid("box"),), ScaffoldCamera.level(1.5, 5.0, 60.0), 40, 30, 50.0, 0.25, 0.0)
    expected = {0: 1.0, GROUND_INDEX: 0.25, SKY_INDEX: 0.0}
    for index, confidence in expected.items():
        here = scene.depth.confidence[0][scene.object_index == index]
        assert here.numel() and (here == confidence).all()
    assert (scene.depth.valid[0] == (scene.object_index != SKY_INDEX)).all()
    assert scene.depth.fov_y_deg.tolist() == [60.0]


def test_nothing_at_all_is_an_empty_view_and_one_empty_mask() -> None:
    scene = view()
    assert (scene.object_index == SKY_INDEX).all() and scene.depth.depth.isinf().all()
    assert scene.masks(0).shape == (1, 33, 33) and not scene.masks(0).any()


def test_a_camera_in_the_ground_does_not_see_it_and_one_below_does() -> None:
    assert (view(camera=ScaffoldCamera.level(0.0, 5.0, 60.0), ground=100.0).object_index == SKY_INDEX).all()
    below = ScaffoldCamera.look_at((0, -1, 0), (0, 0, -1), 60.0)
    assert (view(camera=below, ground=100.0).object_index[0] == GROUND_INDEX).all()


def test_the_picture_shows_objects_ground_and_sky_apart() -> None:
    scene = view(
        solid("sphere", x_m=-0.8), solid("box", x_m=0.8), camera=ScaffoldCamera.level(1.5, 10, 60), ground=50.0
    )
    assert scene.picture.shape == (33, 33, 3) and scene.picture.min() >= 0 and scene.picture.max() <= 1
    colors = [scene.picture[scene.object_index == index].mean(dim=0) for index in (0, 1, GROUND_INDEX, SKY_INDEX)]
    assert all((a - b).norm() > 0.1 for k, a in enumerate(colors) for b in colors[:k])


def test_progress_is_told_and_may_cancel() -> None:
    class Cancelled(BaseException):
        pass

    told: list[tuple[int, int]] = []
    compose((solid("box"), cube()), LEVEL, 16, 16, on_progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {14}  # a box, 12 faces and the ground
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] == 14
    compose((), LEVEL, 16, 16, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1, 1)

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    for thing in (solid("box"), cube()):
        with pytest.raises(Cancelled):
            compose((thing,), LEVEL, 16, 16, on_progress=cancel)


def test_objects_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        solid("box").shape = "sphere"
    with pytest.raises(FrozenInstanceError):
        cube().pose = Pose()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: solid("torus"), "choose one of box.*no shape 'torus'"),
        (lambda: solid("box", (1.0, 0.0, 1.0)), "positive metres"),
        (lambda: solid("box", (1.0, math.nan, 1.0)), "positive metres"),
        (lambda: Pose(x_m=math.inf), "finite number for x_m"),
        (lambda: ScaffoldCamera.level(1.0, 0.0, 180.0), "between 0 and 180"),
        (lambda: ScaffoldCamera.level(math.nan, 0.0, 50.0), "not finite"),
        (lambda: ScaffoldCamera.look_at((1, 2, 3), (1, 2, 3), 50.0), "one point"),
        (lambda: ScaffoldCamera.look_at((1, math.nan, 3), (1, 2, 3), 50.0), "not finite"),
        (lambda: ScaffoldCamera.from_quaternion((0, 0, 0), (0, 0, 0, 0), 50.0), "zero or not finite"),
        (lambda: compose((), LEVEL, 0, 16), "positive"),
    ],
)
def test_bad_values_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
