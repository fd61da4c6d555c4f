"""Whole systems on real bases: sf_model's pipeline (transformers, diffusers and the twin) and the host's nodes give the
same prompt, depth and image from the same files and noise."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import comfy.clip_vision
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.text_encoders.omnigen2
import comfy.text_encoders.qwen_vl
import pytest
import safetensors.torch
import torch
from diffusers import AutoencoderKL

from sf_model.backbones import get_backbone
from sf_model.checkpoint import load_checkpoint
from sf_model.depth.metric_depth import MetricDepth
from sf_model.models.depth_flow import DepthSampling, draw_noise
from sf_model.models.flow_times import shifted_times
from sf_model.training.bases.base import Base, Prompt
from sf_model.training.bases.omnigen2 import OmniGen2Base
from sf_model.training.bases.qwen_image import QwenImageBase
from sf_model.training.bases.released import BaseFiles
from sf_model.training.system import ImageSampling, System
from tests.host.tiny_checkpoints import tiny_config, write_tiny_checkpoint
from tests.parity.measures import relative_error

PROMPT = "a red chair 2 m away, to the left of a house"
HEIGHT, WIDTH = 96, 64
STEPS, GUIDANCE = 4, 3.0
IMAGE_TOLERANCE = 1e-3
TOKENIZER = Path(comfy.text_encoders.omnigen2.__file__).parent / "qwen25_tokenizer"
DINOV2 = {
    "model_type": "dinov2",
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "hidden_size": 32,
    "layer_norm_eps": 1e-6,
    "use_swiglu_ffn": False,
    "image_size": 518,
    "patch_size": 14,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


@dataclass(frozen=True)
class Case:
    """One base with or without a source image; `backbone` is the checkpoint's."""

    architecture: str
    backbone: str
    is_edit: bool


CASES = {
    "omnigen2": Case("omnigen2", "omnigen2", is_edit=False),
    "omnigen2 edit": Case("omnigen2", "omnigen2", is_edit=True),
    "qwen_image": Case("qwen_image", "qwen_image", is_edit=False),
}
# The oldest host hands a source image's features to Qwen2.5-VL in the order of the vision tower's windows, a fault that
# later ones mended: what it makes of an edit equals its own stock nodes' only (tests/host/test_real_bases.py).
if "argsort(window_index)" in inspect.getsource(comfy.text_encoders.qwen_vl):
    CASES["qwen_image edit"] = Case("qwen_image", "qwen_image", is_edit=True)
    CASES["qwen_image first edit"] = Case("qwen_image", "qwen_image_edit", is_edit=True)


