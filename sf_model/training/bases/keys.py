"""Parameter names in ComfyUI's files <-> names in the modules that train. One function for each kind of file.

Each function maps a module's parameter name to the name in the file. Both directions use it with the module's own
names, so that they always agree. `weights.py` renames files of diffusers and transformers to ComfyUI's names first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
import torch.nn as nn

FileName = Callable[[str], str]

_AUTOENCODER = (
    (r"\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r".down.\1.block.\2."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.(\d+)\.", r".up.\1.block.\2."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
_VIDEO_AUTOENCODER = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.down_blocks\.(\d+)\.", r".downsamples.\1."),
)
_VIDEO_RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
_ATTENTION = {"q": "query", "k": "key", "v": "value"}
# Modules of one level of the video autoencoder's decoder: three resnets and the upsampler. The file numbers them all.
_VIDEO_LEVEL = 4


def unchanged(name: str) -> str:
    """OmniGen2's and Qwen-Image's transformers: the module has the file's own names."""
    return name


def vision_encoder(name: str) -> str:
    """DINOv2's published names for transformers' Dinov2Model. transformers 5 renamed its attention."""
    name = re.sub(r"\.attention\.([qkv])_proj\.", lambda match: f".attention.attention.{_ATTENTION[match[1]]}.", name)
    return name.replace(".attention.o_proj.", ".attention.output.dense.")


def text_decoder(name: str) -> str:
    """Qwen2.5 without its vision tower, as transformers' Qwen2Model."""
    return f"model.{name}"


def vision_language_model(name: str) -> str:
    """Qwen2.5-VL, as transformers' Qwen2_5_VLModel."""
    return re.sub(r"^language_model\.", "model.", name)


def autoencoder(levels: int) -> FileName:
    """The image autoencoder of Flux and OmniGen2 (`ae.safetensors`), as diffusers' AutoencoderKL."""

    def file_name(name: str) -> str:
        for pattern, replacement in _AUTOENCODER:
            name = re.sub(pattern, replacement, name)
        # The file counts the decoder's levels from the image, diffusers from the latent.
        return re.sub(r"\.up\.(\d+)\.", lambda match: f".up.{levels - 1 - int(match[1])}.", name)

    return file_name


def video_autoencoder(name: str) -> str:
    """Qwen-Image's autoencoder (`qwen_image_vae.safetensors`, Wan's names), as diffusers' AutoencoderKLQwenImage."""
    residual = re.search(r"\.(resnets\.\d+|down_blocks\.\d+)\.(norm1|conv1|norm2|conv2|conv_shortcut)\.", name)
    if residual:
        name = name[: residual.start(2)] + _VIDEO_RESIDUAL[residual[2]] + name[residual.end(2) :]
    up = re.search(r"\.up_blocks\.(\d+)\.(?:resnets\.(\d+)|upsamplers\.0)\.", name)
    if up:
        place = _VIDEO_LEVEL * int(up[1]) + (_VIDEO_LEVEL - 1 if up[2] is None else int(up[2]))
        return f"{name[: up.start()]}.upsamples.{place}.{name[up.end() :]}"
    for pattern, replacement in _VIDEO_AUTOENCODER:
        name = re.sub(pattern, replacement, name)
    return name


def to_module(
    tensors: Mapping[str, torch.Tensor],
    module: nn.Module,
    file_name: FileName,
    what: str,
    ignored: tuple[str, ...] = (),
) -> dict[str, torch.Tensor]:
    """The module's state dict from a file's tensors. ValueError, with `what` and the first names that differ.

    ignored: prefixes of names in the file that the module does not need.
    """
    own = module.state_dict()
    wanted = {file_name(name): name for name in own}
    assert len(wanted) == len(own), "two parameters have one name in the file"
    missing = sorted(wanted.keys() - tensors.keys())
    unknown = sorted(name for name in tensors.keys() - wanted.keys() if not name.startswith(ignored or ("\0",)))
    if missing or unknown:
        raise ValueError(
            f"{what} is another model than expected: it lacks {missing[:3]} ({len(missing)} in all) and has "
            f"{unknown[:3]} ({len(unknown)} in all) besides; name the file of this base"
        )
    state = {}
    for stored, name in wanted.items():
        value, shape = tensors[stored], own[name].shape
        # The autoencoder's attention has 1x1 convolutions in the file and linear layers in diffusers.
        state[name] = (
            value.reshape(shape) if value.numel() == shape.numel() and _only_ones_differ(value, shape) else value
        )
        if state[name].shape != shape:
            raise ValueError(f"{what}: {stored} has the shape {tuple(value.shape)}, expected {tuple(shape)}")
    return state


def to_file(module: nn.Module, file_name: FileName) -> dict[str, torch.Tensor]:
    """The module's tensors under the file's names: the inverse of `to_module`, except for ignored names."""
    tensors = {file_name(name): value for name, value in module.state_dict().items()}
    return {name: _as_stored(name, value) for name, value in tensors.items()}


def _as_stored(name: str, value: torch.Tensor) -> torch.Tensor:
    is_convolution = re.search(r"\.mid\.attn_1\.(q|k|v|proj_out)\.weight$", name) and value.ndim == 2
    return value[:, :, None, None] if is_convolution else value


def _only_ones_differ(value: torch.Tensor, shape: torch.Size) -> bool:
    return [size for size in value.shape if size > 1] == [size for size in shape if size > 1]
