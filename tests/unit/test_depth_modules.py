"""Depth head, predictor and adapter."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import DPTConfig
from transformers.models.dpt.modeling_dpt import DPTNeck

from sf_model.config import DUMMY, DepthHeadConfig, SpatialFusionConfig
from sf_model.depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD, MAX_DEPTH_M, MIN_DEPTH_M, MetricDepth
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_head import UPSCALE, DepthHead, tap_layers
from sf_model.models.depth_prediction import DepthPrediction
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs, SourceFeatures


def inputs(height: int, width: int, batch: int = 1, **others: Any) -> ExpertInputs:
    shape = (batch, DUMMY.mllm.num_kv_heads, 5, DUMMY.mllm.head_dim)
    pairs = [(torch.randn(shape), torch.randn(shape)) for _ in range(DUMMY.mllm.num_layers)]
    return ExpertInputs(pairs, height, width, **others)


def head_maps(head: DepthHead, states: list[torch.Tensor]) -> torch.Tensor:
    """Of a grid of 3 x 5 queries, without a noisy depth."""
    return head.output(head.fuse(states, 3, 5), states[-1], None)


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
    maps = head_maps(head, [torch.randn(2, 15, 24)] * 3)
    assert maps.shape == (2, 3, 3 * UPSCALE, 5 * UPSCALE)
    assert torch.equal(maps[:, 0], torch.full((2, 24, 40), LOG_DEPTH_MEAN))


def test_a_query_gives_the_pixels_of_its_own_patch() -> None:
    """Channel by channel, row by row: the last layer's state alone, and no pixel of another patch."""
    head = DepthHead(DUMMY.depth_head, hidden_size=24, num_layers=3)
    torch.nn.init.zeros_(head.out_conv2.weight)
    torch.nn.init.zeros_(head.out_conv2.bias)
    with torch.no_grad():
        head.patch_out.bias.copy_(torch.arange(3 * UPSCALE**2))
    maps = head_maps(head, [torch.randn(1, 15, 24)] * 3)
    normalised = (maps[0, 0] - LOG_DEPTH_MEAN) / LOG_DEPTH_STD
    patch = torch.arange(UPSCALE**2, dtype=torch.float32).view(UPSCALE, UPSCALE)
    torch.testing.assert_close(normalised, patch.repeat(3, 5))
    torch.testing.assert_close(maps[0, 1], (patch + UPSCALE**2).repeat(3, 5))
    torch.nn.init.normal_(head.patch_out.weight)
    states = torch.randn(1, 15, 24)
    other = states.clone()
    other[0, 1 * 5 + 3] = torch.randn(24)  # row 1, column 3
    before, after = head_maps(head, [states] * 3), head_maps(head, [states, states, other])
    changed = (after != before)[0].any(dim=0)
    assert changed.nonzero().amin(dim=0).tolist() == [UPSCALE, 3 * UPSCALE]
    assert changed.nonzero().amax(dim=0).tolist() == [2 * UPSCALE - 1, 4 * UPSCALE - 1]


def test_checkpoints_from_before_the_patches_load_without_them() -> None:
    old = DUMMY.to_dict()
    del old["version"], old["depth_head"]["patch_output"]
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
    change = (head_maps(head, [other] * 3) - head_maps(head, [states] * 3))[0, 0].abs()
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


@torch.no_grad()
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (2, 6)])
def test_the_fusion_is_that_of_transformers_dpt(rows: int, columns: int) -> None:
    """The same weights in transformers' neck, which is told to align its corners as this head does.

    Even sides: of odd ones transformers resizes the finer map to the coarser one, this head the other way round.
    """
    torch.manual_seed(0)
    head = DepthHead(DepthHeadConfig((8, 12, 16, 20), 10, patch_output=False), hidden_size=24, num_layers=4)
    neck = DPTNeck(
        DPTConfig(
            hidden_size=24,
            num_hidden_layers=4,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 12, 16, 20],
            reassemble_factors=[4, 2, 1, 0.5],
            fusion_hidden_size=10,
            readout_type="ignore",
            use_batch_norm_in_fusion_residual=False,
            use_bias_in_fusion_residual=True,
        )
    ).eval()
    state: dict[str, torch.Tensor] = {}
    for level in range(4):
        state |= prefixed(head.projects[level], f"reassemble_stage.layers.{level}.projection")
        state |= prefixed(head.resizes[level], f"reassemble_stage.layers.{level}.resize")
        state |= prefixed(head.scratch[level], f"convs.{level}")
        # transformers counts its fusions from the coarsest map.
        fusion, layer = head.fusions[3 - level], f"fusion_stage.layers.{level}"
        state |= prefixed(fusion.out_conv, f"{layer}.projection")
        for unit, theirs in ((fusion.skip_unit, "residual_layer1"), (fusion.unit, "residual_layer2")):
            for number in (1, 2) if unit is not None else ():
                state |= prefixed(getattr(unit, f"conv{number}"), f"{layer}.{theirs}.convolution{number}")
    missing, unexpected = neck.load_state_dict(state, strict=False)
    assert unexpected == []
    # The coarsest fusion has nothing to add: transformers builds the unit for it, and never calls it.
    assert {name.rpartition(".convolution")[0] for name in missing} == {"fusion_stage.layers.0.residual_layer1"}
    for fusion in neck.fusion_stage.layers:
        fusion.align_corners = False
    states = [torch.randn(2, rows * columns, 24) for _ in range(4)]
    normed = [norm(x) for norm, x in zip(head.norms, states)]
    # It leaves out the first token, which stands for the whole image.
    expected = neck([torch.cat([x[:, :1], x], dim=1) for x in normed], rows, columns)[-1]
    torch.testing.assert_close(head.fuse(states, rows, columns), expected, rtol=1e-4, atol=1e-5)


