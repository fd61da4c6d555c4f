"""The config file of a training: YAML into frozen dataclasses, strictly; `configs/*.yaml` show every field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import yaml

from ...config import dataclass_from_dict
from ..loop_config import LoopConfig


@dataclass(frozen=True)
class WeightSettings:
    """Paths of the base's weights: .safetensors files or folders. `vision`: DINOv2, for edit pairs. `tokenizer`: a
    Qwen2 tokenizer's folder. `dtype`: of everything that does not learn."""

    text_encoder: str
    diffusion_model: str
    vae: str
    vision: str | None
    tokenizer: str
    dtype: Literal["bf16", "float32"]


@dataclass(frozen=True)
class SpatialSettings:
    """`config`: a name in sf_model.config.CONFIGS, or a JSON file of one. `from_mllm`: start as the MLLM's layers."""

    config: str
    from_mllm: bool


@dataclass(frozen=True)
class LabelSettings:
    """`teacher`: folder of a transformers depth model. `fov_y_deg`: for images whose camera neither the model nor EXIF
    tells; null counts them as failed. Depths from `sky_above_m` on are sky. `assume_metric`: trust another model."""

    teacher: str | None
    fov_y_deg: float | None
    sky_above_m: float
    assume_metric: bool


@dataclass(frozen=True)
class DataSettings:
    """`kind` of `path`: a folder of images, or a glob of WebDataset tars or Parquet files. `depth`: folder of depth
    files by the images' names, null where the samples carry them. `area_px`, `bucket_step`, `max_aspect`: the aspect
    buckets. `problems`: what an unusable sample does. `cache`: what is computed once. `max_gb`: bound of the store."""

    kind: Literal["folder", "webdataset", "parquet"]
    path: str
    depth: str | None
    prepared: str
    area_px: int
    bucket_step: int
    max_aspect: float
    max_upscale: float
    depth_downscale: int
    validation_samples: int
    problems: Literal["skip", "refuse"]
    cache: Literal["nothing", "latents", "latents+prompts"]
    samples_per_shard: int
    max_gb: float


@dataclass(frozen=True)
class RunSettings(LoopConfig):
    """One stage: its loop, and what stands here. `batch_size` counts the samples of a step on all processes together;
    `micro_batch` is what one process holds at once. `depth_flow`: the share of the samples whose depth is predicted
    from a noisy one, for seeded depth; 0 trains the mean alone. `lora_rank`: null trains the whole diffusion model
    (stage 2)."""

    batch_size: int
    micro_batch: int
    time_mean: float
    time_std: float
    caption_dropout: float
    depth_dropout: float
    depth_weight: float
    depth_flow: float
    depth_time_mean: float
    depth_time_std: float
    lora_rank: int | None
    lora_alpha: float
    gradient_checkpointing: bool
    mixed_precision: Literal["no", "bf16"]

    def loop(self) -> LoopConfig:
        """The loop's part of it."""
        return LoopConfig(**{field.name: getattr(self, field.name) for field in fields(LoopConfig)})


@dataclass(frozen=True)
class TrainingSettings:
    """One config file; `base` is a name in sf_model.backbones, and `runs` is where the stages' runs live."""

    base: Literal["omnigen2", "qwen_image", "qwen_image_edit"]
    runs: str
    weights: WeightSettings
    spatial: SpatialSettings
    label: LabelSettings
    data: DataSettings
    stage1: RunSettings
    stage2: RunSettings


def load_settings(path: Path) -> TrainingSettings:
    """Read and check a config file; ValueError with the field's path. Relative paths in it are from where one works."""
    if not path.is_file():
        raise ValueError(f"{path}: no such config file; copy one of configs/*.yaml and fill in your paths")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error})") from error
    try:
        settings: TrainingSettings = dataclass_from_dict(TrainingSettings, values, "config")
        for name in ("stage1", "stage2"):
            _check_run(getattr(settings, name), name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return settings


def _check_run(run: RunSettings, name: str) -> None:
    if run.batch_size % run.micro_batch:
        raise ValueError(f"{name}.micro_batch {run.micro_batch} does not divide batch_size {run.batch_size}")
    if not 0 <= run.depth_flow <= 1:
        raise ValueError(f"{name}.depth_flow {run.depth_flow} is a share of the samples: from 0 to 1")
    for field in ("steps", "batch_size", "micro_batch", "log_every", "save_every", "sheet_every"):
        if getattr(run, field) < 1:
            raise ValueError(f"{name}.{field} must be at least 1")
