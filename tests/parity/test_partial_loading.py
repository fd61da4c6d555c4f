"""The host's low-VRAM loading: weights that stay offloaded, and are cast and patched with LoRAs layer by layer.

A server on the CPU cannot be started with --lowvram or --novram (they exclude --cpu), so the host is told here that
this CPU is a device without memory of its own. Dynamic VRAM needs an NVIDIA device: on a CPU the host makes plain
patchers.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import pytest
import torch

from sf_model.models.depth_flow import draw_noise
from tests.host.tiny_checkpoints import tiny_config, write_tiny_checkpoint

PROMPT = "a red chair 2 m away"
LORA_LAYER = {
    "omnigen2": ("layers.0.attn.to_q", 96, 96),
    "qwen_image": ("transformer_blocks.0.attn.to_q", 64, 64),
    "z_image": ("layers.0.attention.out", 256, 256),
}


def lora_patches(keys: dict[str, str], layer: str, outputs: int, inputs: int) -> dict:
    generator = torch.Generator().manual_seed(2)
    tensors = {
        f"{layer}.lora_up.weight": torch.randn(outputs, 4, generator=generator) * 0.3,
        f"{layer}.lora_down.weight": torch.randn(4, inputs, generator=generator) * 0.3,
    }
    return comfy.lora.load_lora(tensors, keys)


def resident_modules(patcher: comfy.model_patcher.ModelPatcher) -> int:
    """How many modules the host loaded wholly."""
    return sum(hasattr(module, "comfy_patched_weights") for module in patcher.model.modules())


@pytest.mark.parametrize("injection", ["latent", "token"])
@pytest.mark.parametrize("architecture", list(LORA_LAYER))
@torch.no_grad()
def test_offloaded_weights_give_the_same_depth_and_image(
    architecture: str,
    injection: str,
    nodes: ModuleType,
    tiny_bases: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = write_tiny_checkpoint(tmp_path, "tiny.safetensors", tiny_config(architecture, injection))
    packed = nodes.runtime.loaded_checkpoint.load_checkpoint(tmp_path / name)

    def run(offload: bool) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        comfy.model_management.unload_all_models()
        model = tiny_bases.load_model(architecture, tmp_path)
        clip = tiny_bases.load_clip(architecture, tmp_path)
        layer, outputs, inputs = LORA_LAYER[architecture]
        keys = comfy.lora.model_lora_keys_unet(model.model, {})
        model.add_patches(lora_patches(keys, f"diffusion_model.{layer}", outputs, inputs), 1.0)
        loaded = nodes.runtime.loaded_checkpoint.load_beside(clip, packed, tmp_path / name, name)
        if offload:
            monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
            monkeypatch.setattr(comfy.model_management, "vram_state", comfy.model_management.VRAMState.NO_VRAM)
        encoded = nodes.runtime.prompt_capture.encode_prompt(clip, loaded.decoder_path, PROMPT)
        noise = draw_noise(loaded.predictor.model.noise_shape(1, 96, 64), seed=3)
        sampling = nodes.runtime.prediction.DepthSampling(noise, steps=2, guidance=2.0)
        depth = nodes.runtime.prediction.predict_depth(loaded, encoded, 64, 96, None, sampling).depth
        with monkeypatch.context() as patch:
            patch.setattr(comfy.model_management, "should_use_bf16", lambda *_, **__: True)
            half = nodes.runtime.prediction.predict_depth(loaded, encoded, 64, 96, None, sampling).depth
        error = (half.log_depth() - depth.log_depth())[depth.valid & half.valid].abs().mean()
        assert 0 < error < 0.005
        control = nodes.runtime.depth_control.DepthControl(depth, None, 1.0, start_percent=0.0, end_percent=1.0)
        patched = nodes.runtime.injection.inject(model, loaded.adapter, control, loaded.backbone)
        latent = torch.zeros(1, 16, *((1,) if architecture == "qwen_image" else ()), 12, 8)
        image = comfy.sample.sample_custom(
            patched,
            comfy.sample.prepare_noise(latent, 7),
            3.0,
            comfy.samplers.sampler_object("euler"),
            torch.tensor([1.0, 0.6, 0.0]),
            encoded.conditioning,
            clip.encode_from_tokens_scheduled(clip.tokenize("")),
            latent,
            disable_pbar=True,
        )
        parts = (model, loaded.predictor, loaded.adapter)
        return depth.log_depth(), image, [resident_modules(part) for part in parts]

    depth, image, resident = run(offload=False)
    offloaded_depth, offloaded_image, still_resident = run(offload=True)
    assert all(after < before for after, before in zip(still_resident, resident)), (resident, still_resident)
    assert torch.equal(offloaded_depth, depth)
    torch.testing.assert_close(offloaded_image, image, rtol=1e-5, atol=1e-5)