def prefixed(module: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def test_edges_stay_edges_where_a_prediction_is_enlarged() -> None:
    """A box at 2 m before a wall at 5 m, sky above: four times as large, there is nothing in between."""
    log_depth = torch.full((1, 8, 8), math.log(5.0))
    log_depth[:, 3:6, 2:6] = math.log(2.0)
    validity = torch.full((1, 8, 8), 3.0)
    validity[:, :2] = -3.0
    log_depth[:, :2] = math.log(100.0)
    small = DepthPrediction(log_depth, validity, torch.zeros(1, 8, 8), torch.tensor([50.0]))
    depth = small.resized(32, 32).to_metric_depth().depth[0]
    assert sorted(set(depth.flatten().round(decimals=3).tolist())) == [2.0, 5.0, math.inf]
    # Each where it was: the nearest sample's.
    expected = small.to_metric_depth().depth[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
    torch.testing.assert_close(depth, expected)


def test_a_step_to_the_sky_is_no_slope() -> None:
    """Two poles side by side before the sky, a sample wide each: nothing floats between them."""
    log_depth = torch.full((1, 8, 8), math.log(100.0))
    log_depth[:, :, 3], log_depth[:, :, 4] = math.log(2.0), math.log(5.0)
    validity = torch.full((1, 8, 8), -3.0)
    validity[:, :, 3:5] = 3.0
    small = DepthPrediction(log_depth, validity, torch.zeros(1, 8, 8), torch.tensor([50.0]))
    depth = small.resized(64, 64).to_metric_depth().depth[0]
    assert sorted(set(depth.flatten().round(decimals=3).tolist())) == [2.0, 5.0, math.inf]


def test_a_slope_is_enlarged_as_well_as_by_interpolation() -> None:
    """A floor at a low angle, whose depth changes by more from row to row than many an edge."""

    def floor(rows: int) -> torch.Tensor:
        down = (torch.arange(rows) + 0.5) / rows
        return (0.5 / (down + 0.05)).log().expand(1, rows, rows).transpose(1, 2).contiguous()

    small = DepthPrediction(floor(16), torch.ones(1, 16, 16), torch.zeros(1, 16, 16), torch.tensor([50.0]))
    error = (small.resized(64, 64).log_depth - floor(64)).abs()
    plain = torch.nn.functional.interpolate(floor(16)[:, None], size=(64, 64), mode="bilinear")[:, 0]
    assert error.mean() <= (plain - floor(64)).abs().mean() + 1e-6


def test_gradients_of_an_enlarged_prediction_reach_the_network() -> None:
    log_depth = torch.randn(1, 8, 8, requires_grad=True)
    small = DepthPrediction(log_depth, torch.ones(1, 8, 8), torch.zeros(1, 8, 8), torch.tensor([50.0]))
    small.resized(20, 32).log_depth.sum().backward()
    assert log_depth.grad is not None and (log_depth.grad > 0).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24), (37, 51), (16, 100)])
@torch.no_grad()
def test_any_size_is_predicted_exactly(height: int, width: int) -> None:
    prediction = DepthPredictor(DUMMY)(inputs(height, width, batch=2))
    assert prediction.log_depth.shape == (2, height, width)
    assert prediction.to_metric_depth().points().shape == (2, height, width, 3)
    assert ((prediction.fov_y_deg > 5) & (prediction.fov_y_deg < 150)).all()


def test_source_image_needs_an_encoder_of_its_width() -> None:
    predictor = DepthPredictor(DUMMY)
    with pytest.raises(ValueError, match="have 10 channels, the checkpoint reads 12"):
        predictor(inputs(32, 32, source=SourceFeatures(torch.randn(1, 4, 10), (2, 2))))
    without = dataclasses.replace(
        DUMMY,
        spatial_transformer=dataclasses.replace(
            DUMMY.spatial_transformer, source_feature_dim=None, source_at_queries=False
        ),
    )
    with pytest.raises(ValueError, match="disconnect the source image: .* was trained without source images"):
        DepthPredictor(without)(inputs(32, 32, source=SourceFeatures(torch.randn(1, 4, 12), (2, 2))))


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
