"""Tiny weights of the real architectures under the names of real files, for graphs with stock loaders.

MoGe, Qwen-Image's VAE and LoRAs have the sizes that their files tell. Of the others the host fixes some, whatever the
file holds: the width and heads of each diffusion transformer (of OmniGen2 every size), the text encoders' widths, the
width of DINOv2 and of FLUX.1's VAE. Files written here name their base in their metadata, and only while the host loads
such a file does `tiny_bases.tiny_sizes` answer. TAESD stands for FLUX.1's VAE: the host knows it by its tensors.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import comfy.clip_vision
import comfy.controlnet
import comfy.ldm.wan.vae
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.taesd.taesd
import folder_paths
import safetensors
import safetensors.torch
import torch
from comfy.ldm.qwen_image.controlnet import QwenImageControlNetModel
from comfy_api.v0_0_2 import io

import nodes

from . import tiny_bases, tiny_more_bases

CATEGORY = "SpatialFusion tests"
BASE_KEY = "spatialfusion tests"
LORA_RANK = 4
LORA_LAYERS = {"qwen_image": "transformer_blocks.0.attn.to_q"}
# What a language model with random weights is taken to have written. It writes random words.
LAYOUT = {
    "objects": [
        {"name": "red vintage car", "position": [1, 20]},
        {"name": "woman in a yellow coat", "position": [0, 3]},
        {"name": "street lamp", "position": [2, 9]},
    ]
}
MOGE_WIDTH = 64  # the host makes one attention head of every 64 channels
MOGE_CHANNELS = [8] * 5
# The kind, the width, and the number of layers that the host knows DINOv2 large by.
DINOV2_LARGE = "dinov2", 32, 24
# Of the host's image encoders: what its JSON files say, the kind included.
TINY_VISION: dict[str, dict[str, Any]] = {
    "dinov2": {
        "layer_norm_eps": 1e-6,
        "use_swiglu_ffn": False,
        "image_size": 518,  # the only one of the oldest host
        "patch_size": 14,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "clip_vision_model": {
        "intermediate_size": 48,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "num_channels": 3,
        "projection_dim": 16,
        "image_size": 224,
        "patch_size": 14,
    },
}


def vae_weights(base: str) -> dict[str, torch.Tensor]:
    if base != "qwen_image":
        return tiny_bases.random_weights(comfy.taesd.taesd.TAESD(latent_channels=16), 0)
    sizes = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    module = comfy.ldm.wan.vae.WanVAE(dim=4, z_dim=16, temperal_downsample=[False, True, True], **sizes)
    return tiny_bases.random_weights(module, 0)


def diffusion_weights(base: str) -> dict[str, torch.Tensor]:
    return tiny_more_bases.flux_weights() if base == "flux" else tiny_bases.transformer_weights(base)


def text_weights(base: str) -> dict[str, torch.Tensor]:
    """base: also a name of tiny_more_bases.TEXT_SIZES."""
    if base in tiny_more_bases.TEXT_SIZES:
        return tiny_more_bases.text_weights(base)
    return tiny_bases.mllm_weights(base)


def controlnet_weights(base: str) -> dict[str, torch.Tensor]:
    if base == "flux":
        return tiny_more_bases.flux_controlnet_weights()
    if base == "sdxl":
        return tiny_more_bases.sdxl_controlnet_weights()
    module = QwenImageControlNetModel(
        **tiny_bases.QWEN_IMAGE, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init
    )
    return tiny_bases.random_weights(module, 6)


def lora_weights(base: str) -> dict[str, torch.Tensor]:
    layer = f"diffusion_model.{LORA_LAYERS[base]}"
    width = tiny_bases.transformer_weights(base)[f"{LORA_LAYERS[base]}.weight"].shape[0]
    generator = torch.Generator().manual_seed(9)
    up, down = (torch.randn(shape, generator=generator) for shape in ((width, LORA_RANK), (LORA_RANK, width)))
    return {f"{layer}.lora_up.weight": 0.3 * up, f"{layer}.lora_down.weight": 0.3 * down}


def clip_vision(kind: str, hidden_size: int, layers: int) -> comfy.clip_vision.ClipVisionModel:
    """One of TINY_VISION, its weights not yet set."""
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": 1, "model_type": kind}
    config = Path(folder_paths.get_temp_directory()) / f"{kind}_{hidden_size}_{layers}.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(TINY_VISION[kind] | sizes), encoding="utf-8")
    return comfy.clip_vision.ClipVisionModel(str(config))  # the oldest host takes no dictionary


def vision_weights(_: str) -> dict[str, torch.Tensor]:
    return tiny_bases.random_weights(clip_vision(*DINOV2_LARGE).model, 3)


def moge_weights(_: str) -> dict[str, torch.Tensor]:
    """MoGe 2 without normals."""
    import comfy.ldm.moge.model as moge  # the oldest host has none

    def stack(dim_in: list[int], dim_out: list[int | None]) -> dict[str, Any]:
        return {
            "dim_in": dim_in,
            "dim_res_blocks": MOGE_CHANNELS,
            "dim_out": dim_out,
            "num_res_blocks": [1] * 5,
            "resamplers": ["conv_transpose"] * 4,
        }

    backbone = {
        "hidden_size": MOGE_WIDTH,
        "num_attention_heads": 1,
        "num_hidden_layers": 4,
        "layer_norm_eps": 1e-6,
        "use_swiglu_ffn": False,
    }
    module = moge.MoGeModelV2(
        encoder={"backbone": backbone, "intermediate_layers": [0, 1, 2, 3], "dim_out": 8},
        neck=stack([10, 2, 2, 2, 2], [*MOGE_CHANNELS]),
        points_head=stack(MOGE_CHANNELS, [None] * 4 + [3]),
        mask_head=stack(MOGE_CHANNELS, [None] * 4 + [1]),
        scale_head={"dims": [MOGE_WIDTH, 8, 1]},
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
    )
    return slanted_wall(tiny_bases.random_weights(module, 2))


def slanted_wall(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random weights of MoGe 2, changed so that they measure a wall, nearer at the bottom, some metres away.

    Its heads pass the view plane's coordinates u, v on as the directions, and take e^(1.2 - v) for the depth; only the
    metric scale is left to the image.
    """
    for name, value in weights.items():
        if ".resamplers." in name or ".layers.5." in name or "_blocks.4." in name:
            value.zero_()
    for name in ("neck.input_blocks", "neck.output_blocks", "points_head.input_blocks", "points_head.output_blocks"):
        weights[f"{name}.4.weight"][:2, :2, 0, 0] = torch.eye(2)
    weights["points_head.output_blocks.4.weight"][2, 1] = -1.0
    weights["points_head.output_blocks.4.bias"][2] = 1.2
    weights["mask_head.output_blocks.4.bias"].fill_(5.0)
    weights["scale_head.2.weight"] *= 0.02
    weights["scale_head.2.bias"].zero_()
    return weights


