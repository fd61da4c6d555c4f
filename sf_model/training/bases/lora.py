"""LoRA on the diffusion transformer (arXiv 2106.09685, by peft), saved with the names of ComfyUI's LoraLoader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import torch.nn as nn
from peft import LoraConfig, inject_adapter_in_model

from ...files.atomic import written_whole

# ComfyUI's own prefix for every diffusion model.
HOST_PREFIX = "diffusion_model."
ADAPTER = "default"


def add_lora(transformer: nn.Module, targets: str, rank: int, alpha: float, seed: int) -> None:
    """Add float32 LoRA layers to the linear layers whose names match the regex `targets`. They change nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0)
        inject_adapter_in_model(config, transformer, adapter_name=ADAPTER)
    for name, parameter in transformer.named_parameters():
        if is_lora(name):
            parameter.data = parameter.data.float()


def is_lora(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def host_lora(parameters: Mapping[str, torch.Tensor], alpha: float, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """LoRA parameters of the transformer -> tensors for LoraLoader, which applies them in full at strength 1."""
    state: dict[str, torch.Tensor] = {}
    for name, value in parameters.items():
        if is_lora(name):
            module, kind, _ = name.replace(f".{ADAPTER}.", ".").rsplit(".", 2)
            state[f"{HOST_PREFIX}{module}.{kind}.weight"] = value.detach().to("cpu", dtype).contiguous()
            state[f"{HOST_PREFIX}{module}.alpha"] = torch.tensor(float(alpha))
    return state


def save_lora(path: Path, state: Mapping[str, torch.Tensor], revision: str) -> None:
    with written_whole(path) as partial:
        safetensors.torch.save_file(dict(state), partial, {"spatialfusion_base_revision": revision})
