"""Rendered depths, sizes and shadows against values computed by hand."""

import math

import pytest
import torch

from sf_model.world import GROUND_INDEX, SKY_INDEX, Camera, Scene, SceneObject, render
from sf_model.world.categories import Part
from sf_model.world.packing import CATEGORY_TABLES, category_table

FULL = ((-0.5, 0.5), (0.0, 1.0), (-0.5, 0.5))


@pytest.fixture(autouse=True)
def _solids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Categories of one primitive each, named after its shape; "ridge" is a prism whose ridge runs across."""
    for shape in ("box", "cylinder", "ellipsoid", "cone"):
        monkeypatch.setitem(CATEGORY_TABLES, shape, category_table([Part(shape, "body", *FULL)]))
    monkeypatch.setitem(CATEGORY_TABLES, "prism", category_table([Part("prism", "body", *FULL, axis="a")]))
    monkeypatch.setitem(CATEGORY_TABLES, "ridge", category_table([Part("prism", "body", *FULL, axis="c")]))


def solid(
    shape: str,
    z: float,
    size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    x: float = 0.0,
    heading_deg: float = 0.0,
    color: str = "red",
) -> SceneObject:
    return SceneObject(shape, color, (x, z), heading_deg, size)


def scene(*objects: SceneObject, camera: Camera | None = None, sun: tuple[float, float] = (0.0, 60.0)) -> Scene:
    return Scene(camera or Camera(0.5, 0.0, 60.0), objects, "tiles", "clear", *sun)


def pixel_tan(size: int, index: int, fov_deg: float) -> float:
    """Tangent of the angle between the optical axis and the centre of pixel `index`."""
    return (2 * (index + 0.5) / size - 1) * math.tan(math.radians(fov_deg) / 2)


def test_nearest_point_of_a_sphere_is_its_centre_distance_minus_its_radius() -> None:
    image = render([scene(solid("ellipsoid", 6.0))], 33, 33)
    assert image.depth_m[0, 16, 16].item() == pytest.approx(5.5, rel=1e-6)
    ball = image.depth_m[0][image.object_index[0] == 0]
    assert ball.min().item() == pytest.approx(5.5, rel=1e-6)


def test_sphere_off_centre_at_a_hand_computed_pixel() -> None:
    """|t d - c| = r with d = (a, 0, 1), c = (0, 0, 6), r = 0.5 is (1 + a^2) t^2 - 12 t + 35.75 = 0."""
    image = render([scene(solid("ellipsoid", 6.0))], 65, 65)
    a = pixel_tan(65, 36, 60.0)
    expected = (12 - math.sqrt(144 - 4 * (1 + a * a) * 35.75)) / (2 * (1 + a * a))
    assert image.depth_m[0, 32, 36].item() == pytest.approx(expected, rel=1e-5)


def test_box_face_has_constant_depth_at_any_position() -> None:
    image = render([scene(solid("box", 4.0, (2.0, 1.0, 1.0)))], 33, 33)
    seen = image.depth_m[0][image.object_index[0] == 0]
    assert seen.numel() > 30
    torch.testing.assert_close(seen, torch.full_like(seen, 3.0), rtol=1e-6, atol=0)


def test_length_is_along_the_front_and_width_across() -> None:
    turned = render([scene(solid("box", 4.0, (2.0, 1.0, 1.0), heading_deg=90.0))], 33, 33)
    assert turned.depth_m[0, 16, 16].item() == pytest.approx(3.5, rel=1e-6)


@pytest.mark.parametrize("heading_deg", [45.0, 225.0])
def test_box_edge_towards_the_camera(heading_deg: float) -> None:
    image = render([scene(solid("box", 5.0, heading_deg=heading_deg))], 33, 33)
    assert image.depth_m[0, 16, 16].item() == pytest.approx(5.0 - math.sqrt(0.5), rel=1e-5)


def test_ground_depth_of_every_row_and_the_horizon() -> None:
    pitch_deg, height_m, fov_deg, rows = 10.0, 1.5, 50.0, 64
    image = render([scene(camera=Camera(height_m, pitch_deg, fov_deg))], 8, rows)
    horizon = rows / 2 * (1 - math.tan(math.radians(pitch_deg)) / math.tan(math.radians(fov_deg / 2)))
    for row in range(rows):
        tangent = pixel_tan(rows, row, fov_deg)
        drop = tangent * math.cos(math.radians(pitch_deg)) + math.sin(math.radians(pitch_deg))
        expected = height_m / drop if drop > 0 and height_m / drop <= 100.0 else math.inf
        assert image.depth_m[0, row, 3].item() == pytest.approx(expected, rel=1e-5)
        index = image.object_index[0, row, 3].item()
        assert index == (SKY_INDEX if math.isinf(expected) else GROUND_INDEX)
        assert row + 0.5 > horizon or math.isinf(expected)


def test_projected_width_and_height_of_a_known_box() -> None:
    """Front face 2 m wide and 1 m high at 5 m depth, fov 60: the image is 2 * 5 * tan(30) m high there."""
    size = 200
    image = render([scene(solid("box", 5.5, (1.0, 2.0, 1.0)))], size, size)
    rows, columns = (image.object_index[0] == 0).nonzero(as_tuple=True)
    pixels_per_m = size / (2 * 5.0 * math.tan(math.radians(30.0)))
    assert (columns.max() - columns.min() + 1).item() == pytest.approx(2.0 * pixels_per_m, abs=1.0)
    assert (rows.max() - rows.min() + 1).item() == pytest.approx(1.0 * pixels_per_m, abs=1.0)


def test_non_square_images_have_square_pixels() -> None:
    image = render([scene(solid("box", 5.5, (1.0, 1.0, 1.0)))], 120, 60)
    rows, columns = (image.object_index[0] == 0).nonzero(as_tuple=True)
    assert abs((columns.max() - columns.min()) - (rows.max() - rows.min())) <= 1
    assert image.rgb.shape == (1, 3, 60, 120) and image.depth_m.shape == (1, 60, 120)


def silhouette_width(shape: str, row_share: float, size: int = 201) -> float:
    """Width in metres, at the object's depth, of the silhouette of a 1 m solid at this share of its height."""
    fov_deg, z = 4.0, 30.0
    image = render([scene(solid(shape, z), camera=Camera(0.5, 0.0, fov_deg))], size, size)
    scale = 2 * z * math.tan(math.radians(fov_deg / 2)) / size
    row = round((size - 1) / 2 + (0.5 - row_share) / scale)
    return int((image.object_index[0, row] == 0).sum()) * scale