# By the folder in models/ that the real file belongs to.
WEIGHTS: dict[str, Callable[[str], dict[str, torch.Tensor]]] = {
    "checkpoints": tiny_more_bases.checkpoint_weights,
    "clip_vision": vision_weights,
    "diffusion_models": diffusion_weights,
    "model_patches": tiny_more_bases.patch_weights,
    "text_encoders": text_weights,
    "vae": vae_weights,
    "controlnet": controlnet_weights,
    "loras": lora_weights,
    "geometry_estimation": moge_weights,
}


class ProbeTinyFiles(io.ComfyNode):
    """Writes a tiny file for each of `files`: a JSON list of {"name", "directory", "base"}; the latter as `tiny_bases`
    names it, the others as templates name their models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeTinyFiles", category=CATEGORY, inputs=[io.String.Input("files")], outputs=[], is_output_node=True
        )

    @classmethod
    def execute(cls, files: str) -> io.NodeOutput:
        for file in json.loads(files):
            path = Path(folder_paths.models_dir) / file["directory"] / file["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            tensors = {name: value.clone() for name, value in WEIGHTS[file["directory"]](file["base"]).items()}
            safetensors.torch.save_file(tensors, path, {BASE_KEY: file["base"]})
        return io.NodeOutput()


def base_of(path: str) -> str | None:
    """The base that a tiny file is for, None for any other file."""
    if not path.endswith(".safetensors"):
        return None
    with safetensors.safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(BASE_KEY)


def _sizes_of(path: str) -> contextlib.AbstractContextManager[None]:
    base = base_of(path)
    if base in tiny_bases.TRANSFORMERS:
        return tiny_bases.tiny_sizes(base)
    return tiny_more_bases.tiny_image_sizes(base) if base in tiny_more_bases.CONFIGS else contextlib.nullcontext()


def _tiny_file_loader(load: Callable[..., Any]) -> Callable[..., Any]:
    """The host's function that loads one file, for tiny ones too."""

    @functools.wraps(load)
    def load_any(path: str, *arguments: Any, **options: Any) -> Any:
        with _sizes_of(path):
            return load(path, *arguments, **options)

    return load_any


