"""The triangle rasteriser against trimesh's ray casting, and where triangles are cut, shared, thin or many."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from sf_model.rendering.zbuffer import NO_PRIMITIVE, pack, unpack
from sf_model.scaffold import Pose, ScaffoldCamera, compose, prepare_mesh, rasterize
from sf_model.scaffold.camera import View

SQUARE = View(64, 64, 64.0)


def draw(vertices: torch.Tensor, faces: torch.Tensor, view: View = SQUARE) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and face (H, W) of a mesh in camera axes; NO_PRIMITIVE where there is none."""
    keys = pack(torch.full((view.height * view.width,), torch.inf), NO_PRIMITIVE)
    rasterize.rasterize(keys, view, vertices.double(), faces, 0)
    depth, face = unpack(keys)
    return depth.view(view.height, view.width), face.view(view.height, view.width)


def rays(view: View) -> np.ndarray:
    u = (np.arange(view.width) + 0.5 - view.width / 2) / view.focal_px
    v = (np.arange(view.height) + 0.5 - view.height / 2) / view.focal_px
    return np.stack([*np.broadcast_arrays(u, v[:, None]), np.ones((view.height, view.width))], axis=-1).reshape(-1, 3)


def cast(vertices: torch.Tensor, faces: torch.Tensor, view: View) -> torch.Tensor:
    """Depth (H, W) by trimesh: the nearest hit in front of the near plane."""
    mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    directions = rays(view)
    place, ray, _ = mesh.ray.intersects_location(np.zeros_like(directions), directions, multiple_hits=True)
    depth = np.full(len(directions), np.inf)
    seen = place[:, 2] >= 0.01
    np.minimum.at(depth, ray[seen], place[seen, 2])
    return torch.from_numpy(depth).float().view(view.height, view.width)


@pytest.mark.parametrize("large", [rasterize.LARGE, 8], ids=["small", "large"])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_triangles_agree_with_trimesh(seed: int, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all sizes, some behind the camera or cut by the near plane, by either of the two ways of drawing."""
    monkeypatch.setattr(rasterize, "LARGE", large)
    monkeypatch.setattr(rasterize, "PAIRS", 1000)
    monkeypatch.setattr(rasterize, "FACES", 37)
    generator = torch.Generator().manual_seed(seed)
    size = 10 ** (torch.rand(200, 1, 1, generator=generator) * 2.5 - 2)
    middle = torch.randn(200, 1, 3, generator=generator) * torch.tensor([1.5, 1.5, 2.0]) + torch.tensor([0, 0, 2.0])
    vertices = (middle + size * torch.randn(200, 3, 3, generator=generator)).reshape(-1, 3)
    faces = torch.arange(600).view(-1, 3)
    view = View(61, 47, 50.0)
    depth, _ = draw(vertices, faces, view)
    expected = cast(vertices, faces, view)
    agree = torch.isclose(depth, expected, rtol=1e-5, atol=0)
    assert torch.isfinite(expected).double().mean() > 0.5
    assert (~agree).sum() <= 2  # pixel centres on an edge, which either may count as outside


def test_a_smooth_mesh_agrees_with_trimesh() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
    vertices = torch.from_numpy(np.asarray(mesh.vertices) + [0.3, -0.2, 2.5])
    faces = torch.from_numpy(np.asarray(mesh.faces)).long()
    depth, face = draw(vertices, faces)
    expected = cast(vertices, faces, SQUARE)
    agree = torch.isclose(depth, expected, rtol=1e-6, atol=0)
    assert (~agree).sum() <= 2 and torch.isfinite(expected).sum() > 1000
    # The sphere's near side is nearer than its centre: the face that is drawn is the visible one.
    assert (vertices[faces[face[torch.isfinite(depth)]]].mean(dim=1)[:, 2] < 2.5).all()


def test_neighbours_leave_no_gap_and_large_and_small_pieces_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane cut into random triangles that share edges, some of which run through pixel centres."""
    monkeypatch.setattr(rasterize, "LARGE", 30)
    steps = torch.cat([torch.linspace(-1.5, 1.5, 13), torch.tensor([-0.125, 0.0078125, 0.5])]).sort().values
    x, y = torch.meshgrid(steps, steps, indexing="ij")
    x = x + 0.4 * y  # slanted edges
    vertices = torch.stack([x, y, 2.0 + 0.3 * x + 0.2 * y], dim=-1).reshape(-1, 3)
    n = len(steps)
    corner = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).reshape(-1)
    faces = torch.cat(
        [torch.stack([corner, corner + 1, corner + n], 1), torch.stack([corner + n + 1, corner + n, corner + 1], 1)]
    )
    depth, _ = draw(vertices, faces)
    u, v, _ = torch.from_numpy(rays(SQUARE)).T.view(3, 64, 64)
    expected = 2.0 / (1 - 0.3 * u - 0.2 * v)  # z = 2 + 0.3 z u + 0.2 z v
    middle = (u.abs() < 0.4) & (v.abs() < 0.4)
    torch.testing.assert_close(depth[middle], expected[middle].float(), rtol=1e-6, atol=0)


