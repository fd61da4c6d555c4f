"""Depth pictures of preprocessors to metres: every encoding against the formula of the node that draws it."""

from __future__ import annotations

import math

import pytest
import torch

from sf_model.depth.from_image import (
    ABSOLUTE,
    DA3_RAW,
    DEPTH,
    DISPARITY,
    ENCODINGS,
    INVERSE,
    METRIC_DEPTH,
    STRETCHED,
    GreyScale,
    depth_from_image,
)
from sf_model.depth.images import disparity_picture
from sf_model.depth.lens import RAY
from sf_model.depth.metric_depth import MetricDepth

FOV_DEG = 53.7
SCALE = GreyScale(DISPARITY, 2.0, 10.0)

GREYS = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 4, 1).expand(1, 2, 4, 3)


@pytest.mark.parametrize(
    "encoding, invert, expected",
    [
        (DEPTH, False, [10.0, 8.0, 6.0, 2.0]),
        (DEPTH, True, [2.0, 4.0, 6.0, 10.0]),
        # 1 / z = 0.1 + grey * 0.4
        (DISPARITY, False, [10.0, 5.0, 1 / 0.3, 2.0]),
        (DISPARITY, True, [2.0, 2.5, 1 / 0.3, 10.0]),
    ],
)
def test_image_to_metres(encoding: str, invert: bool, expected: list[float]) -> None:
    depth = depth_from_image(GREYS, GreyScale(encoding, 2.0, 10.0, invert), 50.0)
    torch.testing.assert_close(depth.depth, torch.tensor(expected).expand(1, 2, 4))
    assert depth.fov_y_deg.tolist() == [50.0]
    assert (depth.confidence == 1).all()


def test_image_to_metres_undoes_depth_to_images() -> None:
    generator = torch.Generator().manual_seed(3)
    metres = 0.2 * 300 ** torch.rand(2, 33, 47, generator=generator)
    metres[:, :5] = torch.inf
    depth = MetricDepth(metres, torch.ones_like(metres), torch.tensor([FOV_DEG, FOV_DEG]))
    picture = disparity_picture(depth, 0.2, 60.0)[..., None].expand(-1, -1, -1, 3)
    back = depth_from_image(picture, GreyScale(DISPARITY, 0.2, 60.0), FOV_DEG, no_surface=(~depth.valid).float())
    assert torch.equal(back.valid, depth.valid)
    torch.testing.assert_close(back.depth, depth.depth, rtol=1e-4, atol=0)


def test_masks_of_other_sizes_are_resized() -> None:
    mask = torch.tensor([[[1.0, 0.0]]])
    for images in (1, 3):
        depth = depth_from_image(GREYS.expand(images, -1, -1, -1), SCALE, 50.0, no_surface=mask)
        assert depth.valid.tolist() == [[[False, False, True, True]] * 2] * images
    with pytest.raises(
        ValueError, match="give one mask, or one each: the mask has a batch of 2, but the image a batch of 3"
    ):
        depth_from_image(GREYS.expand(3, -1, -1, -1), SCALE, 50.0, no_surface=mask.expand(2, -1, -1))


def test_masks_of_another_shape_and_with_nan_are_refused() -> None:
    """As everywhere in the pack: stretched they would be in the wrong place."""
    with pytest.raises(ValueError, match="crop one .*: the mask is 2x2 .*and the image 4x2"):
        depth_from_image(GREYS, SCALE, 50.0, no_surface=torch.eye(2)[None])
    with pytest.raises(ValueError, match="connect a mask .*: the mask has NaN values"):
        depth_from_image(GREYS, SCALE, 50.0, no_surface=torch.tensor([[[1.0, math.nan]]]))
    assert depth_from_image(GREYS, SCALE, 50.0, no_surface=torch.zeros(1, 64, 64)).valid.all()


def test_constant_and_one_channel_images() -> None:
    depth = depth_from_image(torch.full((1, 4, 4, 1), 0.5), GreyScale(DEPTH, 1.0, 3.0), 50.0)
    assert (depth.depth == 2).all()


