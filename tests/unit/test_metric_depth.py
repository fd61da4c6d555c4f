import math

import pytest
import torch

from sf_model.depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD, MAX_DEPTH_M, MetricDepth
from sf_model.models.depth_prediction import DepthPrediction


def metric_depth(depth: torch.Tensor, fov_y_deg: float = 90.0, confidence: float = 1.0) -> MetricDepth:
    return MetricDepth(depth, torch.full_like(depth, confidence), torch.full(depth.shape[:1], fov_y_deg))


def test_intrinsics_of_a_right_angle_camera() -> None:
    # tan(45 deg) = 1: the image is 2 units high at unit distance, so fy / H = 0.5; twice as wide, fx / W = 0.25.
    matrix = metric_depth(torch.ones(1, 4, 8)).intrinsics()[0]
    torch.testing.assert_close(matrix, torch.tensor([[0.25, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]))


def test_points_by_hand() -> None:
    # 2 x 2 pixels, 90 degrees: pixel centres lie at -+0.5 of the unit plane; depth 4 puts them at -+2 metres.
    depth = torch.tensor([[[4.0, 4.0], [4.0, math.inf]]])
    points = metric_depth(depth).points()[0]
    torch.testing.assert_close(points[0, 0], torch.tensor([-2.0, -2.0, 4.0]))
    torch.testing.assert_close(points[0, 1], torch.tensor([2.0, -2.0, 4.0]))
    torch.testing.assert_close(points[1, 0], torch.tensor([-2.0, 2.0, 4.0]))
    assert torch.isinf(points[1, 1]).all()


def test_points_are_those_of_the_inverse_of_the_pinhole_matrix() -> None:
    torch.manual_seed(0)
    depth = metric_depth(torch.rand(2, 5, 8) * 10 + 1)
    depth = MetricDepth(depth.depth, depth.confidence, torch.tensor([40.0, 110.0]))
    rows, columns = torch.meshgrid((torch.arange(5) + 0.5) / 5, (torch.arange(8) + 0.5) / 8, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    rays = torch.einsum("bij,hwj->bhwi", torch.linalg.inv(depth.intrinsics()), pixels)
    torch.testing.assert_close(depth.points(), rays * depth.depth.unsqueeze(-1), rtol=1e-5, atol=1e-5)


def test_a_slice_is_some_images_of_the_batch() -> None:
    depth = torch.arange(1.0, 7.0).view(3, 1, 2)
    whole = MetricDepth(depth, depth / 10, torch.tensor([30.0, 40.0, 50.0]))
    part = whole[1:]
    assert torch.equal(part.depth, depth[1:]) and torch.equal(part.confidence, depth[1:] / 10)
    assert part.fov_y_deg.tolist() == [40.0, 50.0]
    with pytest.raises(ValueError, match="non-empty"):
        whole[3:]


def test_network_input_by_hand() -> None:
    depth = torch.tensor([[[math.e, math.inf]]])
    channels = metric_depth(depth, confidence=0.25).network_input(1, 2)[0]
    expected = torch.tensor([1.0, math.log(MAX_DEPTH_M)])
    torch.testing.assert_close(channels[0, 0], (expected - LOG_DEPTH_MEAN) / LOG_DEPTH_STD)
    assert channels[1, 0].tolist() == [1.0, 0.0]
    assert channels[2, 0].tolist() == [0.25, 0.25]


def test_network_input_is_resized_in_log_depth() -> None:
    depth = torch.tensor([[[1.0, 1.0, 100.0, 100.0]]]).expand(1, 4, 4).contiguous()
    channels = metric_depth(depth).network_input(2, 2)[0, 0] * LOG_DEPTH_STD + LOG_DEPTH_MEAN
    assert channels[0, 0] < 0.6 * math.log(10)  # near the log of 1 m, not half of 100 m
    assert math.isclose(channels.mean().item(), math.log(10), rel_tol=1e-5)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (torch.tensor([[[1.0, math.nan]]]), "NaN"),
        (torch.tensor([[[1.0, -1.0]]]), "zero or negative"),
        (torch.tensor([[[1.0, 0.0]]]), "zero or negative"),
        (torch.ones(4, 4), "non-empty"),
        (torch.ones(1, 0, 4), "non-empty"),
    ],
)
def test_bad_depth_is_refused(depth: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric = metric_depth(depth)
        MetricDepth.checked(metric.depth, metric.confidence, metric.fov_y_deg)


def test_shapes_and_ranges_are_checked() -> None:
    depth = torch.ones(2, 3, 3)
    with pytest.raises(ValueError, match="differ in shape"):
        MetricDepth(depth, torch.ones(2, 3, 4), torch.full((2,), 50.0))
    with pytest.raises(ValueError, match="one value an image"):
        MetricDepth(depth, torch.ones(2, 3, 3), torch.full((1,), 50.0))
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\]"):
        MetricDepth.checked(depth, torch.full((2, 3, 3), math.nan), torch.full((2,), 50.0))
    with pytest.raises(ValueError, match="between 0 and 180"):
        MetricDepth.checked(depth, torch.ones(2, 3, 3), torch.full((2,), 180.0))


def test_a_training_step_s_depths_are_never_looked_at() -> None:
    """A GPU would have to finish first. The meta device has no values, and raises where one is asked for."""
    depth, fov = torch.rand(2, 16, 16, device="meta"), torch.rand(2, device="meta")
    predicted = DepthPrediction(depth, depth, depth, fov).resized(32, 48).to_metric_depth()
    assert predicted[:1].network_input(64, 96).shape == (1, 3, 64, 96)
    assert predicted.network_input(8, 12).shape == (2, 3, 8, 12)
    assert predicted.points().shape == (2, 32, 48, 3)
