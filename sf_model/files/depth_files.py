"""Reads metric depth: EXR, 16-bit PNG, NPY and NPZ.

`units.py` has the rules: units, cameras, and what counts as no surface. `writing.py` writes such files.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..depth.lens import RAY, depth_of_rays
from ..depth.metric_depth import MetricDepth
from .arrays import Shapes, read_npy, read_npz
from .assumptions import LoadedDepth, described
from .exr import MAX_PIXELS, ExrHeader, read_channels, read_header
from .shapes import batched
from .units import (
    AUTO,
    CAMERA_TOLERANCE,
    CENTIMETRES,
    METRES,
    METRES_PER_UNIT,
    NOTHING_STATED,
    OTHER_WAY,
    Statements,
    StoredDepth,
    field_of_view_of,
    metres_per_unit_of,
)
from .writing import PNG_CHUNK

SUFFIXES = (".exr", ".png", ".npy", ".npz")
_CAMERA_ARRAYS = ("fov_y_deg", "intrinsics", "K")
_MAX_CAMERA_VALUES = 2**16


class NanDepthError(ValueError):
    """The file has NaN values, and the caller does not accept them as "no surface"."""


def load_depth(
    data: bytes, name: str, unit: str = AUTO, fov_y_deg: float = 0.0, refuse_nan: bool = False
) -> MetricDepth:
    """`read_depth`, without what was assumed."""
    return read_depth(data, name, Statements(unit=unit, fov_y_deg=fov_y_deg), refuse_nan).depth


def read_depth(data: bytes, name: str, stated: Statements = NOTHING_STATED, refuse_nan: bool = False) -> LoadedDepth:
    """The depth in a file's bytes, and what was assumed about its metres.

    name: the file's name. Its suffix gives the format. stated: what the caller knows about it. Without a unit, integers
    are millimetres and other numbers metres; what looks normalised is refused (nothing above 1, or integers up to the
    top of their range). refuse_nan: NaN raises NanDepthError instead of being "no surface".
    Raises ValueError, with the file's name, for a file that cannot be used.
    """
    try:
        stored = _read(data, PurePath(name).suffix.lower())
        if refuse_nan and stored.values.dtype.kind == "f" and bool(np.isnan(stored.values).any()):
            raise NanDepthError("it has NaN values")
        return described(_metric(stored, stated), stored, stated)
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
        confidence = torch.from_numpy(stored.confidence.astype(np.float32))
    depth = MetricDepth.checked(depth=metres, confidence=confidence, fov_y_deg=fov_y_deg)
    return replace(depth, depth=depth_of_rays(depth.depth, fov_y_deg)) if stated.distance == RAY else depth


def _read(data: bytes, suffix: str) -> StoredDepth:
    readers = dict(zip(SUFFIXES, (_read_exr, _read_png, _read_npy, _read_npz)))
    if suffix not in readers:
        raise ValueError(f"save the depth as one of {', '.join(SUFFIXES)}")
    return readers[suffix](data)


def _read_exr(data: bytes) -> StoredDepth:
    header = read_header(data)
    aspect = header.number("pixelAspectRatio")
    if aspect is not None and not abs(aspect - 1) <= CAMERA_TOLERANCE:
        raise ValueError(f"render it with square pixels, because its pixel aspect ratio is {aspect:g}")
    name = _depth_channel(header)
    colors = [name[:-1] + color for color in "GB"] if name.endswith("R") else []
    colors = [color for color in colors if color in header.channels]
    confidence = ["confidence"] if "confidence" in header.channels else []
    channels = read_channels(data, header, [name, *colors, *confidence])
    if any(not np.array_equal(channels[name], channels[color], equal_nan=True) for color in colors):
        raise ValueError(
            "switch on the Z pass of the renderer (in Blender: View Layer, Passes, Z) and save that, because it is a "
            "colour picture, without a depth channel (Z)"
        )
    unit = header.text("depthUnit")
    if unit is not None and unit not in METRES_PER_UNIT:
        raise ValueError(f"set its attribute depthUnit to one of {', '.join(METRES_PER_UNIT)}, because it is {unit!r}")
    fov = header.number("fovYDeg")
    return StoredDepth(
        values=_on_display(channels[name], header, np.inf),
        confidence=_on_display(channels["confidence"], header, 1.0) if confidence else None,
        unit=unit,
        unit_of_program=_unit_of_program(header),
        fov_y_deg=None if fov is None else np.array([fov]),
        intrinsics=header.matrix("cameraIntrinsics"),
    )


def _unit_of_program(header: ExrHeader) -> tuple[str, str] | None:
    """Unreal Engine renders in centimetres. Its movie render queue names its attributes unreal/..."""
    is_unreal = any(name.lower().startswith("unreal/") for name in header.attributes)
    return ("Unreal Engine", CENTIMETRES) if is_unreal else None


def _depth_channel(header: ExrHeader) -> str:
    """Z, else a layer's depth (Blender's ViewLayer.Depth.Z, Depth.V), else Y, V or R. ValueError."""

    def rank(name: str) -> int | None:
        layer, _, channel = name.lower().rpartition(".")
        is_depth = layer.rpartition(".")[2] in ("depth", "z")
        kinds = [name == "Z", is_depth and channel in ("z", "v"), not layer and channel in ("depth", "z")]
        kinds += [is_depth and channel in ("y", "r"), name == "Y", name == "V", name == "R"]
        return kinds.index(True) if any(kinds) else None

    ranks = {name: kind for name in header.channels if (kind := rank(name)) is not None}
    best = [name for name in ranks if ranks[name] == min(ranks.values())]
    if len(best) == 1:
        return best[0]
    count = "more than one" if best else "no"
    names = ", ".join(best or header.channels)
    raise ValueError(f"save one depth pass alone, as channel Z, because it has {count} depth channel among {names}")


def _on_display(picture: np.ndarray, header: ExrHeader, outside: float) -> np.ndarray:
    """(1, H, W): the data window's picture at its place in the display window, which is what the camera sees.

    outside: the value where the display window has no data.
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = header.data_window, header.display_window
    if header.data_window == header.display_window:
        return picture[None]
    if picture.dtype.kind == "u":
        outside = 0
    full = np.full((bottom - top + 1, right - left + 1), outside, picture.dtype)
    rows, columns = slice(max(y0, top), min(y1, bottom) + 1), slice(max(x0, left), min(x1, right) + 1)
    if rows.start < rows.stop and columns.start < columns.stop:
        inner = picture[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
        full[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inner
    return full[None]


def _read_png(data: bytes) -> StoredDepth:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"save it smaller, because {width}x{height} pixels are more than {MAX_PIXELS}")
            if picture.mode not in ("I;16", "I;16B", "I"):
                raise ValueError(
                    f"{OTHER_WAY}, because it has no metres: a picture ({picture.mode}), not a grey PNG of 16 bits"
                )
            values = np.asarray(picture).astype(np.uint16)
            text = picture.text.get(PNG_CHUNK)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"save it again, because it is not a complete PNG file ({error})") from error
    return StoredDepth(values=values[None], **({} if text is None else _png_facts(text)))


def _png_facts(text: str) -> dict[str, Any]:
    """The unit and camera that `png_bytes` wrote."""
    try:
        facts = json.loads(text)
        return {
            "unit": {unit: unit for unit in METRES_PER_UNIT}[facts["unit"]],
            "fov_y_deg": np.array([facts["fov_y_deg"]], dtype=np.float64),
            "intrinsics": np.array(facts["intrinsics_px"], dtype=np.float64),
        }
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"save it again, or remove its text chunk {PNG_CHUNK}, which is damaged") from error


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
