"""Depth head, predictor and adapter."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from sf_model.config import DUMMY, SpatialFusionConfig
from sf_model.depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD, MAX_DEPTH_M, MIN_DEPTH_M, MetricDepth
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_head import UPSCALE, DepthHead, tap_layers
from sf_model.models.depth_prediction import DepthPrediction
from sf_model.models.depth_predictor import DepthPredictor


def keys_values(batch: int = 1, length: int = 5) -> list[tuple[torch.Tensor, torch.Tensor]]:
    shape = (batch, DUMMY.mllm.num_kv_heads, length, DUMMY.mllm.head_dim)
    return [(torch.randn(shape), torch.randn(shape)) for _ in range(DUMMY.mllm.num_layers)]


def flat_depth(batch: int = 1, size: int = 32, confidence: float = 1.0) -> MetricDepth:
    depth = torch.rand(batch, size, size) * 5 + 1
    return MetricDepth(depth, torch.full_like(depth, confidence), torch.full((batch,), 50.0))


def trained_adapter(injection_channels: int = 32) -> DepthAdapter:
    config = dataclasses.replace(DUMMY.depth_adapter, out_channels=injection_channels)
    adapter = DepthAdapter(config)
    torch.nn.init.normal_(adapter.out.weight)
    return adapter


@pytest.mark.parametrize(
    ("layers", "taps"), [(10, [2, 4, 7, 9]), (4, [0, 1, 2, 3]), (3, [0, 1, 2, 2]), (1, [0, 0, 0, 0])]
)
def test_taps_end_with_the_last_layer(layers: int, taps: list[int]) -> None:
    assert tap_layers(layers) == taps


def test_head_of_zero_output_says_the_mean_depth() -> None:
    head = DepthHead(DUMMY.depth_head, hidden_size=24, num_layers=3)
    torch.nn.init.zeros_(head.out_conv2.weight)
    torch.nn.init.zeros_(head.out_conv2.bias)
    maps = head([torch.randn(2, 15, 24)] * 3, rows=3, columns=5)
    assert maps.shape == (2, 3, 3 * UPSCALE, 5 * UPSCALE)
    assert torch.equal(maps[:, 0], torch.full((2, 24, 40), LOG_DEPTH_MEAN))


def test_a_query_gives_the_pixels_of_its_own_patch() -> None:
    """Channel by channel, row by row: the last layer's state alone, and no pixel of another patch."""
    head = DepthHead(DUMMY.depth_head, hidden_size=24, num_layers=3)
    torch.nn.init.zeros_(head.out_conv2.weight)
    torch.nn.init.zeros_(head.out_conv2.bias)
    with torch.no_grad():
        head.patch_out.bias.copy_(torch.arange(3 * UPSCALE**2))
    maps = head([torch.randn(1, 15, 24)] * 3, rows=3, columns=5)
    normalised = (maps[0, 0] - LOG_DEPTH_MEAN) / LOG_DEPTH_STD
    patch = torch.arange(UPSCALE**2, dtype=torch.float32).view(UPSCALE, UPSCALE)
    torch.testing.assert_close(normalised, patch.repeat(3, 5))
    torch.testing.assert_close(maps[0, 1], (patch + UPSCALE**2).repeat(3, 5))
    torch.nn.init.normal_(head.patch_out.weight)
    states = torch.randn(1, 15, 24)
    other = states.clone()
    other[0, 1 * 5 + 3] = torch.randn(24)  # row 1, column 3
    changed = (head([states, states, other], 3, 5) != head([states, states, states], 3, 5))[0].any(dim=0)
    assert changed.nonzero().amin(dim=0).tolist() == [UPSCALE, 3 * UPSCALE]
    assert changed.nonzero().amax(dim=0).tolist() == [2 * UPSCALE - 1, 4 * UPSCALE - 1]


def test_checkpoints_from_before_the_patches_load_without_them() -> None:
    old = DUMMY.to_dict()
    del old["depth_head"]["patch_output"]
    config = SpatialFusionConfig.from_dict(old)
    assert config == dataclasses.replace(DUMMY, depth_head=dataclasses.replace(DUMMY.depth_head, patch_output=False))
    assert not any("patch" in name for name in DepthHead(config.depth_head, 24, 3).state_dict())


