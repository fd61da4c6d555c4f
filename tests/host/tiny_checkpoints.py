"""Checkpoints for the tiny real bases of `probe_nodes/tiny_bases.py`: random weights that do change the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from sf_model.backbones import get_backbone
from sf_model.checkpoint import save_checkpoint
from sf_model.config import MINI, DepthAdapterConfig, Injection, MLLMConfig, SpatialFusionConfig
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_predictor import DepthPredictor

ARCHITECTURES = ("omnigen2", "qwen_image", "z_image")
MLLM = {
    "omnigen2": MLLMConfig(3, num_attention_heads=4, num_kv_heads=2, head_dim=128, rope_theta=1e6, qk_norm=False),
    "qwen_image": MLLMConfig(4, num_attention_heads=2, num_kv_heads=1, head_dim=128, rope_theta=1e6, qk_norm=False),
    "z_image": MLLMConfig(4, num_attention_heads=4, num_kv_heads=2, head_dim=128, rope_theta=1e6, qk_norm=True),
}
TRANSFORMER_WIDTH = {"omnigen2": 96, "qwen_image": 64, "z_image": 256}
DINOV2_WIDTH = 32


def tiny_config(
    architecture: str, injection: Injection, backbone: str | None = None, source: bool = False
) -> SpatialFusionConfig:
    """backbone: the base that it says it is for, by default `architecture`."""
    name = backbone or architecture
    out_channels = get_backbone(name).latent_channels if injection == "latent" else TRANSFORMER_WIDTH[architecture]
    return SpatialFusionConfig(
        name=f"tiny_{name}_{injection}",
        backbone=name,
        mllm=MLLM[architecture],
        spatial_transformer=replace(
            MINI.spatial_transformer,
            hidden_size=32,
            intermediate_size=48,
            num_layers=3,
            source_feature_dim=DINOV2_WIDTH if source else None,
            source_at_queries=source,
        ),
        depth_head=replace(MINI.depth_head, reassemble_channels=(8, 8, 8, 8), fusion_channels=8),
        depth_adapter=DepthAdapterConfig(
            injection,
            "patch",
            downscale=8 if injection == "latent" else 16,
            hidden_channels=16,
            num_blocks=1,
            out_channels=out_channels,
        ),
        depth_flow=MINI.depth_flow,
        layout=None,
    )


def write_tiny_checkpoint(
    folder: Path,
    name: str,
    config: SpatialFusionConfig,
    revision: str = "tiny",
    base_fingerprint: Mapping[str, str] | None = None,
) -> str:
    """Returns the name in Load SpatialFusion MLLM+MoT."""
    torch.manual_seed(0)
    predictor, adapter = DepthPredictor(config), DepthAdapter(config.depth_adapter)
    with torch.no_grad():
        adapter.out.weight.normal_(std=0.3)
        # The depth answers to the prompt: the fresh head's last layer would hardly.
        predictor.depth_head.out_conv2.weight.normal_(std=0.5)
        if predictor.depth_flow is not None:
            predictor.depth_flow.patch.weight.normal_(std=0.1)
        if config.spatial_transformer.source_at_queries:
            predictor.source_encoder.at_queries.weight.normal_(std=0.3)
        predictor.depth_head.out_conv2.bias.copy_(torch.tensor([1.0, 4.0, 0.0]))
    states = predictor.state_dict(), adapter.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / name, config, *states, revision, {}, torch.float32, base_fingerprint)
    return name
