"""The config file of a training: YAML into frozen dataclasses. `configs/*.yaml` show every field."""

from .fields import (
    SETTINGS_VERSION,
    STAGE_NAMES,
    CaptionShares,
    DataSettings,
    DepthSettings,
    DiffusionSettings,
    DocumentSettings,
    FusionSettings,
    LabelSettings,
    LateSettings,
    LoopSettings,
    SpatialSettings,
    StageSettings,
    TrainingSettings,
    WeightSettings,
    WorldSettings,
)
from .migration import migrated
from .reading import load_settings, settings_from_dict
from .variants import CUDA_SAMPLES, on_cuda, smoke

__all__ = [
    "CUDA_SAMPLES",
    "SETTINGS_VERSION",
    "STAGE_NAMES",
    "CaptionShares",
    "DataSettings",
    "DepthSettings",
    "DiffusionSettings",
    "DocumentSettings",
    "FusionSettings",
    "LabelSettings",
    "LateSettings",
    "LoopSettings",
    "SpatialSettings",
    "StageSettings",
    "TrainingSettings",
    "WeightSettings",
    "WorldSettings",
    "load_settings",
    "migrated",
    "on_cuda",
    "settings_from_dict",
    "smoke",
]
