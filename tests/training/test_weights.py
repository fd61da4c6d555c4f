"""Weight files: names both ways, folders of diffusers and transformers, 8-bit storage, and wrong files by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sf_model.training.bases import keys
from sf_model.training.bases.omnigen2 import load_autoencoder, load_text_decoder, load_transformer
from sf_model.training.bases.qwen_image import load_autoencoder as load_video_autoencoder
from sf_model.training.bases.qwen_image import load_transformer as load_qwen_transformer
from sf_model.training.bases.qwen_image import load_vision_language_model
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
