"""Blending and adjusting depth, and its pictures, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sf_model.config import MINI
from sf_model.depth.editing import DepthAdjustment, adjust_depth, blend_depths, resize_depth, scale_confidence
from sf_model.depth.fitting import fit_mask
from sf_model.depth.images import disparity_picture, normal_picture, range_mask, surface_normals
from sf_model.depth.metric_depth import MetricDepth
from sf_model.models.depth_adapter import DepthAdapter

INF = math.inf


def metric_depth(rows: list[list[float]], fov_y_deg: float = 90.0, confidence: float = 1.0) -> MetricDepth:
    depth = torch.tensor([rows])
    return MetricDepth(depth, torch.full_like(depth, confidence), torch.tensor([fov_y_deg]))


def random_depth(batch: int = 1, height: int = 12, width: int = 16) -> MetricDepth:
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(batch, height, width, generator=generator) * 20 + 1
    depth[:, 0] = INF
    confidence = torch.rand(batch, height, width, generator=generator)
    return MetricDepth(depth, confidence, torch.full((batch,), 50.0))


def plane(normal: tuple[float, float, float], offset: float, height: int = 24, width: int = 32) -> MetricDepth:
    """The depth of the plane n . x = offset by solving for each ray on its own. 90 degrees high."""
    rows = []
    for row in range(height):
        y = (2 * (row + 0.5) / height - 1) * 1.0
        rays = [((2 * (column + 0.5) / width - 1) * width / height, y) for column in range(width)]
        rows.append([offset / (normal[0] * x + normal[1] * y + normal[2]) for x, y in rays])
    return metric_depth(rows)


# Blend


def test_blend_is_the_geometric_mean_half_way() -> None:
    a, b = metric_depth([[1.0, 2.0, 8.0]], confidence=1.0), metric_depth([[4.0, 8.0, 2.0]], confidence=0.5)
    blended = blend_depths(a, b, torch.tensor([[0.5, 0.25, 0.75]]))
    # 1^.5 4^.5 = 2; 2^.75 8^.25 = 2 sqrt 2; 8^.25 2^.75 = 2 sqrt 2
    torch.testing.assert_close(blended.depth, torch.tensor([[[2.0, 2 * 2**0.5, 2 * 2**0.5]]]))
    torch.testing.assert_close(blended.confidence, torch.tensor([[[0.75, 0.875, 0.625]]]))


def test_blend_at_0_and_1_is_bit_identical() -> None:
    a, b = random_depth(), random_depth()
    b = MetricDepth(b.depth.flip(2) * 1.37, b.confidence.flip(2), b.fov_y_deg)
    for mask, source in ((torch.zeros(12, 16), a), (torch.ones(12, 16), b)):
        blended = blend_depths(a, b, mask)
        assert torch.equal(blended.depth, source.depth)
        assert torch.equal(blended.confidence, source.confidence)


def test_blend_beside_the_sky_switches_at_one_half() -> None:
    a, b = metric_depth([[INF, INF, 3.0, 3.0, INF]]), metric_depth([[2.0, 2.0, INF, INF, INF]])
    blended = blend_depths(a, b, torch.tensor([[0.49, 0.5, 0.49, 0.5, 0.7]]))
    assert blended.depth.tolist() == [[[INF, 2.0, 3.0, INF, INF]]]


def test_blend_keeps_the_first_camera_and_refuses_others() -> None:
    a, near, other = (metric_depth([[2.0]], fov) for fov in (50.0, 50.9, 51.5))
    mask = torch.ones(1, 1)
    assert blend_depths(a, near, mask).fov_y_deg.tolist() == [50.0]
    with pytest.raises(ValueError, match="ignore_camera.*50.0 and 51.5 degrees"):
        blend_depths(a, other, mask)
    assert blend_depths(a, other, mask, ignore_camera=True).fov_y_deg.tolist() == [50.0]


def test_blend_resizes_the_second_and_the_mask() -> None:
    a = metric_depth([[1.0] * 4] * 4)
    b = metric_depth([[3.0] * 8] * 8)
    mask = torch.zeros(2, 2)
    mask[:, 1] = 1
    blended = blend_depths(a, b, mask)
    assert blended.depth.shape == (1, 4, 4)
    torch.testing.assert_close(blended.depth[..., 0], torch.ones(1, 4))
    torch.testing.assert_close(blended.depth[..., 3], torch.full((1, 4), 3.0))


@pytest.mark.parametrize("size", [(4, 6), (6, 4)])
def test_other_aspect_ratios_are_refused(size: tuple[int, int]) -> None:
    a, b = metric_depth([[1.0] * 4] * 4), metric_depth([[1.0] * size[1]] * size[0])
    with pytest.raises(ValueError, match=f"crop.*the second geometry is {size[1]}x{size[0]}.*the first 4x4"):
        blend_depths(a, b, torch.ones(4, 4))
    with pytest.raises(ValueError, match=f"crop.*the mask is {size[1]}x{size[0]}.*the geometry 4x4"):
        blend_depths(a, a, torch.rand(size))


def test_batches_of_one_serve_all_and_others_are_refused() -> None:
    one, three = random_depth(1), random_depth(3)
    mask = torch.rand(3, 12, 16)
    blended = blend_depths(one, three, mask[:1])
    for index in range(3):
        part = MetricDepth(three.depth[index : index + 1], three.confidence[index : index + 1], one.fov_y_deg)
        assert torch.equal(blended.depth[index : index + 1], blend_depths(one, part, mask[:1]).depth)
    assert adjust_depth(one, DepthAdjustment(scale=2), mask).depth.shape == (3, 12, 16)
    assert scale_confidence(one, mask).confidence.shape == (3, 12, 16)
    with pytest.raises(ValueError, match="give one mask for all images, or 3.*geometry_a 1, geometry_b 3, mask 2"):
        blend_depths(one, three, mask[:2])
    with pytest.raises(ValueError, match="geometry 3, mask 2"):
        adjust_depth(three, DepthAdjustment(scale=2), mask[:2])
    with pytest.raises(ValueError, match="geometry 3, confidence_mask 2"):
        scale_confidence(three, mask[:2])


def test_resizing_averages_surfaces_in_log_depth_and_keeps_the_sky_out() -> None:
    # 2x2 blocks: 1, 1, 4, 4 m -> 2 m; half sky -> the surface alone; three quarters sky -> sky
    depth = metric_depth([[1.0, 4.0, 5.0, INF, INF, INF], [1.0, 4.0, 5.0, INF, 3.0, INF]])
    blocks = [resize_depth(replace_columns(depth, start), 1, 1).depth.item() for start in (0, 2, 4)]
    assert blocks == pytest.approx([2.0, 5.0, INF])


def replace_columns(depth: MetricDepth, start: int) -> MetricDepth:
    columns = slice(start, start + 2)
    return MetricDepth(depth.depth[..., columns], depth.confidence[..., columns], depth.fov_y_deg)


def test_masks_outside_0_to_1_are_clamped_and_nan_is_refused() -> None:
    assert fit_mask(torch.tensor([[-1.0, 2.0]]), 1, 2).tolist() == [[[0.0, 1.0]]]
    with pytest.raises(ValueError, match="mask has NaN"):
        fit_mask(torch.tensor([[math.nan]]), 1, 1)


def test_a_mask_of_one_value_fits_any_picture() -> None:
    """Load Image gives 64 x 64 black pixels for a picture without transparency."""
    assert fit_mask(torch.zeros(1, 64, 64), 20, 30).tolist() == torch.zeros(1, 20, 30).tolist()
    assert (fit_mask(torch.full((2, 8, 8), 0.25), 20, 30) == 0.25).all()


# Adjust


def test_no_adjustment_is_bit_identical() -> None:
    depth = random_depth()
    adjusted = adjust_depth(depth, DepthAdjustment(), torch.rand(12, 16))
    assert torch.equal(adjusted.depth, depth.depth) and torch.equal(adjusted.confidence, depth.confidence)


def test_scale_then_shift_by_hand() -> None:
    depth = metric_depth([[1.0, 2.0, INF]])
    assert adjust_depth(depth, DepthAdjustment(scale=2, shift_m=0.5)).depth.tolist() == [[[2.5, 4.5, INF]]]
    # Half a mask: sqrt(1 * 2.5), sqrt(2 * 4.5) = 3
    half = adjust_depth(depth, DepthAdjustment(scale=2, shift_m=0.5), torch.full((1, 3), 0.5))
    torch.testing.assert_close(half.depth, torch.tensor([[[2.5**0.5, 3.0, INF]]]))


def test_distance_moves_the_region_as_a_similar_shape_on_the_same_rays() -> None:
    depth = random_depth(height=24, width=32)
    region = torch.zeros(24, 32)
    region[8:16, 10:20] = 1
    moved = adjust_depth(depth, DepthAdjustment(distance_m=2.0), region)
    inside = region.bool()
    assert moved.depth[0][inside].median().item() == pytest.approx(2.0)
    assert torch.equal(moved.depth[0][~inside], depth.depth[0][~inside])
    # Similar: the points of the object are those of before, times one factor.
    before, after = depth.points()[0][inside], moved.points()[0][inside]
    factor = 2.0 / depth.depth[0][inside].median()
    torch.testing.assert_close(after, before * factor)
    # On the same rays: what a pixel shows of it has not moved.
    torch.testing.assert_close(after[:, :2] / after[:, 2:], before[:, :2] / before[:, 2:])


def test_distance_of_a_region_can_calibrate_the_whole_image() -> None:
    depth = metric_depth([[1.0, 2.0, 3.0, INF]])
    region = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    moved = adjust_depth(depth, DepthAdjustment(distance_m=5.0, distance_moves_all=True), region)
    torch.testing.assert_close(moved.depth, torch.tensor([[[2.5, 5.0, 7.5, INF]]]))


def test_distance_is_set_image_by_image_after_scale_and_shift() -> None:
    depth = random_depth(batch=3)
    moved = adjust_depth(depth, DepthAdjustment(scale=3, shift_m=2, distance_m=4.0))
    for image in moved.depth:
        assert image[torch.isfinite(image)].median().item() == pytest.approx(4.0)


def test_limits_act_in_the_region_and_leave_the_sky() -> None:
    depth = metric_depth([[0.5, 2.0, 50.0, INF, 50.0]])
    region = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    clamped = adjust_depth(depth, DepthAdjustment(min_m=1.0, max_m=10.0), region)
    assert clamped.depth.tolist() == [[[1.0, 2.0, 10.0, INF, 50.0]]]


def test_a_constant_depth_can_be_adjusted() -> None:
    depth = metric_depth([[3.0] * 4] * 3)
    assert (adjust_depth(depth, DepthAdjustment(distance_m=2.0)).depth == 2).all()


@pytest.mark.parametrize(
    "values, region, message",
    [
        ({"shift_m": -3.0}, [[1.0, 1.0, 1.0]], "shift by less.*behind the camera. The nearest is 2 m away"),
        ({"shift_m": -5.0, "scale": 2.0}, [[1.0, 1.0, 1.0]], "The nearest is 4 m away after scaling"),
        ({"distance_m": 2.0}, [[0.0, 0.0, 0.0]], "mask of image 1 covers none"),
        ({"distance_m": 2.0}, [[0.0, 0.0, 1.0]], "mask of image 1 covers none.*sky"),
    ],
)
def test_impossible_adjustments_are_refused(values: dict[str, float], region: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adjust_depth(metric_depth([[2.0, 9.0, INF]]), DepthAdjustment(**values), torch.tensor(region))


def test_a_shift_that_is_too_large_elsewhere_does_not_matter() -> None:
    depth = metric_depth([[2.0, 9.0]])
    assert adjust_depth(depth, DepthAdjustment(shift_m=-3), torch.tensor([[0.0, 1.0]])).depth.tolist() == [[[2.0, 6.0]]]


@pytest.mark.parametrize(
    "values, message",
    [({"min_m": 3, "max_m": 2}, "swap"), ({"scale": 0}, "above 0"), ({"distance_m": -1}, "cannot be negative")],
)
def test_contradicting_values_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthAdjustment(**values)


# Confidence


@pytest.mark.parametrize("injection", ["token", "latent"])
def test_the_model_is_free_where_the_confidence_mask_is_black(injection: str) -> None:
    torch.manual_seed(0)
    config = replace(MINI.depth_adapter, injection=injection, downscale=4)
    adapter = DepthAdapter(config).eval()
    torch.nn.init.normal_(adapter.out.weight)
    torch.nn.init.normal_(adapter.out.bias)
    depth = random_depth(height=32, width=32)
    mask = torch.ones(64, 64)
    mask[:, 32:] = 0  # the left half of a mask of another size
    freed = scale_confidence(depth, mask)
    with torch.no_grad():
        features = adapter.infer(freed, 8, 8, torch.float32)
        kept = adapter.infer(scale_confidence(depth, torch.ones(32, 32)), 8, 8, torch.float32)
        plain = adapter.infer(depth, 8, 8, torch.float32)
    assert torch.equal(kept, plain)  # white changes nothing, not a bit
    assert (features[..., 5:] == 0).all()
    assert (features[..., :4] != 0).all(dim=1).all()


# Pictures


def test_disparity_with_limits_by_hand() -> None:
    depth = metric_depth([[1.0, 2.0, 4.0, 8.0, INF, 0.5]])
    # (1/d - 1/4) / (1 - 1/4)
    expected = torch.tensor([[[1.0, 1 / 3, 0.0, 0.0, 0.0, 1.0]]])
    torch.testing.assert_close(disparity_picture(depth, 1.0, 4.0), expected)


def test_limits_beyond_the_scene_are_errors_that_tell_its_range() -> None:
    """All would be white or black, and nothing would say why."""
    depth = metric_depth([[2.0, 3.0, INF]])
    with pytest.raises(ValueError, match="set near_m .*, from 2 to 3 m, .*near_m 5 is behind everything.*white"):
        disparity_picture(depth, near_m=5.0)
    with pytest.raises(ValueError, match=", from 2 to 3 m, .*far_m 1 is in front of everything.*black"):
        disparity_picture(depth, far_m=1.0)
    for near_m, far_m in ((3.0, 5.0), (1.0, 2.0)):
        assert disparity_picture(depth, near_m, far_m)[0, 0, 2] == 0
    # One image of a batch may be beyond them: the others are what it is compared with.
    rows = torch.tensor([[[2.0, 3.0, INF]], [[20.0, 30.0, INF]]])
    both = MetricDepth(rows, torch.ones_like(rows), torch.tensor([90.0, 90.0]))
    assert disparity_picture(both, 1.0, 10.0)[1].tolist() == [[0.0, 0.0, 0.0]]


def test_disparity_without_limits_leaves_a_thousandth_out_at_either_end() -> None:
    disparity = torch.linspace(0.1, 1.1, 1001)  # quantiles 0.001 and 0.999 are the second and the last but one
    picture = disparity_picture(metric_depth([(1 / disparity).tolist()]))[0, 0]
    assert picture[1].item() == pytest.approx(0, abs=1e-5) and picture[999].item() == pytest.approx(1, abs=1e-5)
    assert picture[0] == 0 and picture[1000] == 1
    assert picture[500].item() == pytest.approx(0.5, abs=1e-4)
    # one limit alone: the other is still chosen
    half = disparity_picture(metric_depth([(1 / disparity).tolist()]), near_m=1 / 2.1)[0, 0]
    assert half[999].item() == pytest.approx((1.099 - 0.101) / (2.1 - 0.101), abs=1e-4)


def test_disparity_of_each_image_is_its_own_but_with_limits_comparable() -> None:
    depth = random_depth()
    farther = MetricDepth(depth.depth * 3, depth.confidence, depth.fov_y_deg)
    torch.testing.assert_close(disparity_picture(depth), disparity_picture(farther), rtol=0, atol=1e-5)
    assert (disparity_picture(depth, 1, 100) - disparity_picture(farther, 1, 100)).abs().max() > 0.1


def test_the_frames_of_a_video_share_one_range() -> None:
    """A thing at 1, 3 and 5 m before a wall that stays at 10 m, and a frame of sky. 1/1 is white, 1/10 black."""
    frames = torch.full((4, 40, 40), 10.0)
    for frame, distance_m in zip(frames, (1.0, 3.0, 5.0)):
        frame[:4, :4] = distance_m
    frames[3] = INF
    depth = MetricDepth(frames, torch.ones_like(frames), torch.full((4,), 50.0))
    picture = disparity_picture(depth)
    assert (picture[:, 20:] == 0).all()  # the wall does not flicker, and the sky is black
    assert picture[:3, 0, 0].tolist() == pytest.approx([1.0, (1 / 3 - 0.1) / 0.9, (1 / 5 - 0.1) / 0.9], abs=1e-5)
    alone = disparity_picture(depth, one_range=False)
    assert alone[:, 0, 0].tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-5)
    for index in range(3):
        torch.testing.assert_close(alone[index], disparity_picture(depth[index : index + 1])[0])
    # One limit alone is not chosen.
    assert disparity_picture(depth, near_m=0.5)[0, 0, 0].item() == pytest.approx(0.9 / 1.9, abs=1e-5)


def test_disparity_of_nothing_and_of_a_constant_is_black() -> None:
    assert (disparity_picture(metric_depth([[INF, INF]])) == 0).all()
    assert (disparity_picture(metric_depth([[2.0, 2.0]])) == 0).all()
    assert (disparity_picture(metric_depth([[INF, INF]]), 1.0, 4.0) == 0).all()
    assert disparity_picture(metric_depth([[2.0, 2.0]]), 1.0, 4.0).tolist() == [[[pytest.approx(1 / 3)] * 2]]
    with pytest.raises(ValueError, match="near_m 4 must be below far_m 2"):
        disparity_picture(metric_depth([[2.0]]), 4.0, 2.0)


def test_range_mask_by_hand() -> None:
    depth = metric_depth([[1.0, 2.0, 3.0, INF]])
    assert range_mask(depth, 2.0, 3.0).tolist() == [[[0, 1, 1, 0]]]
    assert range_mask(depth, 2.0).tolist() == [[[0, 1, 1, 0]]]
    assert range_mask(depth).tolist() == [[[1, 1, 1, 0]]]
    with pytest.raises(ValueError, match="mask_min_m 3 is above mask_max_m 2"):
        range_mask(depth, 3.0, 2.0)


@pytest.mark.parametrize(
    "normal, offset, colors",
    [
        # a wall in front, towards the camera: all blue
        ((0.0, 0.0, -1.0), -4.0, {"opengl": (0.5, 0.5, 1), "directx": (0.5, 0.5, 1), "controlnet": (0.5, 0.5, 1)}),
        # a wall at the left, facing right and to the camera
        (
            (0.6, 0.0, -0.8),
            -4.0,
            {"opengl": (0.8, 0.5, 0.9), "directx": (0.8, 0.5, 0.9), "controlnet": (0.2, 0.5, 0.9)},
        ),
        # a ramp that faces up (y is down) and to the camera
        (
            (0.0, -0.6, -0.8),
            -4.0,
            {"opengl": (0.5, 0.8, 0.9), "directx": (0.5, 0.2, 0.9), "controlnet": (0.5, 0.8, 0.9)},
        ),
    ],
)
def test_normals_of_planes(
    normal: tuple[float, float, float], offset: float, colors: dict[str, tuple[float, float, float]]
) -> None:
    depth = plane(normal, offset)
    if (depth.depth <= 0).any():
        pytest.fail("the plane must be in front of the camera")
    normals = surface_normals(depth)
    torch.testing.assert_close(normals, torch.tensor(normal).expand_as(normals), rtol=0, atol=2e-4)
    for convention, color in colors.items():
        picture = normal_picture(normals, convention)
        torch.testing.assert_close(picture, torch.tensor(color).expand_as(picture), rtol=0, atol=1e-4)


def test_normals_beside_the_sky_and_of_single_pixels() -> None:
    depth = plane((0.0, -0.6, -0.8), -4.0)
    metres = depth.depth.clone()
    metres[:, :8] = INF
    metres[0, 3, 5] = 2.0
    normals = surface_normals(MetricDepth(metres, depth.confidence, depth.fov_y_deg))[0]
    assert (normals[0] == 0).all()
    assert normals[3, 5].tolist() == [0, 0, -1]
    torch.testing.assert_close(normals[8:], torch.tensor([0.0, -0.6, -0.8]).expand(16, 32, 3), rtol=0, atol=2e-4)
