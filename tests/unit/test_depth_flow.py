"""The depth flow: states by hand, an exact predictor, and the identity of an untrained input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from sf_model.config import DUMMY, SpatialFusionConfig
from sf_model.depth.metric_depth import LOG_DEPTH_MEAN, LOG_DEPTH_STD
from sf_model.models.depth_flow import (
    SKY,
    DepthSampling,
    NoisyDepth,
    depth_state,
    draw_noise,
    flow_weight,
    predicted_state,
    sample_depth,
)
from sf_model.models.depth_prediction import DepthPrediction
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs


def prediction(log_depth: torch.Tensor, validity_logit: torch.Tensor) -> DepthPrediction:
    batch = log_depth.shape[0]
    return DepthPrediction(log_depth, validity_logit, torch.zeros_like(log_depth), torch.full((batch,), 50.0))


def inputs(height: int, width: int, batch: int = 2, tokens: int = 5, **others: Any) -> ExpertInputs:
    mllm = DUMMY.mllm
    generator = torch.Generator().manual_seed(1)
    shape = (batch, mllm.num_kv_heads, tokens, mllm.head_dim)
    pairs = [tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(mllm.num_layers)]
    return ExpertInputs(pairs, height, width, **others)


def version_1(config: SpatialFusionConfig) -> dict[str, Any]:
    """As files had it before they carried a version."""
    return {name: value for name, value in config.to_dict().items() if name != "version"}


def test_state_by_hand() -> None:
    depth = torch.full((1, 8, 8), math.exp(LOG_DEPTH_MEAN))
    depth[0, 0, 0], depth[0, 0, 1] = math.inf, math.exp(LOG_DEPTH_MEAN + LOG_DEPTH_STD)
    state = depth_state(depth, 1, 1)
    assert state.shape == (1, 2, 8, 8)
    assert state[0, :, 0, :3].tolist() == [pytest.approx([SKY, 1.0, 0.0], abs=1e-5), [-1.0, 1.0, 1.0]]


def test_state_of_another_size_mixes_no_surfaces() -> None:
    depth = torch.ones(1, 16, 16)
    depth[:, :, 9:] = 10.0
    small, large = depth_state(depth, 1, 1)[0, 0], depth_state(depth, 2, 2)[0, 0]
    assert set(small.unique().tolist()) == set(large.unique().tolist())


def test_an_unsure_prediction_expects_the_mean() -> None:
    """Even odds of sky and of a surface at the mean depth: half of SKY, and validity 0."""
    state = predicted_state(prediction(torch.full((1, 8, 8), LOG_DEPTH_MEAN), torch.zeros(1, 8, 8)))
    assert torch.allclose(state[0, 0], torch.full((8, 8), SKY / 2))
    assert torch.equal(state[0, 1], torch.zeros(8, 8))


def test_the_weight_makes_a_velocity_error() -> None:
    assert flow_weight(torch.tensor([0.0, 0.5, 0.99])).tolist() == pytest.approx([1.0, 4.0, 25.0])


def test_sampling_reaches_what_is_predicted() -> None:
    """A predictor that always knows the scene: every step aims at it, and the last prediction is returned."""
    log_depth, validity = torch.full((1, 8, 8), 1.0), torch.full((1, 8, 8), 9.0)
    seen = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        assert not guided
        seen.append((noisy.time.item(), noisy.state))
        return prediction(log_depth, validity)

    noise = torch.randn(1, 2, 8, 8)
    result = sample_depth(predict, DepthSampling(noise, steps=4, guidance=1, shift=1), mean_first=False)
    assert torch.equal(result.log_depth, log_depth)
    assert [time for time, _ in seen] == [0.0, 0.25, 0.5, 0.75]
    target = predicted_state(result)
    for time, state in seen:
        assert torch.allclose(state, time * target + (1 - time) * noise, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_sample_begins_with_the_mean_and_has_its_confidence(guidance: float) -> None:
    """Later predictions see what was drawn, and are sure of it. Guided, the half with the prompt is the mean; the mean
    without a prompt is not trained."""
    seen: list[list[bool]] = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        count = len(noisy.state)
        logits = torch.zeros(count, 8, 8) + len(seen)
        if guided:
            logits[count // 2 :] = 99.0
        seen.append([True] * count if noisy.has_noise is None else noisy.has_noise.tolist())
        of_zeros = prediction(torch.zeros_like(logits), torch.full_like(logits, 9.0))
        return replace(of_zeros, log_depth=torch.full_like(logits, float(len(seen))), confidence_logit=logits)

    sampled = sample_depth(predict, DepthSampling(torch.zeros(2, 2, 8, 8), 4, guidance), mean_first=True)
    assert seen[0] == ([False, False] if guidance == 1 else [False, False, True, True])
    assert all(all(sees) for sees in seen[1:]) and len(seen) == 4
    assert (sampled.confidence_logit == 0).all() and (sampled.log_depth == 4).all()
    seen.clear()
    # Where the first prediction is the only one, it is the last as well.
    once = sample_depth(predict, DepthSampling(torch.zeros(2, 2, 8, 8), 1, guidance), mean_first=True)
    assert (once.confidence_logit == 0).all() and seen == [[False, False]]


def test_older_checkpoints_keep_their_scenes_and_confidence() -> None:
    """Every prediction sees the noise, and the last one's confidence is the result's."""
    seen: list[torch.Tensor | None] = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        seen.append(noisy.has_noise)
        of_zeros = prediction(torch.zeros(1, 8, 8), torch.full((1, 8, 8), 9.0))
        return replace(of_zeros, confidence_logit=torch.full((1, 8, 8), float(len(seen))))

    sampled = sample_depth(predict, DepthSampling(torch.zeros(1, 2, 8, 8), 3, 1.0), mean_first=False)
    assert seen == [None] * 3 and (sampled.confidence_logit == 3).all()


def test_sampling_draws_one_of_two_scenes_and_not_their_mean() -> None:
    """Two equally likely flat scenes, with the exact posterior mean of each state: samples are the one or the other."""
    near, far = 0.0, 2.0

    def predict(noisy: NoisyDepth, _guided: bool) -> DepthPrediction:
        t = noisy.time.view(-1, 1, 1)
        state = noisy.state[:, 0]
        log_odds = (t * (far - near) * (state - t * (near + far) / 2) / (1 - t) ** 2).sum(dim=(1, 2), keepdim=True)
        mean = near + (far - near) * torch.sigmoid(log_odds)
        return prediction((mean * LOG_DEPTH_STD + LOG_DEPTH_MEAN).expand(state.shape), torch.full(state.shape, 20.0))

    sampling = DepthSampling(draw_noise((64, 2, 8, 8), seed=0), steps=40, guidance=1, shift=4)
    drawn = predicted_state(sample_depth(predict, sampling, mean_first=True))[:, 0, 0, 0]
    to_near, to_far = (drawn - near).abs() < 0.05, (drawn - far).abs() < 0.05
    assert (to_near | to_far).float().mean() > 0.95
    assert 16 <= to_near.sum() <= 48


def test_guidance_goes_beyond_the_prompt_by_hand() -> None:
    """Two steps at times 0 and 1/2: with the prompt 1, without 0, guidance 3 aims at 3 until half of the way."""
    seen: list[tuple[list[float], bool]] = []
    states = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        seen.append((noisy.time.tolist(), guided))
        states.append(noisy.state[0, 0, 0, 0].item())
        with_prompt = torch.tensor([1.0, 0.0] if guided else [1.0]).view(-1, 1, 1)
        return prediction(
            (LOG_DEPTH_MEAN + LOG_DEPTH_STD * with_prompt).expand(-1, 8, 8), torch.full((len(noisy.time), 8, 8), 50.0)
        )

    sampling = DepthSampling(torch.zeros(1, 2, 8, 8), steps=2, guidance=3, shift=1)
    sample_depth(predict, sampling, mean_first=True)
    assert seen == [([0.0, 0.0], True), ([0.5], False)]
    assert states[-1] == pytest.approx(1.5)
    assert sampling.passes == 3
    assert DepthSampling(sampling.noise, steps=2, guidance=1).passes == 2


def test_guidance_acts_where_the_layout_is_decided() -> None:
    """k/8 / (4 - 3 k/8): 0, 0.034 and 0.077 are before 0.1, the next is 0.13."""
    noise = torch.zeros(1, 2, 8, 8)
    seen: list[bool] = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        seen.append(guided)
        return prediction(torch.ones(len(noisy.time), 8, 8), torch.ones(len(noisy.time), 8, 8))

    sampling = DepthSampling(noise, steps=8, guidance=3, shift=4)
    sample_depth(predict, sampling, mean_first=True)
    assert seen == [True] * 3 + [False] * 5
    assert sampling.passes == 11
    # The result is never guided.
    assert DepthSampling(noise, steps=1, guidance=3).passes == 1


@torch.no_grad()
def test_side_by_side_is_one_after_the_other() -> None:
    """Of two padded prompts, the part without a prompt sees no token at all."""
    torch.manual_seed(0)
    predictor = DepthPredictor(DUMMY).eval()
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    noise = draw_noise(predictor.noise_shape(2, 32, 48), seed=0)
    sampling = DepthSampling(noise, steps=3, guidance=3, shift=12)
    state = noise
    # (k/3) / (12 - 11 k/3)
    for now, after in ((0, 1 / 25), (1 / 25, 1 / 7)):
        noisy = NoisyDepth(state, torch.full((2,), float(now)))
        told = predictor(inputs(32, 48, prompt_mask=mask), noisy if now else None)
        untold = predictor(inputs(32, 48, prompt_mask=torch.zeros_like(mask)), noisy)
        data, without = predicted_state(told), predicted_state(untold)
        data = without + 3 * (data - without)
        data = torch.stack([data[:, 0].clamp(max=SKY), data[:, 1].clamp(-1, 1)], dim=1)
        state = state + (after - now) / (1 - now) * (data - state)
    last = predictor(inputs(32, 48, prompt_mask=mask), NoisyDepth(state, torch.full((2,), 1 / 7)))
    drawn = predictor.sample(inputs(32, 48, prompt_mask=mask), sampling)
    unguided = predictor.sample(inputs(32, 48, prompt_mask=mask), replace(sampling, guidance=1))
    moved = (drawn.log_depth - unguided.log_depth).abs().max()
    assert moved > 1e-3
    assert (drawn.log_depth - last.log_depth).abs().max() < 0.02 * moved


def test_a_seed_does_not_mean_the_image_s_noise() -> None:
    """The Mini's latent is pixels: one seed for both would start image and depth from the same numbers."""
    image = torch.randn((1, 3, 64, 64), generator=torch.manual_seed(7))
    depth = draw_noise((1, 2, 64, 64), seed=7)
    assert abs((image[:, :2] * depth).mean().item()) < 0.05
    assert torch.equal(depth, draw_noise((1, 2, 64, 64), seed=7))
    assert draw_noise((1, 2, 8, 8), seed=0xFFFFFFFFFFFFFFFF).shape == (1, 2, 8, 8)


