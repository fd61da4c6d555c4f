"""The renderer against an independent float64 ray caster, fronts of the categories, determinism."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sf_model.world import CATEGORY_NAMES, GROUND_INDEX, SKY_INDEX, Camera, Scene, SceneObject, render, sample_scene
from sf_model.world.categories import CATEGORIES, Part
from sf_model.world.palette import BODY_COLORS, ROLE_COLORS, trim_color

Array = NDArray[np.float64]

# The solids as sublevel sets {f <= 0} of convex functions of canonical coordinates.
CONVEX: dict[str, Callable[[Array, Array, Array], Array]] = {
    "box": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 0.5,
    "cylinder": lambda x, y, z: np.maximum(np.hypot(x, z), abs(y)) - 0.5,
    "ellipsoid": lambda x, y, z: np.sqrt(x * x + y * y + z * z) - 0.5,
    "cone": lambda x, y, z: np.maximum(np.hypot(x, z) - 0.5 * (0.5 - y), -y - 0.5),
    "prism": lambda x, y, z: np.maximum(np.maximum(abs(x) - 0.5, -y - 0.5), abs(z) + 0.5 * y - 0.25),
}


def canonical(obj: SceneObject, part: Part, points: Array) -> tuple[Array, Array, Array]:
    """Canonical coordinates of world points (..., 3), from the documented conventions alone."""
    h = math.radians(obj.heading_deg)
    dx, dz = points[..., 0] - obj.position_m[0], points[..., 2] - obj.position_m[1]
    along = dx * math.sin(h) - dz * math.cos(h)
    right = -dx * math.cos(h) - dz * math.sin(h)
    raw = {"a": along / obj.size_m[0], "b": -points[..., 1] / obj.size_m[2], "c": right / obj.size_m[1]}
    extents = {"a": part.a, "b": part.b, "c": part.c}
    unit = {k: (v - sum(extents[k]) / 2) / (extents[k][1] - extents[k][0]) for k, v in raw.items()}
    if part.shape == "prism":
        return (unit["a"], unit["b"], unit["c"]) if part.axis == "a" else (unit["c"], unit["b"], unit["a"])
    others = [k for k in "abc" if k != part.axis]
    return unit[others[0]], unit[part.axis], unit[others[1]]


def first_inside(obj: SceneObject, part: Part, start: Array, step: Array, reach: float) -> Array:
    """Smallest t in [0, reach] with start + t * step inside the part, inf if none: ternary search, then bisection."""

    def value(t: Array) -> Array:
        return CONVEX[part.shape](*canonical(obj, part, start + t[..., None] * step))

    low, high = np.zeros(step.shape[:-1]), np.full(step.shape[:-1], reach)
    for _ in range(110):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        smaller = value(a) < value(b)
        low, high = np.where(smaller, low, a), np.where(smaller, b, high)
    deepest = (low + high) / 2
    hit = value(deepest) <= 0
    outside, inside = np.zeros_like(deepest), deepest
    for _ in range(60):
        middle = (outside + inside) / 2
        is_in = value(middle) <= 0
        outside, inside = np.where(is_in, outside, middle), np.where(is_in, middle, inside)
    return np.where(hit, inside, np.inf)


def reference(scene: Scene, width: int, height: int) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Depth, object index and ground shadow of a scene, one part at a time."""
    pitch, half = math.radians(scene.camera.pitch_deg), math.tan(math.radians(scene.camera.fov_y_deg) / 2)
    v = ((np.arange(height) + 0.5) / height * 2 - 1) * half
    u = ((np.arange(width) + 0.5) / width * 2 - 1) * half * width / height
    u, v = np.meshgrid(u, v)
    step = np.stack([u, v * math.cos(pitch) + math.sin(pitch), math.cos(pitch) - v * math.sin(pitch)], axis=-1)
    eye = np.array([0.0, -scene.camera.height_m, 0.0])
    with np.errstate(divide="ignore"):
        depth = np.where(step[..., 1] > 0, scene.camera.height_m / step[..., 1], np.inf)
    depth[depth > 100.0] = np.inf
    index = np.where(np.isfinite(depth), GROUND_INDEX, SKY_INDEX)
    for k, obj in enumerate(scene.objects):
        for part in CATEGORIES[obj.category].parts:
            t = first_inside(obj, part, eye, step, 150.0)
            index[t < depth] = k
            depth = np.minimum(depth, t)
    azimuth, elevation = math.radians(scene.sun_azimuth_deg), math.radians(scene.sun_elevation_deg)
    sun = np.array(
        [math.sin(azimuth) * math.cos(elevation), -math.sin(elevation), -math.cos(azimuth) * math.cos(elevation)]
    )
    on_ground = index == GROUND_INDEX
    points = eye + np.where(on_ground, depth, 0.0)[..., None] * step
    shadow = np.zeros_like(on_ground)
    for obj in scene.objects:
        for part in CATEGORIES[obj.category].parts:
            if part.casts_shadow:
                t = first_inside(obj, part, points, np.broadcast_to(sun, points.shape), 60.0)
                shadow |= np.isfinite(t) & on_ground
    return depth, index, shadow


