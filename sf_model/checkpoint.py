"""The checkpoint: one safetensors file with spatial transformer, depth head, adapter, source encoder and flow input.

Metadata: `spatialfusion_format`, `config` (JSON of SpatialFusionConfig), `base_revision` (the base it was trained on),
`training` (JSON summary) and optionally `base_fingerprint` (JSON: "mllm" and "transformer", of `backbones.revision`).
Loading is strict: a file with other tensors is an error that names the first of them.
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
    """A file that is not a usable checkpoint. The message names the file, the remedy and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file."""

    config: SpatialFusionConfig
    # The base that it was trained on.
    base_revision: str
    # Summary of the training.
    training: dict[str, Any]
    # All tensors, with their names in the file.
    state_dict: dict[str, torch.Tensor]
    # "mllm" and "transformer", if known.
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
    """Names and shapes of all tensors of a checkpoint with this configuration."""
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
    """Write a checkpoint. CheckpointError if the tensors do not fit the configuration.

    dtype: of the stored tensors. Absolute paths in `training` are reduced to their last name, because a shared file
    must not show anyone's folders.
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
    """Read and check a checkpoint. CheckpointError for a file that is missing, truncated or of another kind."""
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
        raise CheckpointError(f"{path}: put SpatialFusion checkpoints in models/spatialfusion; there is no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: download or export it again, because it is not a complete safetensors file ({error})"
        ) from error
    if FORMAT_KEY not in metadata:
        raise CheckpointError(
            f"{path}: choose a file of `python -m sf_model.training export`, because this is not a SpatialFusion "
            f"checkpoint (no {FORMAT_KEY!r} in its metadata)"
        )
    if metadata[FORMAT_KEY] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: update the pack, because it has format {metadata[FORMAT_KEY]} and this version reads "
            f"{FORMAT_VERSION}"
        )
    try:
        config = SpatialFusionConfig.from_dict(json.loads(metadata["config"]))
        json.loads(metadata["training"])
        metadata["base_revision"]
        check_fingerprints(json.loads(metadata.get(FINGERPRINT_KEY, "{}")))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: export it again, because its metadata cannot be read ({error})") from error
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
            f"{path}: export it again with the version of the pack that trained it, because {len(differing)} tensors "
            f"differ from configuration {config.name!r}: {details}"
        )
