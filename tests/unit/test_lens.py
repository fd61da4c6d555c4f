"""Focal lengths and distances along rays, against published tables and worked cases."""

from __future__ import annotations

import math

import pytest
import torch

from sf_model.depth.lens import depth_of_rays, fov_y_of_focal_mm, stated_fov_y
from sf_model.depth.metric_depth import MetricDepth


# Published vertical fields of view of full-frame lenses, in landscape format (24 x 36 mm).
@pytest.mark.parametrize("focal_mm, degrees", [(14, 81.2), (24, 53.1), (35, 37.8), (50, 27.0), (85, 16.1), (200, 6.87)])
def test_lenses_of_a_full_frame_camera(focal_mm: float, degrees: float) -> None:
    assert fov_y_of_focal_mm(focal_mm, 2000, 3000) == pytest.approx(degrees, abs=0.05)


def test_the_sensors_longer_side_is_the_pictures() -> None:
    """Blender's default camera: 50 mm, 36 mm, and 39.6 degrees across the longer side."""
    for height, width in ((1920, 1080), (64, 64), (720, 480)):
        assert fov_y_of_focal_mm(50, height, width) == pytest.approx(39.5978, abs=1e-3)
    wide = fov_y_of_focal_mm(50, 1080, 1920)
    assert math.tan(math.radians(wide / 2)) == pytest.approx(18 / 50 * 1080 / 1920)


def test_a_focal_length_takes_the_place_of_the_field_of_view() -> None:
    assert stated_fov_y(40, 0, 0, 480, 640) == 40
    # Kinect's 525 pixels at 640x480
    assert stated_fov_y(40, 0, 525, 480, 640) == pytest.approx(49.13, abs=0.01)
    assert stated_fov_y(0, 36, 0, 64, 64) == pytest.approx(2 * math.degrees(math.atan(0.5)))
    with pytest.raises(ValueError, match="set focal_length_mm or focal_length_px to 0: .* 50 mm and 525 pixels"):
        stated_fov_y(40, 50, 525, 480, 640)
    with pytest.raises(ValueError, match="to 0 or more"):
        stated_fov_y(40, -1, 0, 480, 640)


def test_distances_to_a_flat_wall_are_its_depth() -> None:
    """A wall at 4 m seen by 90 degrees: its corner pixels are nearly sqrt(3) times as far away along their rays."""
    wall = MetricDepth(torch.full((1, 40, 40), 4.0), torch.ones(1, 40, 40), torch.tensor([90.0]))
    distance = wall.points().norm(dim=-1)
    assert distance[0, 0, 0] > 6.8
    torch.testing.assert_close(depth_of_rays(distance, wall.fov_y_deg), wall.depth, rtol=1e-6, atol=0)


def test_every_picture_has_its_own_camera_and_the_sky_stays() -> None:
    depth = 1 + torch.rand(2, 9, 15, generator=torch.Generator().manual_seed(0))
    depth[:, 0, 0] = torch.inf
    scene = MetricDepth(depth, torch.ones_like(depth), torch.tensor([20.0, 110.0]))
    distance = scene.points().norm(dim=-1)
    torch.testing.assert_close(depth_of_rays(distance, scene.fov_y_deg), depth, rtol=1e-5, atol=0)
    assert torch.isinf(depth_of_rays(distance, scene.fov_y_deg)[:, 0, 0]).all()
