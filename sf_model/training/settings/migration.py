"""Config files of older versions -> the fields of today."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .fields import SETTINGS_VERSION, STAGE_NAMES, LoopSettings


def migrated(values: Any) -> Any:
    """Convert the fields of a config file of any version to SETTINGS_VERSION, without the version.

    Version 1 had no version field, and each stage was one flat list. ValueError for a newer version.
    """
    if not isinstance(values, dict):
        return values
    values = dict(values)
    version = values.pop("version", 1)
    if version not in range(1, SETTINGS_VERSION + 1):
        raise ValueError(f"config.version is {version!r}, this code reads up to {SETTINGS_VERSION}; update it")
    if version == 1:
        values = {"starts": {}, "system": None, "language": None, "image": None, "source": None, **values}
        for name in ("stage1", "stage2"):
            if isinstance(values.get(name), dict) and "loop" not in values[name]:
                values[name] = _migrated_stage(values[name], name)
    return _with_version_3(values) if version < 3 else values


def _with_version_3(values: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had pixels for latents, and AdamW alone."""
    values = {"autoencoder": None, **values}
    if isinstance(values.get("system"), dict):
        values["system"] = {"autoencoder": None, **values["system"]}
    for name in STAGE_NAMES:
        stage = values.get(name)
        if isinstance(stage, dict) and isinstance(stage.get("loop"), dict):
            if isinstance(stage.get("world"), dict):
                stage = {**stage, "world": {"late": None, "render_on": "workers", **stage["world"]}}
            values[name] = {"documents": None, **stage, "loop": {"matrix_rate": None, **stage["loop"]}}
            if isinstance(stage.get("diffusion"), dict):
                values[name]["diffusion"] = {"draws": 1, **stage["diffusion"]}
            if isinstance(stage.get("depth"), dict):
                values[name]["depth"] = {"layout_dropout": 0.0, **stage["depth"]}
    return values


# The fields of a stage in version 1.
VERSION_1_FIELDS = {
    *("steps", "batch_size", "micro_batch", "learning_rate", "warmup_steps", "weight_decay", "gradient_clip"),
    *("ema_decay", "seed", "time_mean", "time_std", "caption_dropout", "depth_dropout", "depth_weight", "depth_flow"),
    *("depth_time_mean", "depth_time_std", "lora_rank", "lora_alpha", "gradient_checkpointing", "mixed_precision"),
    *("workers", "log_every", "save_every", "sheet_every"),
}


def _migrated_stage(flat: dict[str, Any], name: str) -> dict[str, Any]:
    """A stage of version 1: one flat list of fields, with a cosine in place of the linear decay."""
    missing, unknown = sorted(VERSION_1_FIELDS - set(flat)), sorted(set(flat) - VERSION_1_FIELDS)
    if missing or unknown:
        raise ValueError(f"config.{name}: missing fields {missing}, unknown fields {unknown}")
    flat = {**flat, "decay_steps": flat["steps"], "compile": False, "matrix_rate": None}
    loop = {field.name: flat[field.name] for field in fields(LoopSettings)}
    diffusion = {name: flat[name] for name in ("time_mean", "time_std", "caption_dropout", "depth_dropout")}
    depth = {
        "flow": flat["depth_flow"],
        "time_mean": flat["depth_time_mean"],
        "time_std": flat["depth_time_std"],
        "prompt_dropout": flat["caption_dropout"],
        "layout_dropout": 0.0,
        "draws": 1,
    }
    is_fusion = name == "stage2"
    fusion = {
        "depth_weight": flat["depth_weight"],
        "true_depth": 0.0,
        "freeze_predictor": False,
        "lora_rank": flat["lora_rank"],
        "lora_alpha": flat["lora_alpha"],
    }
    return {
        "loop": loop,
        "world": None,
        "diffusion": {**diffusion, "joint_dropout": 0.0, "draws": 1} if is_fusion else None,
        "depth": depth,
        "fusion": fusion if is_fusion else None,
        "documents": None,
    }