def _tiny_clip_loader(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_any(ckpt_paths: list[str], *arguments: Any, model_options: Any = None, **options: Any) -> Any:
        model_options = dict(model_options or {})
        base = base_of(ckpt_paths[0])
        if base in tiny_bases.TEXT_NAMES:
            model_options[f"{tiny_bases.TEXT_NAMES[base]}_model_config"] = tiny_bases.mllm_config(base)
        elif base is not None:
            model_options |= tiny_more_bases.text_options()
        with _sizes_of(ckpt_paths[0]):
            clip = load(ckpt_paths, *arguments, model_options=model_options, **options)
        if base == "z_image":
            _write_a_layout(clip.tokenizer)
        return clip

    return load_any


def _write_a_layout(tokenizer: Any) -> None:
    """From now on what this language model wrote reads as LAYOUT. It still writes, token by token."""
    decode = tokenizer.decode

    def decode_any(tokens: Any, skip_special_tokens: bool = True) -> str:
        return json.dumps(LAYOUT) if skip_special_tokens else decode(tokens, skip_special_tokens=False)

    tokenizer.decode = decode_any


def _tiny_checkpoint_loader(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_any(path: str, *arguments: Any, **options: Any) -> Any:
        base = base_of(path)
        if base is not None:
            options["te_model_options"] = tiny_more_bases.text_options()
        with _sizes_of(path):
            return load(path, *arguments, **options)

    return load_any


def _tiny_patch_loader(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_any(loader: Any, name: str) -> Any:
        base = base_of(folder_paths.get_full_path_or_raise("model_patches", name))
        with contextlib.nullcontext() if base is None else tiny_more_bases.tiny_patch_sizes():
            return load(loader, name)

    return load_any


def _tiny_vision_loader(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """The host's own way, by which it knows DINOv2 large; only the sizes in its JSON file are replaced."""

    @functools.wraps(load)
    def load_any(path: str) -> Any:
        if base_of(path) is None:
            return load(path)
        tiny = clip_vision(*DINOV2_LARGE)
        with mock.patch.object(comfy.clip_vision, "ClipVisionModel", lambda _: tiny):
            return load(path)

    return load_any


def _full_precision(build: Callable[..., None]) -> Callable[..., None]:
    """As --fp32-text-enc: MoGe runs in the text encoder's type, and its half precision has no resizing on the CPU."""

    @functools.wraps(build)
    def build_in_float32(*arguments: Any, **options: Any) -> None:
        with mock.patch.object(comfy.model_management, "text_encoder_dtype", lambda device=None: torch.float32):
            build(*arguments, **options)

    return build_in_float32


def prepare_stock_loaders() -> None:
    """From now on the stock loaders load tiny files, and all others as before."""
    comfy.sd.load_diffusion_model = _tiny_file_loader(comfy.sd.load_diffusion_model)
    comfy.controlnet.load_controlnet = _tiny_file_loader(comfy.controlnet.load_controlnet)
    comfy.sd.load_clip = _tiny_clip_loader(comfy.sd.load_clip)
    comfy.sd.load_checkpoint_guess_config = _tiny_checkpoint_loader(comfy.sd.load_checkpoint_guess_config)
    patches = nodes.NODE_CLASS_MAPPINGS["ModelPatchLoader"]
    patches.load_model_patch = _tiny_patch_loader(patches.load_model_patch)
    comfy.clip_vision.load = _tiny_vision_loader(comfy.clip_vision.load)
    with contextlib.suppress(ModuleNotFoundError):  # the oldest host has no MoGe
        import comfy.ldm.moge.model as moge

        moge.MoGeModel.__init__ = _full_precision(moge.MoGeModel.__init__)


NODES: list[type[io.ComfyNode]] = [ProbeTinyFiles]