def test_guidance_stays_within_what_a_scene_can_be() -> None:
    states = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        states.append(noisy.state)
        with_prompt = torch.tensor([1.0, 0.0] if guided else [1.0]).view(-1, 1, 1)
        log_depth = (LOG_DEPTH_MEAN + 2 * LOG_DEPTH_STD * with_prompt).expand(-1, 8, 8)
        return prediction(log_depth, (3 + 6 * with_prompt).expand(-1, 8, 8))

    sample_depth(predict, DepthSampling(torch.zeros(1, 2, 8, 8), steps=2, guidance=10, shift=1), mean_first=True)
    # Half of the way from 0 to the bounds.
    assert states[-1][0, :, 0, 0].tolist() == pytest.approx([SKY / 2, 0.5])


def test_an_untrained_flow_input_changes_nothing() -> None:
    torch.manual_seed(0)
    predictor = DepthPredictor(DUMMY).eval()
    noise = torch.randn(predictor.noise_shape(2, 32, 48))
    mean = predictor(inputs(32, 48))
    told = predictor(inputs(32, 48), NoisyDepth(noise, torch.tensor([0.2, 0.9])))
    assert torch.equal(mean.log_depth, told.log_depth)


def test_samples_without_noise_predict_the_mean() -> None:
    torch.manual_seed(0)
    predictor = DepthPredictor(DUMMY).eval()
    torch.nn.init.normal_(predictor.depth_flow.patch.weight)
    torch.nn.init.normal_(predictor.depth_flow.time_out.weight)
    noise = torch.randn(predictor.noise_shape(2, 32, 32))
    noisy = NoisyDepth(noise, torch.tensor([0.2, 0.9]), torch.tensor([True, False]))
    with torch.no_grad():
        mean, mixed = predictor(inputs(32, 32)), predictor(inputs(32, 32), noisy)
    assert torch.equal(mean.log_depth[1], mixed.log_depth[1])
    assert not torch.allclose(mean.log_depth[0], mixed.log_depth[0])


