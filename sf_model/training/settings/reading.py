"""YAML -> settings, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...config import dataclass_from_dict
from .checks import check_settings
from .fields import TrainingSettings
from .migration import migrated


def load_settings(path: Path) -> TrainingSettings:
    """Read and check a config file of any version. Relative paths in it start at the working directory.

    ValueError, with the file's name and the field's path, for anything that is wrong.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such config file; copy one of configs/*.yaml and fill in your paths")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error})") from error
    try:
        return settings_from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def settings_from_dict(values: Any) -> TrainingSettings:
    """Checked settings of plain values. ValueError with the field's path."""
    settings: TrainingSettings = dataclass_from_dict(TrainingSettings, migrated(values), "config")
    check_settings(settings)
    return settings