@pytest.mark.parametrize(("seed", "width", "height"), [(1, 24, 24), (5, 32, 20), (11, 18, 28)])
def test_agrees_with_a_slow_float64_ray_caster(seed: int, width: int, height: int) -> None:
    scene = sample_scene(random.Random(seed), count=2)
    image = render([scene], width, height)
    depth, index, shadow = reference(scene, width, height)
    same = image.object_index[0].numpy() == index
    assert (~same).sum() <= 1, "only a ray that grazes an edge may differ"
    finite = same & np.isfinite(depth)
    assert np.array_equal(np.isfinite(image.depth_m[0].numpy())[same], np.isfinite(depth)[same])
    error = abs(image.depth_m[0].numpy()[finite] / depth[finite] - 1)
    assert np.sort(error)[-2] < 2e-4 and np.median(error) < 1e-6
    bare = Scene(scene.camera, (), scene.ground, scene.sky, scene.sun_azimuth_deg, scene.sun_elevation_deg)
    darker = (image.rgb[0] < render([bare], width, height).rgb[0] - 1e-4).all(dim=0).numpy() & (index == GROUND_INDEX)
    assert (darker != shadow)[same].sum() <= 2


def test_the_parts_of_every_category_fill_its_box() -> None:
    for category in CATEGORIES.values():
        for axis, low, high in (("a", -0.5, 0.5), ("b", 0.0, 1.0), ("c", -0.5, 0.5)):
            extents = [getattr(part, axis) for part in category.parts]
            assert (min(e[0] for e in extents), max(e[1] for e in extents)) == (low, high), (category.name, axis)


def view(category: str, heading_deg: float, size: int = 64, color: str = "blue") -> tuple[torch.Tensor, torch.Tensor]:
    """RGB (3, N) of the object's pixels and their columns, under light from the camera's side."""
    kind = CATEGORIES[category]
    size_m = tuple((low + high) / 2 for low, high in (kind.length_m, kind.width_m, kind.height_m))
    z = 0.5 + max(1.9 * size_m[2], 1.2 * max(size_m[:2]) + 0.5 * size_m[0])
    obj = SceneObject(category, color, (0.0, z), heading_deg, size_m)
    image = render([Scene(Camera(1.4, 8.0, 55.0), (obj,), "grass", "cloudy", 0.0, 60.0)], size, size)
    mask = image.object_index[0] == 0
    return image.rgb[0][:, mask], mask.nonzero()[:, 1]


def count_like(pixels: torch.Tensor, albedo: tuple[float, float, float]) -> int:
    """Pixels whose chromaticity and brightness are those of the albedo, up to the light."""
    target = torch.tensor(albedo)[:, None]
    gain = (pixels * target).sum(dim=0) / (target * target).sum()
    off = (pixels - gain * target).norm(dim=0) / (gain * target.norm())
    return int(((off < 0.06) & (gain > 0.5)).sum())


FRONT_MARKS = {
    "car": (ROLE_COLORS["light"], ROLE_COLORS["tail"]),
    "bus": (ROLE_COLORS["light"], ROLE_COLORS["tail"]),
    "chair": (trim_color(BODY_COLORS["blue"]), None),
    "sofa": (trim_color(BODY_COLORS["blue"]), None),
    "house": (ROLE_COLORS["wood"], None),
    "person": (ROLE_COLORS["skin"], ROLE_COLORS["wood"]),
    "dog": (trim_color(BODY_COLORS["blue"]), None),
    "robot": (ROLE_COLORS["screen"], None),
    "cabinet": (trim_color(BODY_COLORS["blue"]), ROLE_COLORS["wood"]),
    "mailbox": (trim_color(BODY_COLORS["blue"]), None),
}