def test_a_floor_under_the_camera_is_cut_at_the_near_plane() -> None:
    """Two triangles from behind the camera to far ahead, 1 m below: every row below the horizon has depth 1 / v."""
    vertices = torch.tensor([[-900.0, 1, -50], [900, 1, -50], [900, 1, 5000], [-900, 1, 5000]])
    depth, _ = draw(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    v = (torch.arange(64).double() + 0.5 - 32) / 64
    assert depth[:32].isinf().all()
    torch.testing.assert_close(depth[32:], (1 / v[32:]).float()[:, None].expand(32, 64), rtol=1e-6, atol=0)


def test_a_pixel_at_the_centroid_of_a_triangle_is_drawn() -> None:
    """All three edge functions are equal there."""
    view = View(1, 1, 1.0)
    depth, _ = draw(torch.tensor([[-1.0, -1, 2], [1, -1, 2], [0, 2, 2]]), torch.tensor([[0, 1, 2]]), view)
    assert depth.item() == 2.0


def test_both_windings_are_seen_and_the_first_of_equal_faces_wins() -> None:
    vertices = torch.tensor([[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 1]])
    one, other = (draw(vertices, faces[k : k + 1])[0] for k in (0, 1))
    assert torch.isfinite(one).any() and (one == other).all()
    assert set(draw(vertices, faces)[1].unique().tolist()) == {0, NO_PRIMITIVE}


def test_faces_without_area_and_faces_edge_on_show_nothing() -> None:
    point = torch.tensor([[0.1, 0.1, 2.0], [0.1, 0.1, 2.0], [0.1, 0.1, 2.0]])
    line = torch.tensor([[-1.0, 0, 2], [0, 0, 2], [1, 0, 2]])
    edge_on = torch.tensor([[0.0, 0, 2], [0, 0, 3], [0, 0, 4]])
    through_the_eye = torch.tensor([[-1.0, 0, 2], [1, 0, 2], [0, 0, 5]])
    view = View(33, 33, 33.0)  # pixel centres at u = v = 0
    for vertices in (point, line, edge_on, through_the_eye):
        assert draw(vertices, torch.tensor([[0, 1, 2]]), view)[0].isinf().all()


def test_slivers_stay_in_their_range_of_depths() -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(4000, 1, 3, generator=generator) * 0.5 + torch.tensor([0, 0, 3.0])
    along = torch.randn(4000, 1, 3, generator=generator) * torch.tensor([[0.0], [1.0], [2.0]])
    vertices = (start + along).double() + 1e-13 * torch.randn(4000, 3, 3, generator=generator).double()
    depth, face = draw(vertices.reshape(-1, 3), torch.arange(12000).view(-1, 3))
    seen = torch.isfinite(depth)
    z = vertices[face[seen]][..., 2]
    assert (depth[seen] >= z.amin(dim=1).float()).all() and (depth[seen] <= z.amax(dim=1).float()).all()


def test_a_hole_is_seen_through() -> None:
    """A cube without its front shows its back, 1 m farther."""
    box = trimesh.creation.box()
    kept = torch.from_numpy(np.asarray(box.faces[np.asarray(box.face_normals)[:, 2] < 0.5])).long()
    mesh = prepare_mesh(torch.from_numpy(np.asarray(box.vertices)), kept, 0.0, "height", Pose(z_m=4.0))
    scene = compose((mesh,), ScaffoldCamera.level(0.5, 0.0, 60.0), 33, 33, None)
    assert scene.depth.depth[0, 16, 16].item() == pytest.approx(4.5, rel=1e-6)


def test_two_million_faces_in_bounded_memory() -> None:
    """A sphere of 2 million faces, by its formula; the pieces that are worked on at once do not grow with the mesh."""
    rows, columns = 1000, 1000
    latitude = torch.linspace(0, math.pi, rows + 1).unsqueeze(1)
    longitude = torch.linspace(0, 2 * math.pi, columns + 1)[:-1]
    x, z = latitude.sin() * longitude.cos(), latitude.sin() * longitude.sin()
    vertices = torch.stack([x, latitude.cos().expand(-1, columns), z], dim=-1).reshape(-1, 3)
    corner = (torch.arange(rows)[:, None] * columns + torch.arange(columns)).reshape(-1)
    beside = corner - corner % columns + (corner + 1) % columns
    below = (
        torch.stack([corner, beside, corner + columns], 1),
        torch.stack([beside, beside + columns, corner + columns], 1),
    )
    mesh = prepare_mesh(vertices, torch.cat(below), 2.0, "height", Pose(z_m=4.0))
    assert len(mesh.faces) == 2_000_000
    sizes: list[int] = []
    original = rasterize._hits

    def spy(table: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(u))
        return original(table, u, v)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasterize, "_hits", spy)
        scene = compose((mesh,), ScaffoldCamera.level(1.0, 0.0, 50.0), 512, 512, None)
    assert 0 < max(sizes) <= rasterize.PAIRS
    size, fov = 512, math.radians(50)
    u = (2 * (torch.arange(size).double() + 0.5) / size - 1) * math.tan(fov / 2)
    square = 1 + u**2 + (u**2).unsqueeze(1)
    # (1 + u^2 + v^2) t^2 - 8 t + 15 = 0: the sphere of radius 1 around (0, 0, 4).
    slack = 16 - 15 * square
    inside = slack > 0.05
    expected = ((4 - slack.clamp(min=0).sqrt()) / square)[inside]
    assert (scene.object_index[inside] == 0).all()
    torch.testing.assert_close(scene.depth.depth[0][inside], expected.float(), rtol=1e-4, atol=0)
