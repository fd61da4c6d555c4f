"""Depth as a mesh and a point cloud: axes, metres, winding, silhouettes; the .ply against a reader written here."""

from __future__ import annotations

import math

import pytest
import torch

from sf_model.depth.mesh import DepthMesh, depth_to_mesh, depth_to_points, usable_pixels
from sf_model.depth.metric_depth import MetricDepth
from sf_model.files.ply import ply_bytes

FOV_Y_DEG = 60.0


def metric_depth(depth: torch.Tensor, confidence: torch.Tensor | None = None) -> MetricDepth:
    confidence = torch.ones_like(depth) if confidence is None else confidence
    return MetricDepth(depth[None], confidence[None], torch.tensor([FOV_Y_DEG]))


def mesh_of(depth: torch.Tensor, stride: int = 1, threshold: float = 0.05, **limits: float) -> DepthMesh:
    wrapped = metric_depth(depth)
    return depth_to_mesh(wrapped, usable_pixels(wrapped, stride, **limits), stride, threshold)


def floor_depth(size: int = 64, camera_height_m: float = 1.5) -> torch.Tensor:
    """(size, size): a level floor under a level camera; no surface above the horizon."""
    tangent = ((torch.arange(size) + 0.5) / size - 0.5) * 2 * math.tan(math.radians(FOV_Y_DEG) / 2)
    rows = torch.where(tangent > 0, camera_height_m / tangent.clamp(min=1e-6), torch.inf)
    return rows[:, None].expand(size, size).clone()


def normals(mesh: DepthMesh) -> torch.Tensor:
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return torch.cross(b - a, c - a, dim=-1)


def test_a_plane_at_2_m_is_at_minus_2_in_gltf_axes() -> None:
    mesh = mesh_of(torch.full((4, 6), 2.0))
    assert torch.equal(mesh.vertices[:, 2], torch.full((24,), -2.0))
    # Half the view's height at 2 m is 2 tan 30; the first pixel's middle lies 3/4 of that above the axis.
    half = 2 * math.tan(math.radians(30))
    torch.testing.assert_close(mesh.vertices[0], torch.tensor([-half * 1.5 * 5 / 6, half * 0.75, -2.0]))
    torch.testing.assert_close(mesh.uvs[0], torch.tensor([0.5 / 6, 0.5 / 4]))
    assert len(mesh.faces) == 2 * 3 * 5
    assert (normals(mesh)[:, 2] > 0).all()  # they face the camera


def test_stride_takes_every_nth_pixel_at_its_own_place() -> None:
    depth = torch.full((9, 9), 3.0)
    coarse, fine = mesh_of(depth, stride=4), mesh_of(depth)
    assert coarse.pixels.tolist() == [0, 4, 8, 36, 40, 44, 72, 76, 80]
    torch.testing.assert_close(coarse.vertices, fine.vertices[coarse.pixels])
    assert len(coarse.faces) == 8


def test_no_triangle_joins_an_object_and_what_is_behind() -> None:
    depth = torch.full((16, 16), 5.0)
    depth[4:12, 4:12] = 2.0
    mesh = mesh_of(depth)
    corners = mesh.vertices[mesh.faces][..., 2]
    assert (corners.max(-1).values == corners.min(-1).values).all()
    assert len(mesh.vertices) == 256  # the outline is cut along edges, no pixel is lost
    joined = mesh_of(depth, threshold=0.0)
    assert len(joined.faces) == 2 * 15 * 15


def test_a_floor_seen_at_a_low_angle_stays_whole() -> None:
    """Neighbouring rows near the horizon differ by up to 3 times in depth; the host's rule drops them."""
    depth = floor_depth()
    assert (depth[33, 0] / depth[32, 0]).item() == pytest.approx(1 / 3, rel=1e-4)
    mesh = mesh_of(depth)
    assert len(mesh.faces) == 2 * 31 * 63
    torch.testing.assert_close(mesh.vertices[:, 1], torch.full((32 * 64,), -1.5))


def test_a_box_on_the_floor_touches_it_where_it_stands_only() -> None:
    depth = floor_depth()
    depth[20:48, 20:40] = 5.0  # the floor below, in row 48, is at 5.04 m
    mesh = mesh_of(depth)
    z = mesh.vertices[mesh.faces][..., 2]
    of_the_box = (z == -5).sum(-1)
    spans = (z.amax(-1) - z.amin(-1))[(of_the_box > 0) & (of_the_box < 3)]
    assert len(spans) > 0
    assert spans.max() < 0.3  # one row of floor; what is behind the box is 0.5 m and more away


def test_limits_of_distance_and_confidence() -> None:
    depth = floor_depth()
    assert mesh_of(depth, max_depth_m=10.0).vertices[:, 2].min() >= -10
    confidence = torch.ones(64, 64)
    confidence[:, :32] = 0.2
    wrapped = metric_depth(depth, confidence)
    usable = usable_pixels(wrapped, confidence_threshold=0.5)
    assert usable.sum() == 32 * 32
    assert (depth_to_points(wrapped, usable)[:, 0] > 0).all()


@pytest.mark.parametrize("missing", range(4))
def test_a_square_with_one_corner_missing_keeps_a_triangle(missing: int) -> None:
    depth = torch.full((2, 2), 2.0)
    depth.view(-1)[missing] = torch.inf
    mesh = mesh_of(depth)
    assert mesh.pixels.tolist() == [pixel for pixel in range(4) if pixel != missing]
    assert len(mesh.faces) == 1
    assert normals(mesh)[0, 2] > 0


def test_nothing_usable_makes_an_empty_mesh() -> None:
    mesh = mesh_of(torch.full((4, 4), torch.inf))
    assert mesh.faces.shape == (0, 3) and mesh.vertices.shape == (0, 3)


def test_ply_says_what_it_holds() -> None:
    points = torch.tensor([[1.0, -2.0, -3.5], [0.0, 0.25, -1.0]])
    data = ply_bytes(points, torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.0, 0.0]]))
    header, body = data.split(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 2",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
    ]
    assert len(body) == 2 * (3 * 4 + 3)
    first = torch.frombuffer(bytearray(body[:12]), dtype=torch.float32)
    assert torch.equal(first, points[0])
    assert list(body[12:15]) == [0, 128, 255]
