"""An exported LoRA in the host: every key is applied, and the model then gives what the merged weights give."""

from pathlib import Path

import comfy.model_base
import comfy.ops
import comfy.sd
import comfy.supported_models
import pytest
import safetensors.torch
import torch
from comfy.model_patcher import ModelPatcher

from sf_model.training.bases.base import Base
from sf_model.training.bases.lora import add_lora, host_lora, is_lora, save_lora
from sf_model.training.bases.omnigen2 import OmniGen2Base
from sf_model.training.bases.qwen_image import QwenImageBase
from sf_model.training.bases.released import BaseFiles
from sf_model.training.bases.weights import read_weights
from tests.parity.measures import relative_error
from tests.training import tiny_bases

ALPHA, RANK = 6.0, 3
TOLERANCE = 1e-4


def _host_model(base: Base, diffusion_model: Path) -> ModelPatcher:
    """The host's own model object around a tiny transformer with the file's weights."""
    if base.name == "omnigen2":
        config = comfy.supported_models.Omnigen2({"image_model": "omnigen2", **vars(base.transformer.config)})
        build = comfy.model_base.Omnigen2
    else:
        sizes = {"num_layers": 2, "num_attention_heads": 1, "joint_attention_dim": tiny_bases.HIDDEN, "in_channels": 64}
        config = comfy.supported_models.QwenImage({"image_model": "qwen_image", **sizes})
        build = comfy.model_base.QwenImage
    config.unet_config["dtype"] = torch.float32
    config.custom_operations = comfy.ops.manual_cast
    model = build(config, device="cpu")
    model.diffusion_model.load_state_dict(read_weights(diffusion_model), strict=True)
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


@pytest.mark.parametrize("name", ["omnigen2", "qwen_image"])
@torch.no_grad()
def test_the_host_applies_every_key(name: str, tmp_path: Path) -> None:
    paths = tiny_bases.write_weights(name, tmp_path)
    files = {part: paths[part] for part in ("text_encoder", "diffusion_model", "vae", "tokenizer")}
    base = (OmniGen2Base if name == "omnigen2" else QwenImageBase)(BaseFiles(**files, vision=None, dtype=torch.float32))
    add_lora(base.transformer, base.lora_targets, RANK, ALPHA, seed=0)
    trained = {key: value for key, value in base.transformer.named_parameters() if is_lora(key)}
    for index, value in enumerate(trained.values()):
        value.copy_(0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(index)))
    save_lora(tmp_path / "lora.safetensors", host_lora(trained, ALPHA, torch.float32), "tiny")

    model = _host_model(base, paths["diffusion_model"])
    lora = safetensors.torch.load_file(tmp_path / "lora.safetensors")
    with_lora, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    assert len(with_lora.patches) == len(trained) // 2, "one patch for each pair of matrices"

    ids, mask = base.tokens.batch(["a red car"], False)
    prompt = base.encode(ids, mask, None)
    latent, time = torch.randn(1, 16, 8, 12), torch.tensor([0.4])
    merged_velocity = base.velocity(latent, time, prompt, None)
    for module in base.transformer.modules():
        if hasattr(module, "merge") and hasattr(module, "lora_A"):
            module.merge()
    assert relative_error(base.velocity(latent, time, prompt, None), merged_velocity) < TOLERANCE

    def host_velocity(patcher: ModelPatcher) -> torch.Tensor:
        patcher.patch_model()
        forward = patcher.model.diffusion_model
        if name == "omnigen2":
            output = forward(latent, 1 - time, prompt.hidden, prompt.hidden.shape[1])
        else:
            output = forward(latent.unsqueeze(2), 1 - time, prompt.hidden, None)[:, :, 0]
        patcher.unpatch_model()
        return -output

    plain = host_velocity(model)
    assert relative_error(host_velocity(with_lora), merged_velocity) < TOLERANCE
    assert relative_error(plain, merged_velocity) > 0.01, "the LoRA matters"
