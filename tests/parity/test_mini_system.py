"""The whole Mini, from the shipped files: sf_model's pipeline and the host's classes give the same numbers."""

import random
from pathlib import Path
from types import ModuleType

import comfy.sample
import node_helpers
import pytest
import torch

from sf_model import world
from sf_model.backbones.mini import END_TOKEN, END_TOKEN_ID, MINI_DIR, SAMPLING_SHIFT
from sf_model.models.depth_flow import DepthSampling, draw_noise
from sf_model.models.expert_inputs import ExpertInputs
from sf_model.models.flow_times import shifted_times
from sf_model.training.bases.base import Prompt
from sf_model.training.export import load_exported
from sf_model.training.system import ImageSampling, System
from tests.parity.measures import relative_error
from tests.unit.dummy_systems import DUMMY, export_untrained

SAMPLING = ImageSampling(steps=6, guidance=3.0)
PROMPT = "a red car 4.0 m away, facing left, and a blue chair on grass, at sunset"


@pytest.fixture(scope="module", params=["shipped", "latents"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights, and untrained ones of a system with an autoencoder and layouts, in place of them."""
    if request.param == "shipped":
        return MINI_DIR
    path = tmp_path_factory.mktemp("latents")
    export_untrained(path, DUMMY)
    return path


@pytest.fixture(autouse=True)
def weights(folder: Path, nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nodes.mini.clip, nodes.mini.loader, nodes.generate.load_checkpoint):
        monkeypatch.setattr(module, "MINI_DIR", folder)


@pytest.fixture(scope="module")
def system(folder: Path) -> System:
    return load_exported(folder)


def empty_latent(system: System) -> torch.Tensor:
    """Of an image of 64 x 64 pixels."""
    with torch.no_grad():
        return torch.zeros_like(system.base.encode_image(torch.zeros(1, 3, 64, 64)))


def encoded_by(system: System, text: str) -> Prompt:
    return system.base.encode(*system.base.tokens.batch([text], False), None)


@torch.no_grad()
def test_prompt_depth_and_image_agree(nodes: ModuleType, system: System) -> None:
    """Tokens, hidden states, keys/values, depth, and 6 Euler steps with guidance on the depth, from the same noise."""
    model, clip, _ = nodes.SpatialFusionMiniLoader.execute().args
    loaded = nodes.SpatialFusionLoader.execute(clip, nodes.generate.load_checkpoint.BUILT_IN).args[0]

    ids = system.base.tokens.ids(PROMPT, False)
    assert [token for token, _ in next(iter(clip.tokenize(PROMPT).values()))[0]] == ids
    prompt, empty = encoded_by(system, PROMPT), encoded_by(system, "")

    encoded = nodes.runtime.prompt_capture.encode_prompt(clip, loaded.decoder_path, PROMPT)
    assert relative_error(encoded.conditioning[0][0], prompt.hidden) < 1e-5
    for (key, value), (expected_key, expected_value) in zip(encoded.keys_values, prompt.keys_values):
        assert relative_error(key, expected_key) < 1e-5
        assert relative_error(value, expected_value) < 1e-5

    sampling = DepthSampling(draw_noise(system.predictor.noise_shape(1, 64, 64), seed=3))
    inputs = system.with_layout(system.inputs(prompt, 64, 64), [5])
    for how, expected in ((None, system.mean_depth(inputs)), (sampling, system.predictor.sample(inputs, sampling))):
        depth = nodes.runtime.prediction.predict_depth(
            loaded, encoded, width=64, height=64, features=None, sampling=how, seed=5
        ).depth
        expected_depth = expected.to_metric_depth()
        assert torch.equal(depth.valid, expected_depth.valid)
        assert relative_error(depth.log_depth(), expected_depth.log_depth()) < 1e-4

    control = nodes.runtime.depth_control.DepthControl(depth, None, 1.0, start_percent=0.0, end_percent=1.0)
    patched = nodes.runtime.injection.inject(model, loaded.adapter, control, loaded.backbone)
    latent = empty_latent(system)
    noise = comfy.sample.prepare_noise(latent, 7)
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    sigmas = 1 - shifted_times(6, SAMPLING_SHIFT)
    image = comfy.sample.sample_custom(
        patched,
        noise,
        3.0,
        comfy.samplers.sampler_object("euler"),
        sigmas,
        encoded.conditioning,
        negative,
        latent,
        disable_pbar=True,
    )
    expected = system.draw(prompt, empty, system.features(expected_depth, noise), noise, SAMPLING)
    assert relative_error(image, expected) < 1e-3


@torch.no_grad()
def test_the_decoder_writes_what_its_own_code_writes(nodes: ModuleType, folder: Path, system: System) -> None:
    """Token by token, the likeliest each time. Only a decoder that was trained to write says that it can."""
    _, clip, _ = nodes.SpatialFusionMiniLoader.execute().args
    request = nodes.runtime.text_generation.own_request(clip)
    if system.predictor.layout is None:
        assert request is None
        with pytest.raises(ValueError, match="cannot write text"):
            nodes.runtime.text_generation.check_can_generate(clip)
        return
    nodes.runtime.text_generation.check_can_generate(clip)
    tokens = clip.tokenize(request.format(prompt=PROMPT))
    written = clip.generate(tokens, do_sample=False, max_length=12)
    ids = torch.tensor([system.base.tokens.ids(PROMPT, False)])
    for token in written:
        states = system.base.text_encoder.model(input_ids=ids, use_cache=False).last_hidden_state
        likeliest = system.base.text_encoder.lm_head(states[:, -1]).argmax(dim=-1)
        assert likeliest.item() == token
        ids = torch.cat([ids, likeliest[:, None]], dim=1)
    assert len(written) == 12 or written[-1] == END_TOKEN_ID
    assert system.base.tokens.tokenizer.convert_tokens_to_ids(END_TOKEN) == END_TOKEN_ID


@torch.no_grad()
def test_an_empty_latent_of_pixels_gives_the_image_of_its_pixels(nodes: ModuleType, system: System) -> None:
    """Old graphs have one. Two steps, from the noise that a latent of an eighth of the size cuts out of it."""
    if system.base.vae is None:
        return
    model, clip, vae = nodes.SpatialFusionMiniLoader.execute().args
    channels, conditioning = (
        system.base.sizes.transformer.in_channels,
        clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT)),
    )
    noise = comfy.sample.prepare_noise(torch.zeros(1, channels, 128, 64), 7)
    drawn = []
    for cells in ((128, 64), (16, 8)):
        latent = torch.zeros(1, channels, *cells)
        part = noise[..., : cells[0], : cells[1]]
        arguments = (comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.5, 0.0]), conditioning, conditioning)
        drawn.append(comfy.sample.sample_custom(model, part, 1.0, *arguments, latent, disable_pbar=True))
    assert torch.equal(*drawn) and drawn[0].shape == (1, channels, 16, 8)
    assert vae.decode(drawn[0]).shape == (1, 128, 64, 3)


@torch.no_grad()
def test_an_edit_agrees(host_nodes: None, nodes: ModuleType, system: System) -> None:
    """The source is read for the depth by its own pixels, and is a reference latent of both conditionings."""
    model, clip, vae = nodes.SpatialFusionMiniLoader.execute().args
    loaded = nodes.SpatialFusionLoader.execute(clip, nodes.generate.load_checkpoint.BUILT_IN).args[0]
    pair = world.sample_edit(random.Random("edit parity"), "pose")
    source = world.render([pair.source], 64, 64).rgb
    image = source.movedim(1, -1)
    prompt, empty = encoded_by(system, pair.instruction), encoded_by(system, "")

    runtime = nodes.runtime
    features = runtime.source_features.source_features(loaded, image, 64, 64, needed=True)
    encoded = runtime.prompt_capture.encode_prompt_with_source(
        clip, loaded.decoder_path, pair.instruction, image, vae, loaded.backbone.source_view
    )

    def laid_out(prompt: Prompt, source: torch.Tensor | None = None) -> ExpertInputs:
        return system.with_layout(system.inputs(prompt, 64, 64, source), [0])

    sampling = DepthSampling(draw_noise(system.predictor.noise_shape(1, 64, 64), seed=3))
    depth = runtime.prediction.predict_depth(loaded, encoded, 64, 64, features, sampling).depth
    expected_depth = system.predictor.sample(laid_out(prompt, source), sampling).to_metric_depth()
    assert torch.equal(depth.valid, expected_depth.valid)
    assert relative_error(depth.log_depth(), expected_depth.log_depth()) < 1e-4
    without = system.predictor.sample(laid_out(prompt), sampling).to_metric_depth()
    assert relative_error(without.log_depth(), expected_depth.log_depth()) > 0.01

    control = nodes.runtime.depth_control.DepthControl(depth, None, 1.0, start_percent=0.0, end_percent=1.0)
    negative = node_helpers.conditioning_set_values(
        clip.encode_from_tokens_scheduled(clip.tokenize("")), {"reference_latents": [vae.encode(image)]}, append=True
    )
    latent = empty_latent(system)
    noise = comfy.sample.prepare_noise(latent, 7)
    drawn = comfy.sample.sample_custom(
        nodes.runtime.injection.inject(model, loaded.adapter, control, loaded.backbone),
        noise,
        3.0,
        comfy.samplers.sampler_object("euler"),
        1 - shifted_times(6, SAMPLING_SHIFT),
        encoded.conditioning,
        negative,
        latent,
        disable_pbar=True,
    )
    drawing = (prompt, empty, system.features(expected_depth, noise), noise, SAMPLING)
    reference = system.base.encode_image(source)
    expected = system.draw(*drawing, reference, reference)
    assert relative_error(drawn, expected) < 1e-3
    assert relative_error(system.draw(*drawing), expected) > 0.01


@torch.no_grad()
@pytest.mark.parametrize(("sampled", "bound"), [(False, 0.002), (True, 0.005)])
def test_half_precision_predicts_the_same_scene(
    nodes: ModuleType, monkeypatch: pytest.MonkeyPatch, sampled: bool, bound: float
) -> None:
    """As the node computes on devices that the host finds faster in bfloat16; the outputs are no steps of half
    precision."""
    _, clip, _ = nodes.SpatialFusionMiniLoader.execute().args
    loaded = nodes.SpatialFusionLoader.execute(clip, nodes.generate.load_checkpoint.BUILT_IN).args[0]
    prediction = nodes.runtime.prediction
    encoded = nodes.runtime.prompt_capture.encode_prompt(clip, loaded.decoder_path, PROMPT)
    noise_shape = loaded.predictor.model.noise_shape(1, 64, 64)
    for seed in range(4 if sampled else 1):
        sampling = prediction.DepthSampling(draw_noise(noise_shape, seed)) if sampled else None
        whole = prediction.predict_depth(loaded, encoded, 64, 64, sampling=sampling).depth
        with monkeypatch.context() as patch:
            patch.setattr(prediction.comfy.model_management, "should_use_bf16", lambda device: True)
            half = prediction.predict_depth(loaded, encoded, 64, 64, sampling=sampling).depth
        both = whole.valid & half.valid
        assert (whole.valid == half.valid).float().mean() > 0.995
        error = (whole.log_depth() - half.log_depth())[both].abs()
        assert 0 < error.mean() < bound
        # Outputs in half precision would have about a thousand values.
        assert half.log_depth()[both].unique().numel() > 0.9 * both.sum()
