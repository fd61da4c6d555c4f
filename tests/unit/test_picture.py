import math

import torch

from sf_model.depth.colours import FAR_M, NEAR_M, RAMP, SKY, depth_picture
from sf_model.depth.metric_depth import MetricDepth


def picture_of(*metres: float) -> list[list[float]]:
    depth = torch.tensor([[list(metres)]])
    return depth_picture(MetricDepth(depth, torch.ones_like(depth), torch.tensor([50.0])))[0, :, 0].T.tolist()


def test_ends_middle_and_sky() -> None:
    far, near, sky, beyond = picture_of(FAR_M, NEAR_M, math.inf, 10 * FAR_M)
    torch.testing.assert_close(torch.tensor([far, near, sky, beyond]), torch.tensor([RAMP[0], RAMP[-1], SKY, RAMP[0]]))
    (middle,) = picture_of(math.sqrt(NEAR_M * FAR_M))  # halfway in log metres: between the third and fourth anchor
    torch.testing.assert_close(torch.tensor(middle), (torch.tensor(RAMP[2]) + torch.tensor(RAMP[3])) / 2)


def test_nearer_is_lighter_all_the_way() -> None:
    metres = torch.logspace(math.log10(NEAR_M), math.log10(FAR_M), 64)
    weights = torch.tensor([0.2126, 0.7152, 0.0722])
    lightness = torch.tensor(picture_of(*metres.tolist())) @ weights
    assert (lightness.diff() < 0).all()