def test_rows_and_columns_are_not_swapped() -> None:
    """A state that differs in one query moves the depth where that query lies most."""
    torch.manual_seed(0)
    head = DepthHead(DUMMY.depth_head, hidden_size=24, num_layers=3)
    states = torch.zeros(1, 15, 24)
    other = states.clone()
    other[0, 1 * 5 + 3] = torch.randn(24)  # row 1, column 3
    change = (head([other] * 3, 3, 5) - head([states] * 3, 3, 5))[0, 0].abs()
    peak = change.flatten().argmax().item()
    assert (peak // 40 // UPSCALE, peak % 40 // UPSCALE) == (1, 3)


def test_bounds_of_the_metric_depth() -> None:
    prediction = DepthPrediction(
        log_depth=torch.tensor([[[-50.0, 50.0, math.log(2.0)]]]),
        validity_logit=torch.tensor([[[1.0, 1.0, -1.0]]]),
        confidence_logit=torch.zeros(1, 1, 3),
        fov_y_deg=torch.tensor([60.0]),
    )
    depth = prediction.to_metric_depth()
    torch.testing.assert_close(depth.depth[0, 0, :2], torch.tensor([MIN_DEPTH_M, MAX_DEPTH_M]))
    assert depth.depth[0, 0, 2] == math.inf
    assert (depth.confidence == 0.5).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24), (37, 51), (16, 100)])
@torch.no_grad()
def test_any_size_is_predicted_exactly(height: int, width: int) -> None:
    prediction = DepthPredictor(DUMMY)(keys_values(2), height, width)
    assert prediction.log_depth.shape == (2, height, width)
    assert prediction.to_metric_depth().points().shape == (2, height, width, 3)
    assert ((prediction.fov_y_deg > 5) & (prediction.fov_y_deg < 150)).all()


def test_source_image_needs_an_encoder_of_its_width() -> None:
    predictor = DepthPredictor(DUMMY)
    with pytest.raises(ValueError, match="have 10 channels, this checkpoint reads 12"):
        predictor(keys_values(), 32, 32, source_features=torch.randn(1, 4, 10), source_grid=(2, 2))
    without = dataclasses.replace(
        DUMMY,
        spatial_transformer=dataclasses.replace(
            DUMMY.spatial_transformer, source_feature_dim=None, source_at_queries=False
        ),
    )
    with pytest.raises(ValueError, match="trained without source images; disconnect"):
        DepthPredictor(without)(keys_values(), 32, 32, source_features=torch.randn(1, 4, 12), source_grid=(2, 2))


def test_an_untrained_adapter_changes_nothing() -> None:
    features = DepthAdapter(DUMMY.depth_adapter).infer(flat_depth(), 4, 4, torch.float32)
    assert features.shape == (1, 32, 4, 4)
    assert not features.any()


def test_no_confidence_leaves_the_model_free() -> None:
    adapter = trained_adapter()
    depth = flat_depth()
    confidence = torch.ones(1, 32, 32)
    confidence[:, :16] = 0.0
    features = adapter.infer(MetricDepth(depth.depth, confidence, depth.fov_y_deg), 4, 4, torch.float32)
    assert not features[:, :, :2].any()
    assert features[:, :, 2:].abs().amin(dim=(0, 1)).gt(0).all()


def test_confidence_above_0_does_not_scale_the_features() -> None:
    """It is an input of the network; only a cell without any is switched off."""
    adapter = trained_adapter()
    depth = flat_depth(confidence=0.01)
    features = adapter.infer(depth, 4, 4, torch.float32)
    assert torch.equal(features, adapter(depth.network_input(32, 32)))


class ResizeDevices(TorchFunctionMode):
    """Records on which devices tensors are resized."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.nn.functional.interpolate:
            self.devices.append(arguments[0].device.type)
        return function(*arguments, **(options or {}))


def test_depth_is_resized_where_it_lies_and_the_network_runs_elsewhere() -> None:
    adapter = DepthAdapter(DUMMY.depth_adapter, dtype=torch.float16, device="meta")  # a device that computes nothing
    with ResizeDevices() as resizes:
        features = adapter.infer(flat_depth(size=50), 4, 4, torch.float16, torch.device("meta"))
    assert resizes.devices == ["cpu", "cpu"]
    assert (features.device.type, features.dtype, features.shape) == ("meta", torch.float16, (1, 32, 4, 4))


def test_gradients_reach_the_depth_through_the_resizing() -> None:
    adapter = trained_adapter()
    depth = (torch.rand(1, 50, 50) + 1).requires_grad_()
    confidence = torch.full((1, 50, 50), 0.5, requires_grad=True)
    adapter.infer(MetricDepth(depth, confidence, torch.tensor([50.0])), 4, 4, torch.float32).square().sum().backward()
    for gradient in (depth.grad, confidence.grad):
        assert gradient is not None
        assert gradient.abs().amin() > 0


@pytest.mark.parametrize("channels", [16, 32])
def test_the_adapter_reads_depth_at_its_cells(channels: int) -> None:
    adapter = trained_adapter(channels)
    depth = flat_depth(2, size=64)
    before = adapter.infer(depth, 4, 4, torch.float32)
    moved = depth.depth.clone()
    moved[:, :16, :16] *= 3
    after = adapter.infer(MetricDepth(moved, depth.confidence, depth.fov_y_deg), 4, 4, torch.float32)
    change = (after - before).abs().sum(dim=1)
    assert change.shape == (2, 4, 4)
    assert (change.flatten(1).argmax(dim=1) == 0).all()
