"""The scene reader's weights as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..config import dataclass_from_dict
from .network import ReaderConfig, SceneReader

FORMAT_KEY, FORMAT_VERSION = "scene_reader_format", "1"
READER_FILE = Path(__file__).resolve().parent / "scene_reader.safetensors"


def save_reader(reader: SceneReader, path: Path, training: Mapping[str, Any]) -> None:
    """Save in half precision, whose rounding is far below the reader's errors. training: a summary for the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        FORMAT_KEY: FORMAT_VERSION,
        "config": json.dumps(asdict(reader.config)),
        "training": json.dumps(dict(training)),
    }
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous() for name, value in reader.state_dict().items()
    }
    safetensors.torch.save_file(tensors, path, metadata)


def load_reader(path: Path = READER_FILE) -> SceneReader:
    """The reader in float32, in evaluation mode. ValueError, with the remedy, for a missing or wrong file."""
    remedy = "train one with `python -m sf_model.training reader --config configs/scene_reader.yaml`"
    if not path.is_file():
        raise ValueError(f"{path}: no such scene reader; {remedy}")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get(FORMAT_KEY) != FORMAT_VERSION:
        raise ValueError(f"{path}: not a scene reader of this version; {remedy}")
    reader = SceneReader(dataclass_from_dict(ReaderConfig, json.loads(metadata["config"]), "config"))
    reader.load_state_dict(safetensors.torch.load_file(path))
    return reader.eval().requires_grad_(False)