def test_samples_without_noise_get_no_detail() -> None:
    torch.manual_seed(0)
    predictor = DepthPredictor(DUMMY).eval()
    for parameter in predictor.depth_flow.detail.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    noise = torch.randn(predictor.noise_shape(2, 32, 32))
    noisy = NoisyDepth(noise, torch.tensor([0.2, 0.9]), torch.tensor([True, False]))
    with torch.no_grad():
        mean, mixed = predictor(inputs(32, 32)), predictor(inputs(32, 32), noisy)
    assert torch.equal(mean.log_depth[1], mixed.log_depth[1])
    assert (mean.log_depth[0] - mixed.log_depth[0]).abs().max() > 0.01


def test_detail_brings_single_pixels_past_the_queries() -> None:
    """Clean states of independent pixels: from a query's vector the head learns little more than their mean."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(120, 4, 2, 16, 16, generator=generator)
    errors = {}
    for detail_channels in (None, 8):
        torch.manual_seed(0)
        flow = replace(DUMMY.depth_flow, detail_channels=detail_channels)
        predictor = DepthPredictor(replace(DUMMY, depth_flow=flow))
        parameters = [p for name, p in predictor.named_parameters() if name.startswith(("depth_flow", "depth_head"))]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        for state in states:
            noisy = NoisyDepth(state, torch.full((4,), 0.99))
            log_depth = predictor(inputs(16, 16, batch=4), noisy).log_depth
            error = ((log_depth - LOG_DEPTH_MEAN) / LOG_DEPTH_STD - state[:, 0]).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        errors[detail_channels] = error.item()
    assert errors[8] < 0.4 < 0.8 < errors[None]


def test_a_checkpoint_from_before_the_detail_has_none() -> None:
    old = version_1(DUMMY)
    del old["depth_flow"]["detail_channels"]
    config = SpatialFusionConfig.from_dict(old)
    assert config == replace(DUMMY, depth_flow=replace(DUMMY.depth_flow, detail_channels=None))
    predictor = DepthPredictor(config).eval()
    assert not any("detail" in name for name in predictor.state_dict())
    noise = draw_noise(predictor.noise_shape(2, 32, 32), 0)
    assert predictor.sample(inputs(32, 32), DepthSampling(noise, steps=2)).log_depth.shape == (2, 32, 32)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_follow_their_seed_and_have_the_image_size(guidance: float) -> None:
    torch.manual_seed(0)
    predictor = DepthPredictor(DUMMY).eval()
    torch.nn.init.normal_(predictor.depth_flow.patch.weight, std=0.1)
    layers = []

    def sample(seed: int) -> DepthPrediction:
        layers.clear()
        sampling = DepthSampling(draw_noise(predictor.noise_shape(2, 43, 27), seed), steps=3, guidance=guidance)
        result = predictor.sample(inputs(43, 27, on_layer=lambda: layers.append(0)), sampling)
        assert len(layers) == sampling.steps * DUMMY.spatial_transformer.num_layers
        return result

    first = sample(5)
    assert first.log_depth.shape == (2, 43, 27)
    assert torch.equal(first.log_depth, sample(5).log_depth)
    assert not torch.equal(first.log_depth, sample(6).log_depth)


def test_a_checkpoint_from_before_the_flow_has_only_the_mean() -> None:
    old = version_1(DUMMY)
    del old["depth_flow"]
    predictor = DepthPredictor(SpatialFusionConfig.from_dict(old)).eval()
    assert not any(name.startswith("depth_flow") for name in predictor.state_dict())
    sampling = DepthSampling(draw_noise(predictor.noise_shape(2, 32, 32), 0))
    with pytest.raises(ValueError, match="set mode to mean: checkpoint 'dummy' was trained without a depth flow"):
        predictor.sample(inputs(32, 32), sampling)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_every_step_reports_what_it_predicts_with_the_prompt(steps: int, guidance: float) -> None:
    """The half without the prompt predicts other metres. The last report is the result."""
    reports: list[DepthPrediction] = []

    def predict(noisy: NoisyDepth, guided: bool) -> DepthPrediction:
        values = noisy.state[:, 0].clone()
        if guided:
            values[len(values) // 2 :] += 1000
        zero = torch.zeros_like(values)
        return DepthPrediction(values, zero + 4, zero, torch.full((len(values),), 50.0))

    sampling = DepthSampling(torch.zeros(2, 2, 8, 8), steps, guidance, on_prediction=reports.append)
    result = sample_depth(predict, sampling, mean_first=False)
    assert [report.log_depth.shape for report in reports] == steps * [(2, 8, 8)]
    assert [report.fov_y_deg.shape for report in reports] == steps * [(2,)]
    assert all(report.log_depth.max() < 100 for report in reports)
    assert torch.equal(reports[-1].log_depth, result.log_depth)
    assert sampling.guided_steps == 0 or guidance > 1