@pytest.mark.parametrize("category", CATEGORY_NAMES)
def test_front_marks_show_at_heading_0_and_not_at_180(category: str) -> None:
    front_mark, back_mark = FRONT_MARKS[category]
    front, back = view(category, 0.0)[0], view(category, 180.0)[0]
    assert count_like(front, front_mark) >= 4
    # A person's hands and the rim of a mailbox's door are seen from behind too.
    allowed = {"person": 0.5, "mailbox": 0.2}.get(category, 0.0)
    assert count_like(back, front_mark) <= allowed * count_like(front, front_mark)
    if back_mark is not None:
        assert count_like(back, back_mark) >= 4
        assert count_like(back, back_mark) > 2 * count_like(front, back_mark)


@pytest.mark.parametrize(("heading_deg", "is_right"), [(90.0, True), (270.0, False)])
def test_the_front_points_right_at_90_and_left_at_270(heading_deg: float, is_right: bool) -> None:
    pixels, columns = view("car", heading_deg, 256)
    target = torch.tensor(ROLE_COLORS["light"])[:, None]
    lamps = columns[((pixels / pixels.max(dim=0).values - target / target.max()).norm(dim=0) < 0.12)]
    assert len(lamps) > 0
    assert bool(lamps.double().mean() > columns.double().mean()) == is_right


def test_heading_90_shows_the_right_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from sf_model.world import packing

    body = Part("box", "body", (-0.5, 0.5), (0.0, 1.0), (-0.5, 0.4))
    flag = Part("box", "light", (-0.5, 0.5), (0.0, 1.0), (0.4, 0.5))
    monkeypatch.setitem(packing.CATEGORY_TABLES, "crate", packing.category_table([body, flag]))
    for heading_deg, expected in ((90.0, "light"), (270.0, "body")):
        obj = SceneObject("crate", "blue", (0.0, 5.0), heading_deg, (1.0, 1.0, 1.0))
        image = render([Scene(Camera(0.5, 0.0, 60.0), (obj,), "sand", "clear", 0.0, 60.0)], 9, 9)
        red, _, blue = image.rgb[0, :, 4, 4].tolist()
        assert (red > blue) == (expected == "light")


def test_same_seed_same_scene_same_pixels() -> None:
    first, second = (sample_scene(random.Random(42)) for _ in range(2))
    assert first == second
    # Pinned: the same on every platform and Python version.
    assert first.camera == Camera(2.0, 12.0, 69.0) and (first.ground, first.sky) == ("tiles", "night")
    assert first.objects[0] == SceneObject("sofa", "green", (0.472, 2.765), 31.0, (0.934, 1.992, 0.935))
    a, b = render([first], 32, 32), render([second], 32, 32)
    assert torch.equal(a.rgb, b.rgb) and torch.equal(a.depth_m, b.depth_m)


def test_a_batch_equals_its_scenes_one_by_one() -> None:
    rng = random.Random(3)
    scenes = [sample_scene(rng) for _ in range(5)]
    batch = render(scenes, 40, 24)
    for b, scene in enumerate(scenes):
        single = render([scene], 40, 24)
        assert torch.equal(batch.depth_m[b], single.depth_m[0])
        assert torch.equal(batch.object_index[b], single.object_index[0])
        torch.testing.assert_close(batch.rgb[b], single.rgb[0], rtol=0, atol=1e-6)


def test_supersampling_changes_colours_only() -> None:
    scenes = [sample_scene(random.Random(9))]
    plain, fine, big = render(scenes, 32, 32), render(scenes, 32, 32, supersample=2), render(scenes, 64, 64)
    assert torch.equal(plain.depth_m, fine.depth_m) and torch.equal(plain.object_index, fine.object_index)
    torch.testing.assert_close(fine.rgb, torch.nn.functional.avg_pool2d(big.rgb, 2))


def test_types_ranges_and_an_empty_scene() -> None:
    empty = Scene(Camera(1.5, 5.0, 60.0), (), "snow", "night", 0.0, 45.0)
    image = render([empty, sample_scene(random.Random(0))], 16, 12)
    assert image.rgb.dtype == image.depth_m.dtype == torch.float32
    assert image.object_index.dtype == torch.int64
    assert image.rgb.min() >= 0 and image.rgb.max() <= 1
    assert torch.equal(torch.isinf(image.depth_m), image.object_index == SKY_INDEX)
    assert (image.depth_m > 0).all()


@pytest.mark.parametrize("arguments", [([], 8, 8, 1), (None, 0, 8, 1), (None, 8, 8, 0)])
def test_bad_sizes_are_refused(arguments: tuple[list[Scene] | None, int, int, int]) -> None:
    scenes, width, height, supersample = arguments
    scenes = [sample_scene(random.Random(0))] if scenes is None else scenes
    with pytest.raises(ValueError, match="at least one scene"):
        render(scenes, width, height, supersample=supersample)
