"""Reads metric depth: EXR, 16-bit PNG, TIFF, PFM, NPY and NPZ, and numbered files as one batch.

`units.py` has the rules: units, cameras, and what counts as no surface. `writing.py` writes such files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from ..depth.lens import RAY, depth_of_rays
from ..depth.metric_depth import MetricDepth
from .arrays import Shapes, read_npy, read_npz
from .assumptions import LoadedDepth, described
from .exr_depth import read_exr_depth
from .exr_parts import MAX_PIXELS
from .pictures import read_pfm, read_png, read_tiff
from .sequences import check_same, joined
from .shapes import batched
from .units import (
    AUTO,
    METRES,
    NOTHING_STATED,
    Statements,
    StoredDepth,
    field_of_view_of,
    metres_per_unit_of,
)

SUFFIXES = (".exr", ".png", ".npy", ".npz", ".tif", ".tiff", ".pfm")
_CAMERA_ARRAYS = ("fov_y_deg", "intrinsics", "K")
_MAX_CAMERA_VALUES = 2**16


class NanDepthError(ValueError):
    """The file has NaN values, and the caller does not accept them as "no surface"."""


def load_depth(
    data: bytes, name: str, unit: str = AUTO, fov_y_deg: float = 0.0, refuse_nan: bool = False
) -> MetricDepth:
    """The depth of `read_depth`, without the cost of describing it.

    refuse_nan: NaN raises NanDepthError instead of being "no surface".
    """
    stated = Statements(unit=unit, fov_y_deg=fov_y_deg)
    with _named(name):
        stored = _read(data, PurePath(name).suffix.lower(), stated.layer)
        if refuse_nan and stored.values.dtype.kind == "f" and bool(np.isnan(stored.values).any()):
            raise NanDepthError("it has NaN values")
        return _metric(stored, stated)


def read_depth(data: bytes, name: str, stated: Statements = NOTHING_STATED) -> LoadedDepth:
    """The depth in a file's bytes, and what was assumed about its metres.

    name: the file's name. Its suffix gives the format. stated: what the caller knows about it. Without a unit, integers
    are millimetres and other numbers metres; what looks normalised is refused (nothing above 1, or integers up to the
    top of their range).
    Raises ValueError, with the file's name, for a file that cannot be used.
    """
    return read_sequence([(name, lambda: data)], stated)


def read_sequence(files: Iterable[tuple[str, Callable[[], bytes]]], stated: Statements = NOTHING_STATED) -> LoadedDepth:
    """The frames of numbered files as one batch. files: of each the name, and what reads its bytes.

    All frames have one size and one unit. Raises ValueError, with the file's name, as `read_depth` does.
    """
    frames: list[tuple[str, StoredDepth]] = []
    for name, contents in files:
        with _named(name):
            frames.append((name, _read(contents(), PurePath(name).suffix.lower(), stated.layer)))
            check_same(frames)
    first, last = frames[0][0], frames[-1][0]
    with _named(first if first == last else f"{first} to {last}"):
        stored = joined([stored for _, stored in frames])
        return described(_metric(stored, stated), stored, stated)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the name of a file before the errors of what is done with it."""
    try:
        yield
    except NanDepthError as error:
        raise NanDepthError(f"{name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _metric(stored: StoredDepth, stated: Statements) -> MetricDepth:
    scale = metres_per_unit_of(stored, stated)
    count, height, width = stored.values.shape
    fov = field_of_view_of(stored, stated.fov_y(height, width))
    fov_y_deg = torch.from_numpy(np.array(np.broadcast_to(fov, count), dtype=np.float32))
    values = stored.values.astype(np.promote_types(stored.values.dtype, np.float32))
    metres = torch.from_numpy((np.where(stored.surface, values, np.inf) * scale).astype(np.float32))
    confidence = torch.ones_like(metres)
    if stored.confidence is not None:
        confidence = _confidence(stored.confidence)
    depth = MetricDepth.checked(depth=metres, confidence=confidence, fov_y_deg=fov_y_deg)
    return replace(depth, depth=depth_of_rays(depth.depth, fov_y_deg)) if stated.distance == RAY else depth


def _confidence(stored: np.ndarray) -> torch.Tensor:
    """float32. ValueError, with the remedy, for values outside of [0, 1] and for NaN."""
    values = stored.astype(np.float32)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            "save its confidence as numbers from 0 to 1, or leave it out, because it has values that are not: the "
            f"lowest is {np.nanmin(values, initial=np.inf):g}, the highest {np.nanmax(values, initial=-np.inf):g}, "
            f"{int(np.isnan(values).sum())} are NaN"
        )
    return torch.from_numpy(values)


def _read(data: bytes, suffix: str, layer: str) -> StoredDepth:
    if suffix == ".exr":
        return read_exr_depth(data, layer)
    if layer.strip():
        raise ValueError(f"leave layer empty, because only EXR files have layers, and layer is {layer!r}")
    readers = {".png": read_png, ".npy": _read_npy, ".npz": _read_npz, ".pfm": read_pfm}
    readers |= dict.fromkeys((".tif", ".tiff"), read_tiff)
    if suffix not in readers:
        raise ValueError(f"save the depth as one of {', '.join(SUFFIXES)}")
    return readers[suffix](data)


def _read_npy(data: bytes) -> StoredDepth:
    return StoredDepth(values=batched(read_npy(data)))


def _read_npz(data: bytes) -> StoredDepth:
    arrays = read_npz(data, ("depth_m", "depth", "confidence", *_CAMERA_ARRAYS), _check_shapes)
    name = _depth_name(arrays)
    fov = arrays.get("fov_y_deg")
    return StoredDepth(
        values=batched(arrays[name], name),
        confidence=batched(arrays["confidence"], "confidence") if "confidence" in arrays else None,
        unit=METRES if name == "depth_m" else None,
        fov_y_deg=None if fov is None else fov.reshape(-1),
        intrinsics=arrays.get("intrinsics", arrays.get("K")),
    )


def _depth_name(arrays: Mapping[str, Any]) -> str:
    """The name of the depth among an NPZ file's arrays. The only array may have any name. ValueError."""
    others = ("confidence", *_CAMERA_ARRAYS)
    name = next((name for name in ("depth_m", "depth", *arrays) if name in arrays and name not in others), None)
    if name is None:
        raise ValueError("save the depth as depth_m or depth, because it has no array of these names")
    return name


def _check_shapes(shapes: Shapes) -> None:
    """ValueError for arrays that are too large to unpack: a few compressed bytes can hold gigabytes."""
    shape = shapes[_depth_name(shapes)]
    if math.prod(shape) > MAX_PIXELS:
        raise ValueError(f"save it smaller, because its depth {shape} has more than {MAX_PIXELS} pixels")
    confidence = shapes.get("confidence", shape)
    if math.prod(confidence) != math.prod(shape):
        raise ValueError(
            f"save one value a pixel, or none, because confidence {confidence} and depth {shape} differ in shape"
        )
    for name in _CAMERA_ARRAYS:
        if math.prod(shapes.get(name, ())) > _MAX_CAMERA_VALUES:
            raise ValueError(f"save one camera, or one an image, because its {name} has the shape {shapes[name]}")
