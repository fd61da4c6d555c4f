"""Small checkpoints for tests, beside the built-in Mini: random weights whose adapters do change the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from sf_model.backbones.mini import MINI as MINI_BASE
from sf_model.checkpoint import save_checkpoint
from sf_model.config import MINI, SpatialFusionConfig
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.pixel_encoder import PixelEncoder, source_patch_dim

TOKEN, LATENT, EDITING = "token.safetensors", "latent.safetensors", "editing.safetensors"
PATCHES = "editing_from_patches.safetensors"
MEAN_ONLY = "mean_only.safetensors"
OTHER_LAYERS, OTHER_HEADS = "other_layers.safetensors", "other_heads.safetensors"
OTHER_CHANNELS, OTHER_WIDTH = "other_channels.safetensors", "other_width.safetensors"
NOT_FINITE = "not_finite.safetensors"
TRUNCATED, NOT_SAFETENSORS, FOREIGN = "truncated.safetensors", "text.safetensors", "foreign.safetensors"

SOURCE_FEATURE_DIM = 32

_SMALL = replace(
    MINI,
    name="test",
    spatial_transformer=replace(MINI.spatial_transformer, hidden_size=32, intermediate_size=48),
    depth_head=replace(MINI.depth_head, reassemble_channels=(8, 8, 8, 8), fusion_channels=8),
)
_LATENT_ADAPTER = replace(MINI.depth_adapter, injection="latent", downscale=1, out_channels=3)
_CONFIGS: dict[str, SpatialFusionConfig] = {
    TOKEN: _SMALL,
    LATENT: replace(_SMALL, depth_adapter=_LATENT_ADAPTER),
    EDITING: replace(
        _SMALL,
        spatial_transformer=replace(
            _SMALL.spatial_transformer, source_feature_dim=SOURCE_FEATURE_DIM, source_at_queries=True
        ),
    ),
    PATCHES: replace(
        _SMALL,
        spatial_transformer=replace(
            _SMALL.spatial_transformer,
            source_feature_dim=source_patch_dim(MINI_BASE.source_patch_px),
            source_at_queries=True,
        ),
    ),
    MEAN_ONLY: replace(_SMALL, depth_flow=None),
    OTHER_LAYERS: replace(_SMALL, mllm=replace(MINI.mllm, num_layers=9)),
    OTHER_HEADS: replace(_SMALL, mllm=replace(MINI.mllm, num_attention_heads=8, num_kv_heads=4)),
    OTHER_CHANNELS: replace(_SMALL, depth_adapter=replace(_LATENT_ADAPTER, out_channels=16)),
    OTHER_WIDTH: replace(_SMALL, depth_adapter=replace(MINI.depth_adapter, out_channels=320)),
}


def write_checkpoints(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, config) in enumerate(_CONFIGS.items()):
        _write(folder / name, config, seed)
    _write_not_finite(folder)
    complete = (folder / TOKEN).read_bytes()
    (folder / TRUNCATED).write_bytes(complete[: len(complete) // 2])
    (folder / NOT_SAFETENSORS).write_text("this is not a model", encoding="utf-8")
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, folder / FOREIGN)


def _write(path: Path, config: SpatialFusionConfig, seed: int) -> None:
    torch.manual_seed(seed)
    predictor, adapter = DepthPredictor(config), DepthAdapter(config.depth_adapter)
    with torch.no_grad():
        adapter.out.weight.normal_(std=0.2)
        if predictor.depth_flow is not None:
            predictor.depth_flow.patch.weight.normal_(std=0.1)
        if config.spatial_transformer.source_at_queries:
            predictor.source_encoder.at_queries.weight.normal_(std=0.3)
        if isinstance(predictor.source_encoder, PixelEncoder):
            predictor.source_encoder.monocular_depth.state_out.weight.normal_(std=0.1)
        predictor.depth_head.out_conv2.bias.copy_(torch.tensor([0.0, 4.0, 0.0]))  # a surface everywhere
    save_checkpoint(path, config, predictor.state_dict(), adapter.state_dict(), "none", {}, torch.float32)


def _write_not_finite(folder: Path) -> None:
    """TOKEN with weights that are NaN."""
    with safetensors.safe_open(folder / TOKEN, framework="pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(folder / TOKEN)
    tensors["depth_head.out_conv2.weight"].fill_(torch.nan)
    safetensors.torch.save_file(tensors, folder / NOT_FINITE, metadata)
