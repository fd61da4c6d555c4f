"""The losses of the training and its averages, by hand."""

import math

import pytest
import torch

from sf_model.depth.metric_depth import LOG_DEPTH_STD
from sf_model.models.depth_prediction import DepthPrediction
from sf_model.models.flow_times import shifted_times
from sf_model.training.average import ParameterAverage
from sf_model.training.flow import euler_sample, interpolate
from sf_model.training.losses import (
    CONFIDENCE_WEIGHT,
    DIFFERENCE_WEIGHT,
    FOV_WEIGHT,
    VALIDITY_WEIGHT,
    depth_losses,
    difference_loss,
    language_loss,
)


def test_depth_loss_by_hand() -> None:
    # One pixel at 1 m predicted a factor e too far, one of sky predicted as surface with even odds.
    prediction = DepthPrediction(
        log_depth=torch.tensor([[[1.0, 5.0]]]),
        validity_logit=torch.zeros(1, 1, 2),
        confidence_logit=torch.zeros(1, 1, 2),
        fov_y_deg=torch.tensor([66.0]),
    )
    losses = depth_losses(prediction, torch.tensor([[[1.0, math.inf]]]), torch.tensor([60.0]))
    log_depth, validity, fov = 1 / LOG_DEPTH_STD**2, math.log(2), 0.1**2
    # Confidence 1/2: c * r - log c with r = 1 / 0.1 at the surface and 0.5 / 0.1 at the sky.
    confidence = (0.5 * 10 + 0.5 * 5) / 2 + math.log(2)
    assert losses["log_depth"].item() == pytest.approx(log_depth, rel=1e-5)
    assert losses["validity"].item() == pytest.approx(validity, rel=1e-5)
    assert losses["fov"].item() == pytest.approx(fov, rel=1e-4)
    assert losses["confidence"].item() == pytest.approx(confidence, rel=1e-5)
    total = log_depth + VALIDITY_WEIGHT * validity + CONFIDENCE_WEIGHT * confidence + FOV_WEIGHT * fov
    assert losses["depth"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("error", "best"), [(0.05, 1.0), (0.2, 0.5), (1.0, 0.1)])
def test_confidence_learns_the_error(error: float, best: float) -> None:
    """The loss's minimum over c lies at min(1, 0.1 / error)."""
    logits = torch.linspace(-5, 8, 500).view(500, 1, 1)
    values = [
        depth_losses(
            DepthPrediction(torch.full((1, 1, 1), error), torch.zeros(1, 1, 1), logit.view(1, 1, 1), torch.ones(1)),
            torch.ones(1, 1, 1),
            torch.ones(1),
        )["confidence"].item()
        for logit in logits
    ]
    at_minimum = torch.sigmoid(logits[values.index(min(values))]).item()
    assert at_minimum == pytest.approx(best, abs=0.01)


def test_confidence_never_softens_the_depth() -> None:
    log_depth = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]], requires_grad=True)
    prediction = DepthPrediction(log_depth, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.ones(1))
    losses = depth_losses(prediction, torch.ones(1, 2, 2), torch.ones(1))
    (both,) = torch.autograd.grad(losses["depth"], log_depth, retain_graph=True)
    (alone,) = torch.autograd.grad(losses["log_depth"] + DIFFERENCE_WEIGHT * losses["differences"], log_depth)
    assert torch.equal(both, alone)


def test_the_total_counts_differences_and_an_image_s_weight() -> None:
    """The second image is a copy with four times the weight; the first three parts count it so, the others do not."""
    log_depth = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    depth = torch.ones(1, 2, 2)

    def losses(times: int, weight: torch.Tensor | None) -> dict[str, torch.Tensor]:
        many = (log_depth.expand(times, 2, 2), torch.zeros(times, 2, 2), torch.zeros(times, 2, 2))
        fov = torch.full((times,), 60.0)
        return depth_losses(DepthPrediction(*many, 1.1 * fov), depth.expand(times, 2, 2), fov, weight)

    alone, weighted = losses(1, None), losses(2, torch.tensor([1.0, 4.0]))
    # Differences at distance 1: across 1 and 2, down 2 and 3; over 4 pixels.
    assert alone["differences"].item() == pytest.approx((1 + 4 + 4 + 9) / 4 / LOG_DEPTH_STD**2, rel=1e-5)
    for part in ("log_depth", "differences", "validity"):
        assert weighted[part].item() == pytest.approx(2.5 * alone[part].item(), rel=1e-5)
    for part in ("confidence", "fov"):
        assert weighted[part].item() == pytest.approx(alone[part].item(), rel=1e-5)
    total = alone["log_depth"] + DIFFERENCE_WEIGHT * alone["differences"] + VALIDITY_WEIGHT * alone["validity"]
    total = total + CONFIDENCE_WEIGHT * alone["confidence"] + FOV_WEIGHT * alone["fov"]
    assert alone["depth"].item() == pytest.approx(total.item(), rel=1e-6)


