"""The loose mode of a depth: what it keeps, what it changes, and where."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from sf_model.depth.loosening import (
    LOG_MAX,
    ROUGH_CONFIDENCE,
    ROUGH_END,
    SIGMA,
    STEP,
    halo,
    loosen,
    sigma_px,
    silhouettes,
)
from sf_model.depth.metric_depth import MAX_DEPTH_M, MetricDepth
from sf_model.scaffold import Pose, ScaffoldCamera, ScaffoldSolid, compose

LOOSENESS = [0.2, 0.5, 1.0]


def metric(depth: torch.Tensor) -> MetricDepth:
    return MetricDepth(depth, torch.ones_like(depth), torch.full((len(depth),), 50.0))


def box_before_wall(size: int = 100) -> torch.Tensor:
    """(1, size, size): a square of 4 m before a wall at 12 m, sky in the upper fifth."""
    depth = torch.full((1, size, size), 12.0)
    depth[:, : size // 5] = torch.inf
    depth[:, 2 * size // 5 : 3 * size // 5, 2 * size // 5 : 3 * size // 5] = 4.0
    return depth


def scene(width: int = 160, height: int = 120) -> tuple[MetricDepth, torch.Tensor]:
    """A box and a cylinder on the ground; (H, W) the object of each pixel."""
    box = ScaffoldSolid("box", (1.8, 1.5, 4.2), Pose(x_m=-1.0, z_m=9.0, heading_deg=30.0))
    post = ScaffoldSolid("cylinder", (0.5, 1.75, 0.5), Pose(x_m=1.2, z_m=5.0))
    drawn = compose([box, post], ScaffoldCamera.level(1.6, 8.0, 40.0), width, height)
    return drawn.depth, drawn.object_index


def test_exact_changes_nothing_and_the_end_is_a_line() -> None:
    depth, _ = scene()
    exact = loosen(depth, 0.0)
    assert exact.depth is depth and exact.end_percent == 1
    assert [loosen(depth, value).end_percent for value in (0.5, 1.0)] == [(1 + ROUGH_END) / 2, ROUGH_END]
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0"):
            loosen(depth, wrong)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (30, 50)])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 20.0])
def test_a_halo_is_the_smallest_of_all_parabolas(shape: tuple[int, int], sigma: float) -> None:
    """Against the formula, pixel by pixel, and without a reach."""
    generator = torch.Generator().manual_seed(3)
    fronts = torch.full(shape, LOG_MAX)
    places = torch.rand(shape, generator=generator) < 0.03
    places[0, 0] = True
    fronts[places] = 2 + 2 * torch.rand(int(places.sum()), generator=generator)
    rows, columns = np.indices(shape)
    expected = np.full(shape, LOG_MAX)
    for row, column in places.nonzero().tolist():
        square = (rows - row) ** 2 + (columns - column) ** 2
        expected = np.minimum(expected, float(fronts[row, column]) + square / (2 * sigma**2))
    np.testing.assert_allclose(halo(fronts, sigma).numpy(), expected, atol=1e-5)


def test_a_halo_at_a_part_of_the_size_is_nearly_the_same() -> None:
    fronts = torch.full((120, 90), LOG_MAX)
    fronts[40:60, 30] = 1.4
    whole, part = halo(fronts, 12.0), halo(fronts, 12.0, stride=3)
    steep = whole.diff(dim=1).abs().max()
    assert (part - whole).abs().max() < 3 * steep


def test_silhouettes_are_the_near_side_of_jumps_by_hand() -> None:
    row = torch.tensor([[12.0, 12.0, 4.0, 4.0, 4.0, 12.0, 12.1]]).log()
    assert silhouettes(row).tolist() == [[False, False, True, False, True, False, False]]
    thin = torch.tensor([[12.0, 4.0, 12.0]]).log()
    assert silhouettes(thin).tolist() == [[False, True, False]]
    # A floor seen from 1.6 m: 1 / depth falls evenly from row to row, and the last steps are large.
    floor = (1.6 * 50 / torch.arange(20.0, 0.0, -1.0)).log()[:, None]
    assert not silhouettes(floor).any()
    sky = torch.cat([floor, torch.full((3, 1), math.log(MAX_DEPTH_M))])
    assert silhouettes(sky).nonzero().tolist() == [[19, 0]]


@pytest.mark.parametrize("looseness", LOOSENESS)
def test_surfaces_in_front_and_everything_far_from_silhouettes_keep_their_metres(looseness: float) -> None:
    exact = box_before_wall()
    loose = loosen(metric(exact), looseness).depth.depth
    assert torch.equal(loose[exact == 4.0], exact[exact == 4.0])
    # From 4 m (with the first step) to the 12 m behind.
    reach = sigma_px(looseness, 100, 100) * math.sqrt(2 * math.log(12 / 4))
    wall = (exact[0] == 12.0).numpy()
    outside = wall & (distance_transform_edt((exact[0] != 4.0).numpy()) > reach)
    assert np.array_equal(loose[0].numpy()[outside], exact[0].numpy()[outside])
    assert (loose <= exact).all(), "nothing is pushed away"
    assert (loose < exact).any()
    assert torch.isinf(loose[0, 0]).all(), "the sky is still there"


@pytest.mark.parametrize("looseness", LOOSENESS)
def test_in_disparity_the_halo_is_gaussian(looseness: float) -> None:
    """Along the middle row from the box to the right, by the formula; then the wall as it was."""
    exact = box_before_wall(400)
    row = loosen(metric(exact), looseness).depth.depth[0, 200, 239:]
    distance = torch.arange(len(row))
    gauss = torch.exp(-((distance / sigma_px(looseness, 400, 400)) ** 2) / 2) / (4 * 1.05)
    expected = torch.maximum(gauss, torch.tensor(1 / 12))
    assert torch.allclose(1 / row[1:], expected[1:], rtol=1e-5)
    assert row[0] == 4 and row[-1] == 12


def test_confidence_falls_most_where_the_depth_was_drawn_forward() -> None:
    exact = box_before_wall()
    confidence = loosen(metric(exact), 1.0).depth.confidence[0]
    assert confidence[50, 50] == confidence[95, 5] == 0.5
    assert confidence[50, 60] == 0 and 0 < confidence[50, 63] < confidence[50, 64] < 0.5
    half = MetricDepth(exact, torch.full_like(exact, 0.5), torch.tensor([50.0]))
    assert torch.allclose(loosen(half, 1.0).depth.confidence[0], confidence / 2)


@pytest.mark.parametrize("looseness", LOOSENESS)
def test_a_composed_scene_keeps_its_objects_and_its_ground(looseness: float) -> None:
    exact, index = scene()
    loose = loosen(exact, looseness).depth
    assert torch.equal(loose.depth[0][index == 1], exact.depth[0][index == 1]), "the post is in front of everything"
    changed = (loose.depth != exact.depth)[0]
    beside = distance_transform_edt(~silhouettes(exact.log_depth()[0]).numpy())
    assert beside[changed.numpy()].max() <= sigma_px(looseness, 120, 160) * math.sqrt(2 * math.log(1000 / 4))
    ahead = exact.log_depth()[0][100:]  # the ground before all feet
    assert torch.equal(loose.log_depth()[0][100:], ahead)
    assert (loose.depth <= exact.depth).all()
    assert torch.equal(loose.fov_y_deg, exact.fov_y_deg)


def test_a_large_image_is_loosened_as_a_small_one() -> None:
    """Beyond 1024 pixels the halo is computed at a part of the size."""
    small, large = (loosen(scene(16 * side, 12 * side)[0], 1.0).depth for side in (50, 100))
    thinned = large.log_depth()[:, ::2, ::2]
    assert ((thinned - small.log_depth()).abs() > 0.2).float().mean() < 0.01


def test_each_image_of_a_batch_is_as_it_would_be_alone() -> None:
    first, second = box_before_wall(), box_before_wall().flip(2) * 2
    together = loosen(metric(torch.cat([first, second])), 0.7).depth
    for number, image in enumerate((first, second)):
        alone = loosen(metric(image), 0.7).depth
        assert torch.equal(together.depth[number], alone.depth[0])
        assert torch.equal(together.confidence[number], alone.confidence[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (16, 16)])
@pytest.mark.parametrize("value", [5.0, torch.inf])
def test_nothing_happens_without_silhouettes(size: tuple[int, int], value: float) -> None:
    exact = torch.full((1, *size), value)
    assert torch.equal(loosen(metric(exact), 1.0).depth.depth, exact)


def test_the_numbers_are_as_the_page_says() -> None:
    assert (SIGMA, ROUGH_END, ROUGH_CONFIDENCE, round(math.exp(STEP), 2)) == (0.04, 0.4, 0.5, 1.05)


def test_a_cancel_stops_it() -> None:
    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loosen(metric(box_before_wall()), 0.5, cancel)
