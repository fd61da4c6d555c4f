"""The loose mode of a depth: what it keeps, what it changes, and where."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from sf_model.depth.loosening import REACH, ROUGH_END, STEP, loosen, nearest, reach_px, silhouettes
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
@pytest.mark.parametrize("reach", [1, 7, 60])
def test_distances_are_those_of_scipy(shape: tuple[int, int], reach: int) -> None:
    generator = torch.Generator().manual_seed(3)
    places = torch.rand(shape, generator=generator) < 0.03
    places[0, 0] = True
    values = torch.rand(shape, generator=generator)
    distance, value = nearest(places, values, reach)
    expected, at = distance_transform_edt(~places.numpy(), return_indices=True)
    near = expected <= reach
    np.testing.assert_allclose(distance.numpy()[near], expected[near], rtol=1e-6)
    assert (distance.numpy()[~near] > reach).all()
    # Of several places at one distance, either may be taken: compare where the nearest is the only one.
    alone = near & np.isclose(values.numpy()[tuple(at)], value.numpy())
    assert alone[near].mean() > 0.8


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
def test_surfaces_in_front_and_everything_out_of_reach_keep_their_metres(looseness: float) -> None:
    exact = box_before_wall()
    loose = loosen(metric(exact), looseness).depth.depth
    reach = reach_px(looseness, 100, 100)
    assert torch.equal(loose[exact == 4.0], exact[exact == 4.0])
    # The silhouettes are those of the square before the wall, and of the wall before the sky.
    outside = distance_transform_edt(~silhouettes(metric(exact).log_depth()[0]).numpy()) > reach
    assert np.array_equal(loose[0].numpy()[outside], exact[0].numpy()[outside])
    assert (loose <= exact).all(), "nothing is pushed away"
    assert (loose < exact).any()


@pytest.mark.parametrize("looseness", LOOSENESS)
def test_the_slope_begins_at_the_surface_and_ends_at_the_background(looseness: float) -> None:
    """Along the middle row from the box to the right: no step is a large part of the jump, and none goes back."""
    exact = box_before_wall(400)
    loose = loosen(metric(exact), looseness).depth.depth
    row = loose[0, 200, 239:].log()
    steps = row.diff()
    reach = reach_px(looseness, 400, 400)
    assert row[0] == math.log(4) and row[-1] == pytest.approx(math.log(12))
    assert (steps >= -1e-5).all()
    # A smoothstep is nowhere steeper than 1.5 / length; the hard edge would be one step of the whole jump.
    assert steps.max() < math.log(3) * max(2.5 / reach, 0.1)
    halfway = int((row < (math.log(4) + math.log(12)) / 2).sum())
    assert abs(halfway - reach / 2) <= max(2, reach / 5)


def test_confidence_falls_most_beside_silhouettes() -> None:
    exact = box_before_wall()
    confidence = loosen(metric(exact), 1.0).depth.confidence[0]
    assert confidence[50, 50] == confidence[95, 5] == 0.5
    assert confidence[50, 60] < 0.05 and confidence[50, 61] < confidence[50, 64] < 0.5
    half = MetricDepth(exact, torch.full_like(exact, 0.5), torch.tensor([50.0]))
    assert torch.allclose(loosen(half, 1.0).depth.confidence[0], confidence / 2)


def test_a_composed_scene_keeps_its_objects_and_its_ground() -> None:
    exact, index = scene()
    loose = loosen(exact, 1.0).depth
    reach = reach_px(1.0, 120, 160)
    near_object = index[None] == 1
    assert torch.equal(loose.depth[near_object], exact.depth[near_object]), "the post stands in front of everything"
    # Ground below the objects' feet is no silhouette: it may only change beside one.
    far = distance_transform_edt(~silhouettes(exact.log_depth()[0]).numpy()) > reach
    assert np.array_equal(loose.depth[0].numpy()[far], exact.depth[0].numpy()[far])
    assert (exact.log_depth() - loose.log_depth()).min() >= -1e-5
    assert torch.equal(loose.fov_y_deg, exact.fov_y_deg)


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


def test_the_reach_and_the_step_are_as_the_page_says() -> None:
    assert (REACH, ROUGH_END, round(math.exp(STEP), 2)) == (0.06, 0.4, 1.05)
    assert reach_px(1.0, 1024, 512) == 31 and reach_px(0.01, 64, 64) == 1


def test_a_cancel_stops_it() -> None:
    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loosen(metric(box_before_wall()), 0.5, cancel)