@pytest.mark.parametrize(
    ("shape", "row_share", "width_m"),
    [
        ("cylinder", 0.25, 1.0),
        ("cylinder", 0.9, 1.0),
        ("cone", 0.25, 0.75),
        ("cone", 0.75, 0.25),
        ("ellipsoid", 0.5, 1.0),
        ("ellipsoid", 0.25, math.sqrt(0.75)),
        ("prism", 0.25, 0.75),
        ("prism", 0.75, 0.25),
        ("ridge", 0.75, 1.0),
    ],
)
def test_silhouettes(shape: str, row_share: float, width_m: float) -> None:
    # 0.02 m is 2 pixels; the nearest half of a 1 m solid at 30 m appears up to 1.7% larger.
    assert silhouette_width(shape, row_share) == pytest.approx(width_m, abs=0.035)


def test_cylinder_and_cone_depth_on_the_axis_row() -> None:
    image = render([scene(solid("cylinder", 6.0)), scene(solid("cone", 6.0))], 33, 33)
    assert image.depth_m[0, 16, 16].item() == pytest.approx(5.5, rel=1e-5)
    assert image.depth_m[1, 16, 16].item() == pytest.approx(5.75, rel=1e-5)


def shadow_mask(objects: tuple[SceneObject, ...], sun: tuple[float, float], size: int = 96) -> torch.Tensor:
    camera = Camera(4.0, 35.0, 60.0)
    image = render([scene(*objects, camera=camera, sun=sun), scene(camera=camera, sun=sun)], size, size)
    darker = (image.rgb[0] < image.rgb[1] - 1e-3).all(dim=0)
    return darker & (image.object_index[0] == GROUND_INDEX)


