"""Bounds for the sizes of a configuration that comes from a file. They are looked at before anything is built."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from .config import SpatialFusionConfig

# Four times the widest layer of any base that is known.
MAX_SIZE = 2**17
# Layers and blocks cost time to build, each by itself.
MAX_COUNT = 256
COUNTS = ("num_layers", "num_blocks")


def check_sizes(config: SpatialFusionConfig, tensors: int) -> None:
    """ValueError, with the field's path, for sizes that no checkpoint has: zero, negative, too large or not finite.

    tensors: how many the file has. A layer has at least one.
    """
    for path, name, value in _numbers(config, "config"):
        if isinstance(value, int):
            largest = MAX_COUNT if name in COUNTS else MAX_SIZE
            if not 1 <= value <= largest:
                raise ValueError(f"{path} must lie between 1 and {largest}, got {value}")
        elif not (math.isfinite(value) and value > 0):
            raise ValueError(f"{path} must be finite and above 0, got {value}")
    layers = config.spatial_transformer.num_layers + config.depth_adapter.num_blocks
    if layers > tensors:
        raise ValueError(f"config has {layers} layers and blocks, and the file has only {tensors} tensors")


def _numbers(values: Any, path: str) -> Iterator[tuple[str, str, int | float]]:
    """(path, name of the field, number) of every number in nested dataclasses and tuples. Flags are no numbers."""
    for field in dataclasses.fields(values):
        value, here = getattr(values, field.name), f"{path}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, here)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                yield here, field.name, number