def random_prediction(images: int) -> tuple[DepthPrediction, torch.Tensor, torch.Tensor]:
    """Predictions of 6 x 6 pixels, true depths of which the first is nearly all sky, and fields of view."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, images, 6, 6, generator=generator)
    depth_m = torch.rand(images, 6, 6, generator=generator) * 9 + 1
    depth_m[0, :5] = math.inf
    fov_y_deg = torch.rand(images, generator=generator) * 40 + 30
    return DepthPrediction(*maps, 1.1 * fov_y_deg), depth_m, fov_y_deg


def some(prediction: DepthPrediction, rows: slice) -> DepthPrediction:
    return DepthPrediction(
        prediction.log_depth[rows],
        prediction.validity_logit[rows],
        prediction.confidence_logit[rows],
        prediction.fov_y_deg[rows],
    )


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_any_split_of_a_step_gives_the_same_depth_losses(micro_batch: int) -> None:
    """An image that is mostly sky counts as much as another, and so does one whose depth was given."""
    prediction, depth_m, fov_y_deg = random_prediction(6)
    weight = torch.tensor([1.0, 4.0, 2.0, 1.0, 25.0, 1.0])
    is_given = torch.tensor([False, True, True, False, True, True])
    whole = depth_losses(prediction, depth_m, fov_y_deg, weight, is_given)
    rows = [slice(start, start + micro_batch) for start in range(0, 6, micro_batch)]
    parts = [depth_losses(some(prediction, r), depth_m[r], fov_y_deg[r], weight[r], is_given[r]) for r in rows]
    for name, value in whole.items():
        mean = sum(part[name].item() for part in parts) / len(parts)
        assert mean == pytest.approx(value.item(), rel=1e-5), name


def test_an_image_of_mostly_sky_counts_as_much_as_another() -> None:
    """By hand: 1 pixel of 36 is off by 2 in one image, all 36 by 1 in the other."""
    log_depth = torch.zeros(2, 6, 6)
    log_depth[0, 0, 0], log_depth[1] = 2.0, 1.0
    depth_m = torch.ones(2, 6, 6)
    depth_m[0] = math.inf
    depth_m[0, 0, 0] = 1.0
    zeros = torch.zeros(2, 6, 6)
    losses = depth_losses(DepthPrediction(log_depth, zeros, zeros, torch.ones(2)), depth_m, torch.ones(2))
    assert losses["log_depth"].item() == pytest.approx((4 + 1) / 2 / LOG_DEPTH_STD**2, rel=1e-5)


def test_confidence_is_learned_only_where_the_depth_was_not_given() -> None:
    prediction, depth_m, fov_y_deg = random_prediction(4)
    logit = prediction.confidence_logit.requires_grad_()
    is_given = torch.tensor([True, False, True, False])
    depth_losses(prediction, depth_m, fov_y_deg, is_given=is_given)["depth"].backward()
    learns = logit.grad.abs().amax(dim=(1, 2)) > 0
    assert torch.equal(learns, ~is_given)
    none = depth_losses(prediction, depth_m, fov_y_deg, is_given=torch.ones(4, dtype=torch.bool))
    assert none["confidence"].item() == 0.0


def test_difference_loss_by_hand() -> None:
    """A step of 1 between two columns of three rows, beside a column of sky: of the distances 1, 2, 4, 8 only 1 joins
    two surfaces across (3 pairs); down, nothing differs. 6 pixels have a surface."""
    error = torch.tensor([[[0.0, 1.0, 0.0]] * 3])
    valid = torch.tensor([[[True, True, False]] * 3])
    assert difference_loss(error, valid).item() == pytest.approx(3 / 6)
    assert difference_loss(torch.full((1, 16, 16), 2.0), torch.ones(1, 16, 16, dtype=torch.bool)).item() == 0.0
    # One wrong pixel in a line of ten: pairs at distance 1 and 2 on both of its sides, 4 and 8 on one only.
    line = torch.zeros(1, 1, 10)
    line[0, 0, 3] = 0.5
    assert difference_loss(line, torch.ones(1, 1, 10, dtype=torch.bool)).item() == pytest.approx(5 * 0.25 / 10)


def test_language_loss_ignores_padding() -> None:
    logits = torch.zeros(1, 4, 8)
    logits[0, 0, 3] = 100.0  # token 3 follows surely; then even odds over 8; then padding
    ids, mask = torch.tensor([[1, 3, 5, 0]]), torch.tensor([[True, True, True, False]])
    assert language_loss(logits, ids, mask).item() == pytest.approx(math.log(8) / 2, rel=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_any_split_of_a_step_gives_the_same_language_loss(micro_batch: int) -> None:
    """Documents of different lengths count alike."""
    generator = torch.Generator().manual_seed(0)
    logits, ids = torch.randn(4, 9, 8, generator=generator), torch.randint(0, 8, (4, 9), generator=generator)
    mask = torch.arange(9) < torch.tensor([9, 3, 5, 2])[:, None]
    rows = [slice(start, start + micro_batch) for start in range(0, 4, micro_batch)]
    mean = sum(language_loss(logits[r], ids[r], mask[r]).item() for r in rows) / len(rows)
    assert mean == pytest.approx(language_loss(logits, ids, mask).item(), rel=1e-5)


def test_flow_goes_from_noise_to_data() -> None:
    data, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(interpolate(data, noise, torch.ones(2)), data)
    assert torch.equal(interpolate(data, noise, torch.zeros(2)), noise)
    # Straight paths: the exact velocity reaches the data in any number of steps, whatever the shift.
    reached = euler_sample(lambda x, t: data - noise, noise, steps=7, shift=2.6)
    torch.testing.assert_close(reached, data, atol=1e-5, rtol=1e-5)


def test_shifted_times_by_hand() -> None:
    # sigma 1/2 with shift 3: 1.5 / 2 = 0.75, so a quarter of the way in time.
    assert shifted_times(2, 3.0).tolist() == [0.0, 0.25, 1.0]


def test_the_average_follows_and_is_applied_only_inside() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = ParameterAverage({"w": weight}, decay=0.5)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update({"w": weight}, step=1)  # decay (1 + 1) / (10 + 1) = 2 / 11
    with average.applied({"w": weight}):
        torch.testing.assert_close(weight.data, torch.full((3,), 9 / 11))
    assert weight.data.tolist() == [1.0, 1.0, 1.0]
