"""Random weights of the real architectures at tiny sizes, written as the files that ComfyUI loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, QwenImageTransformer2DModel
from torch import nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    DPTImageProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLModel,
    Qwen2Config,
    Qwen2Model,
)

from sf_model.backbones.mini import MINI_DIR, TOKENIZER_DIR
from sf_model.config import (
    DepthAdapterConfig,
    DepthFlowConfig,
    DepthHeadConfig,
    MLLMConfig,
    SpatialFusionConfig,
    SpatialTransformerConfig,
)
from sf_model.training.bases import keys
from sf_model.training.bases.omnigen2 import OmniGen2Base
from sf_model.training.bases.omnigen2_transformer import OmniGen2Transformer
from sf_model.training.bases.qwen_image import IMAGE_TOKENS, QwenImageBase
from sf_model.training.bases.released import BaseFiles, ReleasedBase
from sf_model.training.bases.sizes import OmniGen2Config

# The Mini's vocabulary: the real one has 150 times as many words, and its embedding would be most of these models.
FIRST_FREE_TOKEN = 1024
VOCABULARY = 1100
HIDDEN = 256
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
}
MLLM = MLLMConfig(4, num_attention_heads=2, num_kv_heads=1, head_dim=128, rope_theta=1e6, qk_norm=False)
DINOV2_DIM = 32


def spatial_config(backbone: str, source: bool) -> SpatialFusionConfig:
    """A spatial transformer that reads two of the four layers."""
    return SpatialFusionConfig(
        name=f"tiny_{backbone}",
        backbone=backbone,
        mllm=MLLM,
        spatial_transformer=SpatialTransformerConfig(
            32,
            48,
            2,
            1e-6,
            query_grid=2,
            stride=32,
            source_feature_dim=DINOV2_DIM if source else None,
            source_at_queries=source,
            mllm_positions=True,
        ),
        depth_head=DepthHeadConfig((8, 8, 12, 12), 8, patch_output=True),
        depth_adapter=DepthAdapterConfig(
            "latent", "patch", downscale=8, hidden_channels=16, num_blocks=1, out_channels=16
        ),
        depth_flow=DepthFlowConfig(time_channels=32, detail_channels=8, mean_first=True),
        layout=None,
    )


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Every parameter matters: nothing zero, norm weights around 1, activations near unit scale."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
        is_norm = name.endswith((".weight", ".gamma")) and (parameter.ndim == 1 or name.endswith("gamma"))
        parameter.data = 1 + 0.1 * noise if is_norm else noise * (fan_in**-0.5 if fan_in else 0.05)
    return module.eval()


def text_decoder(vocabulary: int = VOCABULARY) -> Qwen2Model:
    return randomize(Qwen2Model(Qwen2Config(**DECODER | {"vocab_size": vocabulary}, rope_theta=1e6)), 1)


def vision_language_model(vocabulary: int = VOCABULARY) -> Qwen2_5_VLModel:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {"depth": 1, "hidden_size": 64, "intermediate_size": 48, "out_hidden_size": HIDDEN, "num_heads": 16}
    config = Qwen2_5_VLConfig(
        text_config={
            **DECODER,
            "vocab_size": vocabulary,
            "rope_theta": 1e6,
            "rope_scaling": rope,
            "use_sliding_window": False,
        },
        vision_config=vision,
    )
    return randomize(Qwen2_5_VLModel(config), 2)


def omnigen2_transformer() -> OmniGen2Transformer:
    config = OmniGen2Config(
        hidden_size=48,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=4,
        num_kv_heads=2,
        axes_dim_rope=(4, 4, 4),
        text_feat_dim=HIDDEN,
    )
    return randomize(OmniGen2Transformer(config), 3)


def qwen_image_transformer() -> QwenImageTransformer2DModel:
    transformer = QwenImageTransformer2DModel(
        num_layers=2, attention_head_dim=128, num_attention_heads=1, joint_attention_dim=HIDDEN
    )
    return randomize(transformer, 4)


def image_autoencoder() -> AutoencoderKL:
    autoencoder = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return randomize(autoencoder, 5)


def video_autoencoder() -> AutoencoderKLQwenImage:
    return randomize(AutoencoderKLQwenImage(base_dim=8), 6)


def dinov2() -> Dinov2Model:
    config = Dinov2Config(
        hidden_size=DINOV2_DIM, num_hidden_layers=1, num_attention_heads=1, image_size=518, patch_size=14
    )
    return randomize(Dinov2Model(config), 7)


def _save(module: nn.Module, file_name: Callable[[str], str], path: Path) -> None:
    tensors = {name: value.contiguous().clone() for name, value in keys.to_file(module, file_name).items()}
    safetensors.torch.save_file(tensors, path)


def write_tokenizer(folder: Path) -> Path:
    """The Mini's tokenizer with Qwen2.5-VL's image tokens besides."""
    shutil.copytree(MINI_DIR / TOKENIZER_DIR, folder, dirs_exist_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    for index, token in enumerate(IMAGE_TOKENS):
        config["added_tokens_decoder"][str(FIRST_FREE_TOKEN + index)] = {"content": token, **flags}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def load_base(name: str, paths: dict[str, Path], dtype: torch.dtype) -> ReleasedBase:
    """What `write_weights` wrote, without a vision encoder."""
    files = BaseFiles(**{**paths, "vision": None}, dtype=dtype)
    return OmniGen2Base(files) if name == "omnigen2" else QwenImageBase(files)


def write_weights(base: str, folder: Path, vocabulary: int = VOCABULARY) -> dict[str, Path]:
    """The files of a base and its tokenizer, by the names of `WeightSettings`."""
    folder.mkdir(parents=True, exist_ok=True)
    if base == "omnigen2":
        parts = {
            "text_encoder": (text_decoder(vocabulary), keys.text_decoder),
            "diffusion_model": (omnigen2_transformer(), keys.unchanged),
            "vae": (image_autoencoder(), keys.autoencoder(4)),
        }
    else:
        parts = {
            "text_encoder": (vision_language_model(vocabulary), keys.vision_language_model),
            "diffusion_model": (qwen_image_transformer(), keys.unchanged),
            "vae": (video_autoencoder(), keys.video_autoencoder),
        }
    parts["vision"] = (dinov2(), keys.vision_encoder)
    paths = {"tokenizer": write_tokenizer(folder / "tokenizer")}
    for name, (module, file_name) in parts.items():
        paths[name] = folder / f"{name}.safetensors"
        _save(module, file_name, paths[name])
    return paths


def depth_anything() -> tuple[Any, Any]:
    """A teacher and its image processor, which measures metres."""
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=20,
    )
    return DepthAnythingForDepthEstimation(config), DPTImageProcessor(size={"height": 28, "width": 28}, do_resize=True)
