"""The checkpoint: one safetensors file with spatial transformer, depth head, adapter, source encoder and flow input.

Metadata: `spatialfusion_format`, `config` (JSON of SpatialFusionConfig), `base_revision` (what it was trained on),
`training` (JSON summary) and, optionally, `base_fingerprint` (JSON: "mllm" and "transformer", each a sample of that
model's weights, see `backbones.revision`). Loaded strictly: a file that differs is refused with the first keys that
differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import safetensors
import safetensors.torch
import torch

from .backbones.revision import check_fingerprints
from .config import SpatialFusionConfig
from .files.atomic import written_whole
from .models.depth_adapter import DepthAdapter
from .models.depth_predictor import DepthPredictor

FORMAT_KEY = "spatialfusion_format"
FORMAT_VERSION = "1"
FINGERPRINT_KEY = "base_fingerprint"
ADAPTER_PREFIX = "depth_adapter."


class CheckpointError(ValueError):
    """A file that is not a usable checkpoint; the message names the file, the reason and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint file; `state_dict` holds the tensors under their full names."""

    config: SpatialFusionConfig
    base_revision: str
    training: dict[str, Any]
    state_dict: dict[str, torch.Tensor]
    base_fingerprint: dict[str, str] = field(default_factory=dict)

    def predictor_state(self) -> dict[str, torch.Tensor]:
        """Tensors of DepthPredictor."""
        return {name: value for name, value in self.state_dict.items() if not name.startswith(ADAPTER_PREFIX)}

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Tensors of DepthAdapter."""
        return {
            name[len(ADAPTER_PREFIX) :]: value
            for name, value in self.state_dict.items()
            if name.startswith(ADAPTER_PREFIX)
        }


def expected_shapes(config: SpatialFusionConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every tensor of a checkpoint with this configuration."""
    predictor = DepthPredictor(config, device="meta").state_dict()
    adapter = DepthAdapter(config.depth_adapter, device="meta").state_dict()
    shapes = {name: tuple(value.shape) for name, value in predictor.items()}
    return shapes | {ADAPTER_PREFIX + name: tuple(value.shape) for name, value in adapter.items()}


def save_checkpoint(
    path: Path,
    config: SpatialFusionConfig,
    predictor: Mapping[str, torch.Tensor],
    adapter: Mapping[str, torch.Tensor],
    base_revision: str,
    training: Mapping[str, Any],
    dtype: torch.dtype,
    base_fingerprint: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint that `load_checkpoint` accepts; CheckpointError if the tensors are not the configuration's.

    Of absolute paths in `training` only the last name is kept: a file that is shared tells no one's folders.
    """
    tensors = {**predictor, **{ADAPTER_PREFIX + name: value for name, value in adapter.items()}}
    _check_shapes(path, {name: tuple(value.shape) for name, value in tensors.items()}, config)
    metadata = {
        FORMAT_KEY: FORMAT_VERSION,
        "config": json.dumps(config.to_dict()),
        "base_revision": base_revision,
        "training": json.dumps(_without_folders(training)),
    }
    if base_fingerprint:
        metadata[FINGERPRINT_KEY] = json.dumps(dict(base_fingerprint))
    stored = {name: value.detach().to("cpu", dtype).contiguous() for name, value in tensors.items()}
    with written_whole(path) as partial:
        safetensors.torch.save_file(stored, partial, metadata)


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_without_folders(name): _without_folders(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and any(kind(value).is_absolute() for kind in (PurePosixPath, PureWindowsPath)):
        return PureWindowsPath(value).name  # knows both separators
    return value


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint. CheckpointError for a missing, truncated, foreign or differing file."""
    config, metadata, shapes = _read_metadata(path)
    _check_shapes(path, shapes, config)
    return Checkpoint(
        config,
        metadata["base_revision"],
        json.loads(metadata["training"]),
        safetensors.torch.load_file(path),
        json.loads(metadata.get(FINGERPRINT_KEY, "{}")),
    )


def _read_metadata(path: Path) -> tuple[SpatialFusionConfig, dict[str, str], dict[str, tuple[int, ...]]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; put SpatialFusion checkpoints in models/spatialfusion")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({error}); download or export it again"
        ) from error
    if FORMAT_KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a SpatialFusion checkpoint (no {FORMAT_KEY!r} in its metadata); "
            "choose a file that `python -m sf_model.training export` wrote"
        )
    if metadata[FORMAT_KEY] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {metadata[FORMAT_KEY]}, this version reads {FORMAT_VERSION}; update the pack"
        )
    try:
        config = SpatialFusionConfig.from_dict(json.loads(metadata["config"]))
        json.loads(metadata["training"])
        metadata["base_revision"]
        check_fingerprints(json.loads(metadata.get(FINGERPRINT_KEY, "{}")))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read ({error}); export it again") from error
    return config, metadata, shapes


def _check_shapes(path: Path, found: Mapping[str, tuple[int, ...]], config: SpatialFusionConfig) -> None:
    expected = expected_shapes(config)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        details = ", ".join(
            f"{name} (expected {expected.get(name, 'absent')}, found {found.get(name, 'absent')})"
            for name in differing[:3]
        )
        raise CheckpointError(
            f"{path}: {len(differing)} tensors differ from configuration {config.name!r}: {details}; "
            "export it again with the version of the pack that trained it"
        )
