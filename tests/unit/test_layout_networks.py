"""The layout's flow, the layout as tokens for the depth, and the reader of a source's layout."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from sf_model import world
from sf_model.config import DUMMY, DUMMY_MLLM, LayoutConfig
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs
from sf_model.models.layout import Layout, layout_of, layout_state
from sf_model.models.layout_encoder import LayoutEncoder, sinusoids
from sf_model.models.layout_predictor import (
    LayoutPredictor,
    LayoutSampling,
    layout_loss_weight,
    layout_noise,
    preconditioning,
)
from sf_model.models.layout_reader import LayoutReader
from sf_model.training.data.layouts import layouts_of

CONFIG = LayoutConfig(24, 48, 2, 1e-6, objects=4, categories=world.CATEGORY_NAMES, colors=tuple(world.COLORS))
WIDTH = DUMMY.spatial_transformer.hidden_size


def layouts(count: int, seed: int = 0) -> Layout:
    rng = random.Random(seed)
    scenes = [world.sample_scene(rng) for _ in range(count)]
    return layouts_of(scenes, [range(len(scene.objects)) for scene in scenes], CONFIG.objects)


def prompts(count: int, length: int = 7, seed: int = 0) -> ExpertInputs:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, DUMMY_MLLM.num_kv_heads, length, DUMMY_MLLM.head_dim)
    pairs = [
        (torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
        for _ in range(DUMMY_MLLM.num_layers)
    ]
    return ExpertInputs(pairs, 32, 48)


def woken(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    for value in module.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.2, generator=generator)
    return module


@pytest.fixture
def predictor() -> LayoutPredictor:
    torch.manual_seed(0)
    return woken(LayoutPredictor(CONFIG, DUMMY_MLLM)).eval()


def test_preconditioning_is_the_best_linear_guess() -> None:
    """Of data and noise of unit variance: the residual is uncorrelated with x_t, and the network's target and input
    have unit variance at every time."""
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 200_000, generator=generator)
    for time in (0.0, 0.2, 0.5, 0.8, 0.95):
        keep, share, scale = (value.item() for value in preconditioning(torch.tensor([time])))
        noisy = time * data + (1 - time) * noise
        target = (data - keep * noisy) / share
        assert target.var().item() == pytest.approx(1.0, abs=0.02)
        assert (scale * noisy).var().item() == pytest.approx(1.0, abs=0.02)
        assert (target * noisy).mean().item() == pytest.approx(0.0, abs=0.02)
        assert layout_loss_weight(torch.tensor([time])).item() == pytest.approx(share**-2, rel=1e-4)


def test_a_new_predictor_guesses_the_linear_guess() -> None:
    predictor = LayoutPredictor(CONFIG, DUMMY_MLLM)
    noisy, time = torch.randn(predictor.noise_shape(3)), torch.tensor([0.0, 0.5, 0.9])
    keep = preconditioning(time)[0][:, None, None]
    torch.testing.assert_close(predictor(prompts(3), noisy, time), keep * noisy)


@torch.no_grad()
def test_a_prompt_s_padding_and_its_neighbours_change_nothing(predictor: LayoutPredictor) -> None:
    noisy, time = torch.randn(predictor.noise_shape(2)), torch.tensor([0.3, 0.7])
    both = prompts(2)
    together = predictor(both, noisy, time)
    alone = replace(both, keys_values=[(key[1:], value[1:]) for key, value in both.keys_values])
    torch.testing.assert_close(predictor(alone, noisy[1:], time[1:]), together[1:], rtol=1e-4, atol=1e-5)
    padded = [
        tuple(torch.cat([x, torch.randn(2, x.shape[1], 3, x.shape[3])], dim=2) for x in pair)
        for pair in both.keys_values
    ]
    mask = (torch.arange(10) < 7).expand(2, -1)
    same = predictor(replace(both, keys_values=padded, prompt_mask=mask), noisy, time)
    torch.testing.assert_close(same, together, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_sample_of_a_perfect_predictor_is_the_layout(
    predictor: LayoutPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the noise, the steps and the guidance."""
    true = layouts(2)
    state = layout_state(true)

    def perfect(_self: object, inputs: ExpertInputs, noisy: torch.Tensor, *_rest: object) -> torch.Tensor:
        return state.repeat(len(noisy) // 2, 1, 1)

    monkeypatch.setattr(LayoutPredictor, "forward", perfect)
    for steps, guidance in ((1, 1.0), (5, 1.0), (5, 3.0)):
        noise = layout_noise(predictor.noise_shape(2), 4)
        drawn = predictor.sample(prompts(2), LayoutSampling(noise, steps, guidance))
        torch.testing.assert_close(layout_state(drawn), state, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_seed_decides_a_layout_and_the_source_counts(predictor: LayoutPredictor) -> None:
    first, second = (LayoutSampling(layout_noise(predictor.noise_shape(1), seed), 3) for seed in (1, 2))
    inputs, source = prompts(1), layout_state(layouts(1))
    drawn = predictor.sample(inputs, first)
    assert torch.equal(predictor.sample(inputs, first).position_m, drawn.position_m)
    assert not torch.equal(predictor.sample(inputs, second).position_m, drawn.position_m)
    assert not torch.equal(predictor.sample(prompts(1, seed=3), first).position_m, drawn.position_m)
    assert not torch.equal(predictor.sample(inputs, first, source).position_m, drawn.position_m)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        predictor.sample(inputs, replace(first, steps=0))


def test_sinusoids_by_hand() -> None:
    read = sinusoids(torch.tensor([[0.5]]))
    assert read.shape == (1, 17)
    # The number, then the sines of a quarter, half, one, ... turns of pi.
    torch.testing.assert_close(read[0, :4], torch.tensor([0.5, 0.3827, 0.7071, 1.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(read[0, 9:12], torch.tensor([0.9239, 0.7071, 0.0]), rtol=0, atol=1e-4)


@torch.no_grad()
def test_every_part_of_a_layout_reaches_its_tokens() -> None:
    torch.manual_seed(0)
    encoder, layout = LayoutEncoder(CONFIG, WIDTH), layouts(3)
    before = encoder(layout, 1.5, torch.float32)
    present = (layout.present > 0.5).nonzero()[0]
    row, place = present.tolist()
    for name in ("present", "category", "color", "position_m", "heading_deg", "size_m"):
        value = getattr(layout, name).clone()
        value[row, place] = (
            1 - value[row, place] if name in ("present", "category", "color") else value[row, place] + 0.3
        )
        changed = (encoder(replace(layout, **{name: value}), 1.5, torch.float32).tokens - before.tokens).abs().amax(-1)
        assert changed[row, 1 + place] > 1e-4, name
        changed[row, 1 + place] = 0
        assert not changed.any(), name
    camera = layout.camera.clone()
    camera[row, 1] += 5
    after = encoder(replace(layout, camera=camera), 1.5, torch.float32)
    assert (after.camera - before.camera)[row].abs().max() > 1e-4
    assert not torch.equal(after.places[row, 1 + place], before.places[row, 1 + place])


@torch.no_grad()
def test_without_a_layout_every_token_says_so() -> None:
    torch.manual_seed(0)
    encoder, layout = LayoutEncoder(CONFIG, WIDTH), layouts(2)
    read = encoder(layout, 1.0, torch.float32, torch.tensor([True, False]))
    known = encoder(layout, 1.0, torch.float32)
    torch.testing.assert_close(read.tokens[0], known.tokens[0])
    assert torch.equal(read.tokens[1], read.tokens[1, :1].expand_as(read.tokens[1]))
    assert torch.equal(read.camera[1], read.tokens[1, 0]) and bool((read.places[1] == 0.5).all())


def depth_predictor() -> DepthPredictor:
    torch.manual_seed(0)
    return woken(DepthPredictor(replace(DUMMY, layout=CONFIG))).eval()


@torch.no_grad()
def test_the_depth_is_predicted_given_the_layout() -> None:
    predictor, inputs = depth_predictor(), prompts(2)
    free = predictor(inputs).log_depth
    first, second = (predictor(replace(inputs, layout=layouts(2, seed))).log_depth for seed in (1, 2))
    assert not torch.allclose(first, second) and not torch.allclose(first, free)
    dropped = replace(inputs, layout=layouts(2, 1), has_layout=torch.tensor([True, False]))
    torch.testing.assert_close(predictor(dropped).log_depth[0], first[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(predictor(dropped).log_depth[1], free[1], rtol=1e-4, atol=1e-5)
    # The objects are a set: their order is that of the prompt, which no picture shows.
    layout = layouts(2, 1)
    turned = Layout(**{k: v if k == "camera" else v.flip(1) for k, v in vars(layout).items()})
    torch.testing.assert_close(predictor(replace(inputs, layout=turned)).log_depth, first, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_drawn_layout_is_taken_where_none_is_given() -> None:
    predictor, inputs = depth_predictor(), prompts(1)
    sampling = LayoutSampling(layout_noise(predictor.layout.noise_shape(1), 0), 2)
    drawn = predictor.with_layout(inputs, sampling)
    assert drawn.layout is not None and predictor.with_layout(drawn, sampling) is drawn
    without = DepthPredictor(DUMMY).eval()
    assert without.with_layout(inputs, sampling) is inputs
    with pytest.raises(ValueError, match="disconnect the layout: checkpoint 'dummy' was trained without layouts"):
        without(drawn)


def test_a_source_s_layout_is_learned() -> None:
    """Which of four squares is lit, by eight cells: the reader says its column as the first object's slope."""
    torch.manual_seed(0)
    reader = LayoutReader(CONFIG, DUMMY_MLLM, 6)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    cells = torch.zeros(4, 6, 2, 4)
    for column in range(4):
        cells[column, 0, 1, column] = 3.0
    wanted = torch.tensor([-1.5, -0.5, 0.5, 1.5])
    for _ in range(80):
        optimizer.zero_grad()
        error = (reader(cells)[:, 1, 1] - wanted).square().mean()
        error.backward()
        optimizer.step()
    assert error.item() < 0.05
    assert layout_of(reader(cells), len(CONFIG.categories)).position_m.shape == (4, 4, 2)