@pytest.mark.parametrize(
    "image, near_m, far_m, message",
    [
        (GREYS, 10.0, 2.0, "swap near_m and far_m.*near_m .10. must be above 0 and below far_m .2."),
        (GREYS, 2.0, 2.0, "must be above 0 and below far_m"),
        (
            GREYS * 20,
            2.0,
            10.0,
            "metric_depth .* values from 0 to 20, but a picture of disparity has 0 to 1",
        ),
        (-GREYS, 2.0, 10.0, "values from -1 to"),
        (GREYS * torch.nan, 2.0, 10.0, "Load Metric Depth.*NaN or infinite"),
        (GREYS / 0, 2.0, 10.0, "NaN or infinite"),
        (GREYS * torch.tensor([1.0, 0.5, 0.0]), 2.0, 10.0, "switch off the colour map.*coloured"),
    ],
)
def test_bad_images_name_the_remedy(image: torch.Tensor, near_m: float, far_m: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        depth_from_image(image, GreyScale(DISPARITY, near_m, far_m), 50.0)


METRES = torch.linspace(1.5, 24.0, 40).view(1, 5, 8)


def stretch(values: torch.Tensor) -> torch.Tensor:
    """To [0, 1], as all these nodes do it."""
    return (values - values.min()) / (values.max() - values.min())


# What the nodes draw of metres, near white.
DRAWN = {
    DISPARITY: lambda metres: stretch(1 / metres),
    DEPTH: lambda metres: 1 - stretch(metres),
    # kijai/ComfyUI-Marigold and ComfyUI-DepthAnythingV2: 1 - (the model's depth, stretched)
    "MarigoldDepthEstimation": lambda metres: 1 - stretch(metres),
    "metric (Depth Anything V2)": lambda metres: 1 - stretch(metres),
    # visualbruno/ComfyUI-Marigold-v2: min-max of log, linear or inverse depth, near_is_bright
    "Log (Marigold V2)": lambda metres: 1 - stretch(metres.log()),
    "Uniform (Marigold V2)": lambda metres: 1 - stretch(metres),
    "Disparity (Marigold V2)": lambda metres: stretch(1 / metres),
    # the host's nodes_depth_anything_3, without its percentiles
    "v2_style (Render Depth Anything 3)": lambda metres: 1 - stretch(metres),
    "min_max (Render Depth Anything 3)": lambda metres: 1 - stretch(metres),
    # spacepxl/ComfyUI-Depth-Pro: stretched 1 / (1 + depth)
    "Metric Depth to Relative (Depth Pro)": lambda metres: stretch(1 / (1 + metres)),
    "Metric Depth to Inverse (Depth Pro)": lambda metres: 1 / (1 + metres),
    "metric_depth (Depth Pro)": lambda metres: metres,
    "raw (Render Depth Anything 3)": lambda metres: metres / 1.176,
}


def test_every_encoding_is_tested() -> None:
    assert set(DRAWN) == set(ENCODINGS) == set(STRETCHED) | set(ABSOLUTE)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("encoding", DRAWN)
def test_what_a_node_draws_becomes_its_metres_again(encoding: str, invert: bool) -> None:
    drawn = DRAWN[encoding](METRES)
    if invert and encoding in STRETCHED:
        drawn = 1 - drawn
    scale = GreyScale(encoding, 1.5, 24.0, invert, 1.176 if encoding == DA3_RAW else 1.0)
    depth = depth_from_image(drawn.unsqueeze(-1).expand(-1, -1, -1, 3), scale, FOV_DEG)
    torch.testing.assert_close(depth.depth, METRES, rtol=1e-4, atol=0)


def test_values_that_are_no_distance_are_no_surface() -> None:
    values = torch.tensor([0.0, -1.0, math.nan, math.inf, 3.0]).view(1, 1, 5, 1)
    depth = depth_from_image(values, GreyScale(METRIC_DEPTH), 50.0).depth
    assert torch.equal(depth, torch.tensor([[[math.inf] * 4 + [3.0]]]))
    values = torch.tensor([0.0, 1.0, 1.5, 0.25]).view(1, 1, 4, 1)
    depth = depth_from_image(values, GreyScale(INVERSE), 50.0).depth
    assert torch.equal(depth, torch.tensor([[[math.inf] * 3 + [3.0]]]))
    with pytest.raises(ValueError, match="connect the metric output.*no value of the image is a distance by metric_de"):
        depth_from_image(torch.zeros(1, 4, 4, 3), GreyScale(METRIC_DEPTH), 50.0)
    with pytest.raises(ValueError, match="switch off the colour map"):
        depth_from_image(torch.rand(1, 4, 4, 3) * 9, GreyScale(METRIC_DEPTH), 50.0)


def test_metres_may_be_those_along_the_rays() -> None:
    wall = MetricDepth(torch.full((1, 24, 24), 4.0), torch.ones(1, 24, 24), torch.tensor([90.0]))
    distance = wall.points().norm(dim=-1, keepdim=True)
    depth = depth_from_image(distance, GreyScale(METRIC_DEPTH), 90.0, distance=RAY)
    torch.testing.assert_close(depth.depth, wall.depth)


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="choose another encoding"):
        GreyScale("logarithm")
