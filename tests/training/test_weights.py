"""Weight files: names both ways, folders of diffusers and transformers, 8-bit storage, and wrong files by name."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sf_model.backbones.revision import fingerprint, same_release
from sf_model.training.bases import keys
from sf_model.training.bases.omnigen2 import load_autoencoder, load_text_decoder, load_transformer
from sf_model.training.bases.qwen_image import TIMESTEP_ZERO, load_vision_language_model
from sf_model.training.bases.qwen_image import load_autoencoder as load_video_autoencoder
from sf_model.training.bases.qwen_image import load_transformer as load_qwen_transformer
from sf_model.training.bases.weights import read_weights
from tests.training import tiny_bases

MODULES = {
    "text_decoder": (tiny_bases.text_decoder, keys.text_decoder, load_text_decoder),
    "vision_language_model": (
        tiny_bases.vision_language_model,
        keys.vision_language_model,
        load_vision_language_model,
    ),
    "omnigen2": (tiny_bases.omnigen2_transformer, keys.unchanged, load_transformer),
    "qwen_image": (tiny_bases.qwen_image_transformer, keys.unchanged, load_qwen_transformer),
    "autoencoder": (tiny_bases.image_autoencoder, keys.autoencoder(4), load_autoencoder),
    "video_autoencoder": (tiny_bases.video_autoencoder, keys.video_autoencoder, load_video_autoencoder),
}


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("name", MODULES)
def test_single_files_and_folders_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    build, file_name, load = MODULES[name]
    module = build()
    file = save(keys.to_file(module, file_name), tmp_path / "comfy.safetensors")
    own = module.state_dict()
    folder = {re.sub(r"^(language_model|visual)\.", r"model.\1.", key): value for key, value in own.items()}
    if name == "text_decoder":
        folder = {f"model.{key}": value for key, value in own.items()}
    half = len(folder) // 2
    for part, some in enumerate((list(folder)[:half], list(folder)[half:])):
        save({key: folder[key] for key in some}, tmp_path / f"folder/model-{part}.safetensors")
    for path in (file, tmp_path / "folder"):
        loaded = load(path, torch.float32).state_dict()
        assert loaded.keys() == own.keys()
        assert all(torch.equal(loaded[key], value) for key, value in own.items()), path


def test_names_of_the_published_files() -> None:
    """As ComfyUI's detection looks for them, or the files have them."""
    table = {
        keys.autoencoder(4)("decoder.up_blocks.0.upsamplers.0.conv.weight"): "decoder.up.3.upsample.conv.weight",
        keys.autoencoder(4)("encoder.mid_block.attentions.0.to_q.bias"): "encoder.mid.attn_1.q.bias",
        keys.video_autoencoder("decoder.mid_block.resnets.0.norm1.gamma"): "decoder.middle.0.residual.0.gamma",
        keys.video_autoencoder("decoder.norm_out.gamma"): "decoder.head.0.gamma",
        keys.video_autoencoder("encoder.conv_in.weight"): "encoder.conv1.weight",
        keys.video_autoencoder("decoder.up_blocks.1.upsamplers.0.time_conv.weight"): (
            "decoder.upsamples.7.time_conv.weight"
        ),
        keys.video_autoencoder("encoder.down_blocks.3.conv_shortcut.bias"): "encoder.downsamples.3.shortcut.bias",
        keys.vision_language_model("visual.blocks.0.attn.qkv.weight"): "visual.blocks.0.attn.qkv.weight",
        keys.vision_language_model("language_model.norm.weight"): "model.norm.weight",
    }
    assert all(found == expected for found, expected in table.items()), table