@pytest.fixture(scope="module")
def source() -> torch.Tensor:
    """(1, H, W, 3) in [0, 1], smooth, so that resizing is well-behaved, and of eight bits, as a loaded picture is."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 72), torch.linspace(0, 4, 96), indexing="ij")
    picture = torch.stack([rows.sin() ** 2, columns.cos() ** 2, (rows * columns).sin() ** 2], dim=-1)
    return (picture * 255).round()[None] / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny_bases")


def host_vision(folder: Path) -> comfy.clip_vision.ClipVisionModel:
    config = folder / "dinov2.json"
    config.write_text(json.dumps(DINOV2), encoding="utf-8")
    vision = comfy.clip_vision.ClipVisionModel(str(config))
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(value.shape, generator=generator) * 0.2 for name, value in vision.get_sd().items()}
    vision.load_sd(weights)
    safetensors.torch.save_file(weights, folder / "dinov2.safetensors")
    return vision


def sf_model_base(case: Case, folder: Path, vae: Path, with_vision: bool) -> Base:
    files = BaseFiles(
        text_encoder=folder / f"{case.architecture}_mllm_float32_0.safetensors",
        diffusion_model=folder / f"{case.architecture}_float32_0.safetensors",
        vae=vae,
        tokenizer=TOKENIZER,
        vision=folder / "dinov2.safetensors" if with_vision else None,
        dtype=torch.float32,
    )
    if case.architecture == "omnigen2":
        return OmniGen2Base(files)
    return QwenImageBase(files, get_backbone(case.backbone))


def write_image_autoencoder(folder: Path) -> Path:
    """OmniGen2's, which this test needs for nothing but the base's constructor."""
    path = folder / "autoencoder.safetensors"
    vae = AutoencoderKL(
        block_out_channels=(8,), latent_channels=16, norm_num_groups=8, use_quant_conv=False, use_post_quant_conv=False
    )
    safetensors.torch.save_file(vae.state_dict(), path)
    return path


def sf_model_image(
    system: System,
    depth: MetricDepth,
    prompt: Prompt,
    empty: Prompt,
    reference: torch.Tensor | None,
    noise: torch.Tensor,
) -> torch.Tensor:
    """The negative knows the depth, not the reference."""
    features = system.features(depth, noise)
    return system.draw(prompt, empty, features, noise, ImageSampling(STEPS, GUIDANCE), reference)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_prompt_depth_and_image_agree(
    name: str, nodes: ModuleType, tiny_bases: ModuleType, host_nodes: None, folder: Path, source: torch.Tensor
) -> None:
    case = CASES[name]
    with_vision = name == "omnigen2 edit"
    clip = tiny_bases.load_clip(case.architecture, folder)
    model = tiny_bases.load_model(case.architecture, folder)
    vision = host_vision(folder) if with_vision else None
    checkpoint = folder / write_tiny_checkpoint(
        folder, f"{name}.safetensors", tiny_config(case.architecture, "latent", case.backbone, source=with_vision)
    )
    contents = load_checkpoint(checkpoint)
    # The pack under its own name has its own classes.
    packed = nodes.runtime.loaded_checkpoint.load_checkpoint(checkpoint)
    loaded = nodes.runtime.loaded_checkpoint.load_beside(clip, packed, checkpoint, checkpoint.name, vision)
    decoder_path = loaded.decoder_path
    if case.architecture == "qwen_image":
        host_vae = tiny_bases.load_vae(folder)
        base = sf_model_base(case, folder, folder / "vae.safetensors", with_vision)
    else:
        base = sf_model_base(case, folder, write_image_autoencoder(folder), with_vision)
    latent_format = model.get_model_object("latent_format")
    video = case.architecture == "qwen_image"

    reference, features = None, None
    if case.is_edit:
        # Sides of whole pairs of tokens: from odd ones diffusers and the host count Qwen-Image's positions one apart.
        stored = torch.randn(1, 16, 8, 12, generator=torch.Generator().manual_seed(4))
        stored = stored.unsqueeze(2) if video else stored
        reference = latent_format.process_in(stored)
        reference = reference[:, :, 0] if video else reference
        view = loaded.backbone.source_view
        if with_vision:
            features = nodes.runtime.source_features.source_features(loaded, source, WIDTH, HEIGHT, needed=True)
            expected_features = base.source_features(source.movedim(-1, 1))
            assert features.grid == expected_features.grid
            assert relative_error(features.tokens, expected_features.tokens) < 1e-3
        encoded = nodes.runtime.prompt_capture.encode_prompt_with_source(clip, decoder_path, PROMPT, source, None, view)
    else:
        encoded = nodes.runtime.prompt_capture.encode_prompt(clip, decoder_path, PROMPT)

    ids, mask = base.tokens.batch([PROMPT], case.is_edit)
    seen = source.movedim(-1, 1) if case.is_edit and video else None
    prompt = base.encode(ids, mask, seen)
    empty = base.encode(*base.tokens.batch([""], False), None)
    assert relative_error(encoded.conditioning[0][0], prompt.hidden) < 1e-4
    assert len(encoded.keys_values) == len(prompt.keys_values) == contents.config.mllm.num_layers
    for pair, expected_pair in zip(encoded.keys_values, prompt.keys_values):
        for tensor, expected_tensor in zip(pair, expected_pair):
            assert relative_error(tensor, expected_tensor) < 1e-4

    if case.is_edit and video:
        # An image takes fewer positions than tokens: queries at the number of tokens would not be where they learned.
        assert encoded.next_position.tolist() == prompt.next_position.tolist() != [prompt.mask.sum()]
    else:
        assert encoded.next_position is None

    system = System(base, contents.config, seed=0).eval()
    system.predictor.load_state_dict(contents.predictor_state())
    system.adapter.load_state_dict(contents.adapter_state())
    inputs = system.inputs(prompt, HEIGHT, WIDTH, source.movedim(-1, 1) if with_vision else None)
    sampling = DepthSampling(draw_noise(system.predictor.noise_shape(1, HEIGHT, WIDTH), seed=3), steps=3, guidance=2)
    for how, expected in ((None, system.mean_depth(inputs)), (sampling, system.predictor.sample(inputs, sampling))):
        depth, expected_depth = (
            nodes.runtime.prediction.predict_depth(loaded, encoded, WIDTH, HEIGHT, features, how).depth,
            expected.to_metric_depth(),
        )
        assert torch.equal(depth.valid, expected_depth.valid)
        assert relative_error(depth.log_depth(), expected_depth.log_depth()) < 1e-3
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comfy.model_management, "should_use_bf16", lambda *_, **__: True)
            half = nodes.runtime.prediction.predict_depth(loaded, encoded, WIDTH, HEIGHT, features, how).depth
        both = depth.valid & half.valid
        assert (depth.valid == half.valid).float().mean() > 0.99
        assert 0 < relative_error(half.log_depth()[both], depth.log_depth()[both]) < 2e-3

    control = nodes.runtime.depth_control.DepthControl(depth, None, 1.0, start_percent=0.0, end_percent=1.0)
    patched = nodes.runtime.injection.inject(model, loaded.adapter, control, loaded.backbone)
    latent = torch.zeros(1, 16, *((1,) if video else ()), HEIGHT // 8, WIDTH // 8)
    noise = comfy.sample.prepare_noise(latent, 7)
    positive = encoded.conditioning
    if case.is_edit:
        positive = [[hidden, {**options, "reference_latents": [stored]}] for hidden, options in positive]
    image = comfy.sample.sample_custom(
        patched,
        noise,
        GUIDANCE,
        comfy.samplers.sampler_object("euler"),
        1 - shifted_times(STEPS, base.sampling_shift),
        positive,
        clip.encode_from_tokens_scheduled(clip.tokenize("")),
        latent,
        disable_pbar=True,
    )
    flat_noise = noise[:, :, 0] if video else noise
    expected = sf_model_image(system, expected_depth, prompt, empty, reference, flat_noise)
    found = latent_format.process_in(image)
    found = found[:, :, 0] if video else found
    assert relative_error(found, expected) < IMAGE_TOLERANCE
    without = sf_model_image(
        system,
        MetricDepth(depth.depth, torch.zeros_like(depth.confidence), depth.fov_y_deg),
        prompt,
        empty,
        reference,
        flat_noise,
    )
    assert relative_error(without, expected) > 10 * IMAGE_TOLERANCE  # the depth is no small part of it
    if video:
        pixels = host_vae.decode(image).reshape(HEIGHT, WIDTH, 3).movedim(-1, 0)
        assert relative_error(pixels, base.decode_latent(expected)[0]) < IMAGE_TOLERANCE
