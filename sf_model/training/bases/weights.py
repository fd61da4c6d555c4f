"""Reads weights from ComfyUI's single files, or folders of diffusers and transformers. Only safetensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import torch

# Prefixes that some files put before a whole model, and newer transformers' names for the parts of Qwen2.5-VL.
_RENAMES = (
    (r"^(model\.diffusion_model|diffusion_model)\.", ""),
    (r"^text_encoders\.[a-z0-9_]+\.transformer\.", ""),
    (r"^model\.language_model\.", "model."),
    (r"^model\.visual\.", "visual."),
)
_SCALES = (".scale_weight", ".weight_scale")
_NOT_WEIGHTS = (".scale_input", ".input_scale", ".comfy_quant")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors file, or of a folder of them, under ComfyUI's names. 8-bit weights become bf16.

    ValueError for a missing or damaged file, for other file types, and for formats that cannot be trained.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in _files(path):
        try:
            with safetensors.safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118
                    tensors[_comfy_name(name)] = stored.get_tensor(name)
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{file}: not a complete safetensors file ({error}); download it again") from error
    return _unscaled(tensors, path)


def stored_in_8_bits(path: Path, names: tuple[str, ...]) -> bool:
    """Whether the tensor is stored in 8 bits. `names` are ComfyUI's; the file or folder has one of them."""
    for file in _files(path):
        with safetensors.safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                if _comfy_name(name) in names:
                    return str(stored.get_slice(name).get_dtype()).startswith("F8")
    return False


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise ValueError(f"{path} has no .safetensors file; name a model's own folder, such as .../transformer")
        return files
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(f"{path}: no such .safetensors file, nor a folder of them; correct the path in the config")
    return [path]


def _comfy_name(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _unscaled(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    result = {}
    for name, value in tensors.items():
        if name.endswith((*_SCALES, *_NOT_WEIGHTS)) or name == "scaled_fp8":
            continue
        if value.dtype.is_floating_point and value.element_size() == 1:
            value = value.to(torch.bfloat16)
            module = name.removesuffix(".weight")
            for scale in (tensors[module + suffix] for suffix in _SCALES if module + suffix in tensors):
                value = (value.float() * scale.float()).to(torch.bfloat16)
        elif not value.dtype.is_floating_point and name.endswith(".weight"):
            raise ValueError(
                f"{path}: {name} is stored as {value.dtype}, a quantisation that cannot be trained from; use the bf16 "
                "or fp8 file"
            )
        result[name] = value
    return result


def count(names: Iterable[str], prefix: str) -> int:
    """The number of blocks `prefix`0., `prefix`1., ... among the names."""
    found = {int(match[1]) for name in names if (match := re.match(re.escape(prefix) + r"(\d+)\.", name))}
    return max(found, default=-1) + 1
