"""The checkpoint: one safetensors file with spatial transformer, depth head, adapter, source encoder and flow input.

Metadata: `spatialfusion_format`, `config` (JSON of SpatialFusionConfig), `base_revision` (the base it was trained on),
`training` (JSON summary) and optionally `base_fingerprint` (JSON: "mllm" and "transformer", of `backbones.revision`).
Loading is strict: a file with other tensors is an error that names the first of them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import safetensors
import safetensors.torch
import torch

from .backbones.revision import check_fingerprints
from .config import SpatialFusionConfig
from .config_bounds import check_sizes
from .files.atomic import written_whole
from .models.depth_adapter import DepthAdapter
from .models.depth_predictor import DepthPredictor

FORMAT_KEY = "spatialfusion_format"
FORMAT_VERSION = "1"
FINGERPRINT_KEY = "base_fingerprint"
ADAPTER_PREFIX = "depth_adapter."
# As safetensors names them.
WEIGHT_TYPES = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
# Of each of the JSON texts. The largest that was written has some thousands.
MAX_METADATA_CHARACTERS = 1_000_000
MAX_REASON_CHARACTERS = 300


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


def load_checkpoint(path: Path, mmap: bool = True) -> Checkpoint:
    """Read and check a checkpoint. CheckpointError for a file that is missing, damaged or of another kind.

    mmap: keeps the weights in the file until they are needed. Off: they are read into memory at once, for drives where
    mapped files are slow or may vanish.
    """
    checkpoint, shapes = _read_metadata(path)
    _check_shapes(path, shapes, checkpoint.config)
    tensors = safetensors.torch.load_file(path)
    if not mmap:
        tensors = {name: value.clone() for name, value in tensors.items()}
    return replace(checkpoint, state_dict=tensors)


def _read_metadata(path: Path) -> tuple[Checkpoint, dict[str, tuple[int, ...]]]:
    """The checkpoint without its tensors, and their shapes."""
    if not path.is_file():
        raise CheckpointError(f"{path}: put SpatialFusion checkpoints in models/spatialfusion; there is no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            types = {part.get_dtype() for part in slices.values()}
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
            f"{path}: update the pack, because it has format {metadata[FORMAT_KEY][:20]} and this version reads "
            f"{FORMAT_VERSION}"
        )
    try:
        checkpoint = _parse(metadata)
        check_sizes(checkpoint.config, len(shapes))
    except ValueError as error:
        reason = textwrap.shorten(str(error), MAX_REASON_CHARACTERS)
        raise CheckpointError(f"{path}: export it again, because its metadata cannot be read ({reason})") from error
    if not types <= WEIGHT_TYPES:
        raise CheckpointError(
            f"{path}: export it again, because it has weights that are no floating-point numbers "
            f"({', '.join(sorted(types - WEIGHT_TYPES))})"
        )
    return checkpoint, shapes


def _parse(metadata: Mapping[str, str]) -> Checkpoint:
    """A checkpoint without tensors. ValueError for metadata that `save_checkpoint` does not write."""
    fingerprint = _read_object(metadata, FINGERPRINT_KEY) if FINGERPRINT_KEY in metadata else {}
    check_fingerprints(fingerprint)
    if "base_revision" not in metadata:
        raise ValueError("it has no base_revision")
    return Checkpoint(
        SpatialFusionConfig.from_dict(_read_object(metadata, "config")),
        metadata["base_revision"],
        _read_object(metadata, "training"),
        {},
        fingerprint,
    )


def _read_object(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """The JSON object under a key. ValueError for anything else, before much time or memory goes into it."""
    text = metadata.get(key)
    if text is None:
        raise ValueError(f"it has no {key}")
    if len(text) > MAX_METADATA_CHARACTERS:
        raise ValueError(f"{key} has {len(text)} characters, and at most {MAX_METADATA_CHARACTERS} are read")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"{key} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object, got {type(value).__name__}")
    return value


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