def test_eight_bit_weights_are_unscaled(tmp_path: Path) -> None:
    weight = torch.randn(8, 8)
    scale = weight.abs().max() / 448
    stored = {"a.weight": (weight / scale).to(torch.float8_e4m3fn), "a.scale_weight": scale, "b.bias": torch.ones(2)}
    stored["scaled_fp8"] = torch.zeros(0).to(torch.float8_e4m3fn)
    read = read_weights(save(stored, tmp_path / "fp8.safetensors"))
    assert read.keys() == {"a.weight", "b.bias"}
    assert (read["a.weight"].float() - weight).abs().max() < 0.07 * weight.abs().max()
    plain = save({"model.diffusion_model.a.weight": weight.to(torch.float8_e4m3fn)}, tmp_path / "plain.safetensors")
    assert torch.equal(read_weights(plain)["a.weight"].float(), weight.to(torch.float8_e4m3fn).float())
    packed = save({"a.weight": torch.zeros(4, dtype=torch.uint8)}, tmp_path / "packed.safetensors")
    with pytest.raises(ValueError, match=r"a.weight is stored as torch.uint8, a quantisation"):
        read_weights(packed)


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    qwen = save(tiny_bases.qwen_image_transformer().state_dict(), tmp_path / "qwen.safetensors")
    with pytest.raises(ValueError, match=r"qwen.safetensors is no OmniGen2 diffusion model \(no 'x_embedder.weight'\)"):
        load_transformer(qwen, torch.float32)
    tensors = tiny_bases.omnigen2_transformer().state_dict()
    lacking = save({k: v for k, v in tensors.items() if k != "x_embedder.bias"}, tmp_path / "lacking.safetensors")
    with pytest.raises(ValueError, match=r"lacks \['x_embedder.bias'\]"):
        load_transformer(lacking, torch.float32)
    with pytest.raises(ValueError, match="no such .safetensors file, nor a folder"):
        read_weights(tmp_path / "model.ckpt")
    (tmp_path / "torn.safetensors").write_bytes(qwen.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        read_weights(tmp_path / "torn.safetensors")


@pytest.mark.parametrize("name", ["omnigen2", "qwen_image"])
@torch.no_grad()
def test_times_are_embedded_in_float32_beside_bf16_weights(name: str, tmp_path: Path) -> None:
    """As in the host: in bf16, 0.7 and its next neighbours are 4 of the 1000 steps apart."""
    base = tiny_bases.load_base(name, tiny_bases.write_weights(name, tmp_path), torch.bfloat16)
    seen: list[torch.Tensor] = []
    embedder = next(m for n, m in base.transformer.named_modules() if n.endswith("timestep_embedder"))
    embedder.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0]))
    ids, mask = base.tokens.batch(["a red car"], False)
    prompt = base.encode(ids, mask, None)
    time = torch.tensor([0.7001])
    base.velocity(torch.randn(1, 16, 8, 8), time, prompt, None)
    noise_time = time if name == "omnigen2" else 1 - time
    frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    angles = 1000 * noise_time[:, None] * frequencies
    expected = torch.cat([angles.cos(), angles.sin()], dim=1)
    assert seen[0].dtype == torch.bfloat16
    assert (seen[0].float() - expected).abs().max() < 0.01


def test_fingerprints_of_a_base_read_from_8_bits_are_known_as_coarse(tmp_path: Path) -> None:
    """A checkpoint trained beside the 8-bit file does not warn beside the bf16 one, and the other way round."""
    paths = tiny_bases.write_weights("omnigen2", tmp_path)
    whole = tiny_bases.load_base("omnigen2", paths, torch.bfloat16).fingerprints(False)
    for part in ("text_encoder", "diffusion_model"):
        tensors = safetensors.torch.load_file(paths[part])
        scaled: dict[str, torch.Tensor] = {}
        for key, value in tensors.items():
            if value.ndim == 2 and key.endswith(".weight"):
                scale = value.abs().max() / 448
                scaled |= {key: (value / scale).to(torch.float8_e4m3fn), key.replace(".weight", ".scale_weight"): scale}
            else:
                scaled[key] = value
        safetensors.torch.save_file(scaled, paths[part])
    base = tiny_bases.load_base("omnigen2", paths, torch.bfloat16)
    coarse = base.fingerprints(False)
    for name, sample in whole.items():
        assert same_release(sample, coarse[name]) and same_release(coarse[name], sample), name
        assert not same_release(sample, fingerprint(torch.randn(64, 64), eight_bit=True)), name
    # What was trained in full since is as fine as any: a release a few percent off is another one.
    trained = base.fingerprints(True)["transformer"]
    moved = base.transformer.state_dict()["x_embedder.weight"].float() * 1.03
    assert same_release(coarse["transformer"], fingerprint(moved))
    assert not same_release(trained, fingerprint(moved))


def test_the_mark_of_references_at_time_zero_comes_back_from_an_export(tmp_path: Path) -> None:
    paths = tiny_bases.write_weights("qwen_image", tmp_path)
    tensors = safetensors.torch.load_file(paths["diffusion_model"])
    assert TIMESTEP_ZERO not in tiny_bases.load_base("qwen_image", paths, torch.float32).transformer_file()
    marked = save({**tensors, TIMESTEP_ZERO: torch.zeros(0)}, tmp_path / "marked.safetensors")
    exported = tiny_bases.load_base(
        "qwen_image", {**paths, "diffusion_model": marked}, torch.float32
    ).transformer_file()
    assert exported.keys() == safetensors.torch.load_file(marked).keys()
    # A diffusers folder says it in its configuration.
    folder = tmp_path / "transformer"
    save(tensors, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text('{"zero_cond_t": true}', encoding="utf-8")
    assert load_qwen_transformer(folder, torch.float32).config.zero_cond_t
