"""Cameras of a y-up 3D viewer: where they look, by hand and by the viewer's own projection."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sf_model.scaffold import Pose, ScaffoldCamera, ScaffoldSolid, compose


def test_the_level_camera_is_the_viewers_camera_that_looks_the_same_way() -> None:
    """1.6 m up, pitched 20 degrees down, towards -z: the viewer's forward is (0, -sin, -cos)."""
    p = math.radians(20)
    ours = ScaffoldCamera.level(1.6, 20.0, 50.0)
    viewers = ScaffoldCamera.look_at((0, 1.6, 0), (0, 1.6 - math.sin(p), -math.cos(p)), 50.0)
    np.testing.assert_allclose(viewers.position_m, ours.position_m, atol=1e-12)
    np.testing.assert_allclose(viewers.rotation, ours.rotation, atol=1e-12)
    # The same by a quaternion: a rotation by -20 degrees about x.
    turned = ScaffoldCamera.from_quaternion((0, 1.6, 0), (-math.sin(p / 2), 0, 0, math.cos(p / 2)), 50.0)
    np.testing.assert_allclose(turned.rotation, ours.rotation, atol=1e-12)


def test_quaternion_and_target_agree_on_an_oblique_view() -> None:
    """Orbit by yaw 35, pitch 30: the camera's rotation is yaw about y, then -pitch about x."""
    yaw, pitch, distance = math.radians(35), math.radians(30), 4.0
    position = (
        distance * math.cos(pitch) * math.sin(yaw),
        distance * math.sin(pitch),
        distance * math.cos(pitch) * math.cos(yaw),
    )
    cy, sy, cp, sp = (f(a / 2) for a in (yaw, -pitch) for f in (math.cos, math.sin))
    quaternion = (cy * sp, sy * cp, -sy * sp, cy * cp)  # (0, sy, 0, cy) * (sp, 0, 0, cp)
    turned = ScaffoldCamera.from_quaternion(position, quaternion, 35.0)
    aimed = ScaffoldCamera.look_at(position, (0, 0, 0), 35.0)
    np.testing.assert_allclose(turned.rotation, aimed.rotation, atol=1e-12)
    assert np.linalg.det(aimed.rotation) == pytest.approx(1)


def test_straight_down_keeps_the_viewers_x_to_the_right() -> None:
    down = ScaffoldCamera.look_at((0, 5, 0), (0, 0, 0), 50.0)
    np.testing.assert_allclose(down.rotation[:, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(down.rotation[:, 2], [0, 1, 0], atol=1e-12)
    scene = compose((ScaffoldSolid("box", (1, 1, 1), Pose(z_m=0)),), down, 33, 33, None)
    assert scene.depth.depth[0, 16, 16].item() == pytest.approx(4.0, rel=1e-6)


def test_roll_turns_the_image_against_the_camera() -> None:
    """A camera rolled by 90 degrees counterclockwise, about its +z, has its right where up was."""
    half = math.sqrt(0.5)
    rolled = ScaffoldCamera.from_quaternion((0, 1, 0), (0, 0, half, half), 50.0)
    np.testing.assert_allclose(rolled.rotation[:, 0], [0, -1, 0], atol=1e-12)


def test_an_object_is_seen_where_the_viewer_projects_it() -> None:
    """The viewer's own arithmetic: view coordinates along its axes, then x / -z over the tangent."""
    position, target, fov, size = np.array([3.0, 2.0, 5.0]), np.array([0.5, 0.4, 0.0]), 40.0, 401
    place = np.array([-0.3, 0.0, 1.2])  # of the object's footprint in the viewer's world
    z = (position - target) / np.linalg.norm(position - target)
    x = np.cross([0, 1, 0], z) / np.linalg.norm(np.cross([0, 1, 0], z))
    y = np.cross(z, x)
    centre = place + [0, 0.05, 0] - position
    scale = math.tan(math.radians(fov) / 2)
    column = size / 2 * (1 + centre @ x / -(centre @ z) / scale)
    row = size / 2 * (1 - centre @ y / -(centre @ z) / scale)
    ball = ScaffoldSolid("sphere", (0.1, 0.1, 0.1), Pose(x_m=place[0], z_m=-place[2]))
    scene = compose((ball,), ScaffoldCamera.look_at(position, target, fov), size, size, None)
    rows, columns = (scene.object_index == 0).nonzero(as_tuple=True)
    assert rows.double().mean().item() + 0.5 == pytest.approx(row, abs=0.3)
    assert columns.double().mean().item() + 0.5 == pytest.approx(column, abs=0.3)
