"""Loads the base that a config file names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from ...backbones import get_backbone
from ...backbones.mini import TOKENIZER_DIR
from ...config import CONFIGS, SpatialFusionConfig
from ..settings import TrainingSettings
from .base import Base
from .mini import MiniBase
from .omnigen2 import OmniGen2Base
from .qwen_image import QwenImageBase
from .released import BaseFiles

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


def load_base(settings: TrainingSettings) -> Base:
    """The base with all its weights, frozen, on the CPU. A base that is trained from scratch has random weights.

    ValueError, with the file's name, for a wrong file.
    """
    if settings.system is not None:
        return MiniBase(settings.system, tokenizer_folder(settings), settings.stage(settings.stages[0]).loop.seed)
    weights = settings.weights
    if not Path(weights.tokenizer).is_dir():
        raise ValueError(
            f"weights.tokenizer: {weights.tokenizer} is no folder; name a Qwen2 tokenizer's, such as ComfyUI's "
            "comfy/text_encoders/qwen25_tokenizer"
        )
    files = BaseFiles(
        text_encoder=Path(weights.text_encoder),
        diffusion_model=Path(weights.diffusion_model),
        vae=Path(weights.vae),
        tokenizer=Path(weights.tokenizer),
        vision=None if weights.vision is None else Path(weights.vision),
        dtype=DTYPES[weights.dtype],
    )
    if settings.base == "omnigen2":
        return OmniGen2Base(files)
    return QwenImageBase(files, get_backbone(settings.base))


def tokenizer_folder(settings: TrainingSettings) -> Path:
    """The tokenizer's folder of a base that is trained from scratch."""
    return Path(settings.runs) / TOKENIZER_DIR


def spatial_config(settings: TrainingSettings) -> SpatialFusionConfig:
    """The checkpoint's configuration. ValueError for an unknown name, or a configuration of another base.

    Without weights.vision it has no source encoder. An untrained one would make users load DINOv2 for nothing.
    """
    if settings.system is not None:
        return settings.system.spatialfusion
    name = settings.spatial.config
    if name in CONFIGS:
        config = CONFIGS[name]
    elif name.endswith(".json") and Path(name).is_file():
        config = SpatialFusionConfig.from_dict(json.loads(Path(name).read_text(encoding="utf-8")))
    else:
        raise ValueError(f"spatial.config {name!r} is neither one of {sorted(CONFIGS)} nor a JSON file")
    if config.backbone != settings.base:
        raise ValueError(f"spatial.config {name!r} is for the base {config.backbone!r}, not {settings.base!r}")
    if settings.weights.vision is None:
        spatial = replace(config.spatial_transformer, source_feature_dim=None, source_at_queries=False)
        config = replace(config, spatial_transformer=spatial)
    return config