@pytest.mark.parametrize(("azimuth_deg", "side"), [(90.0, "left"), (270.0, "right"), (0.0, "away"), (180.0, "near")])
def test_shadow_falls_away_from_the_sun(azimuth_deg: float, side: str) -> None:
    """Azimuth 90 puts the sun on the right, so the shadow lies on the left."""
    rows, columns = shadow_mask((solid("box", 6.0),), (azimuth_deg, 18.0)).nonzero(as_tuple=True)
    assert len(rows) > 20
    centre = 48.0
    if side in ("left", "right"):
        assert ((columns.double().mean() < centre) == (side == "left")).item()
    else:
        image = render([scene(solid("box", 6.0), camera=Camera(4.0, 35.0, 60.0))], 96, 96)
        base = (image.object_index[0] == 0).nonzero()[:, 0].max()
        assert ((rows.max() > base + 3) == (side == "near")).item()


def test_shadow_length_follows_the_elevation() -> None:
    """A box 1 m high under a sun at elevation e from the right reaches 1 / tan(e) m beyond its left face."""
    camera = Camera(30.0, 89.0, 10.0)
    size, elevation_deg = 201, 40.0
    z = 30.0 * math.tan(math.radians(1.0))
    sun = (90.0, elevation_deg)
    image = render([scene(solid("box", z), camera=camera, sun=sun), scene(camera=camera, sun=sun)], size, size)
    dark = (image.rgb[0] < image.rgb[1] - 1e-3).all(dim=0) & (image.object_index[0] == GROUND_INDEX)
    columns = dark[100].nonzero().squeeze(1)
    x_m = (columns.min().item() - 100) * image.depth_m[1, 100, 100].item() * 2 * math.tan(math.radians(5.0)) / size
    assert x_m == pytest.approx(-0.5 - 1 / math.tan(math.radians(elevation_deg)), abs=0.06)


def test_nearer_object_hides_the_farther_one() -> None:
    near, far = solid("box", 4.0, (0.5, 0.5, 0.9), color="red"), solid("box", 8.0, (0.5, 2.0, 1.0), color="blue")
    for objects in ((near, far), (far, near)):
        image = render([scene(*objects)], 33, 33)
        assert image.object_index[0, 16, 16].item() == objects.index(near)
        assert image.depth_m[0, 16, 16].item() == pytest.approx(3.75, rel=1e-6)
        assert (image.object_index[0] == objects.index(far)).any()


def test_object_across_the_near_plane_is_still_correct() -> None:
    """A wall from behind the camera to 4 m ahead, its face 0.5 m to the right: depth = 0.5 / tangent."""
    wall = solid("box", 0.0, (8.0, 1.0, 3.0), x=1.0)
    image = render([scene(wall)], 33, 33)
    for column in (22, 28, 32):
        assert image.object_index[0, 16, column].item() == 0
        assert image.depth_m[0, 16, column].item() == pytest.approx(0.5 / pixel_tan(33, column, 60.0), rel=1e-5)
    assert image.object_index[0, 16, 10].item() != 0


def test_object_behind_the_camera_is_not_seen() -> None:
    image = render([scene(solid("ellipsoid", -5.0))], 16, 16)
    assert (image.object_index != 0).all()


def test_camera_inside_a_solid_sees_its_far_side() -> None:
    image = render([scene(solid("ellipsoid", 0.0, (4.0, 4.0, 1.0)))], 9, 9)
    assert image.depth_m[0, 4, 4].item() == pytest.approx(2.0, rel=1e-5)
