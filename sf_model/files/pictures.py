"""Depth in pictures of numbers: PNG of 16 bits, TIFF of 16 or 32 bits, and PFM (portable float map)."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from .exr_parts import MAX_PIXELS
from .shapes import batched
from .units import METRES_PER_UNIT, OTHER_WAY, StoredDepth
from .writing import PNG_CHUNK

# By Pillow's mode, the numbers of a TIFF that may be depth.
_TIFF_MODES = {"F": np.float32, "I": np.int32, "I;16": np.uint16, "I;16B": np.uint16, "I;16N": np.uint16}
_PFM_HEADER = re.compile(rb"(PF|Pf)\s+(\d{1,9})\s+(\d{1,9})\s+([-+0-9.eE]{1,20})\s")


def read_png(data: bytes) -> StoredDepth:
    """The depth of a grey PNG of 16 bits. ValueError, with the remedy, for others."""
    remedy = "save it again, because it is not a complete PNG file"
    with _decoding(remedy):
        picture = Image.open(io.BytesIO(data), formats=["PNG"])
    _check_size(*picture.size)
    if picture.mode not in ("I;16", "I;16B", "I"):
        raise ValueError(
            f"{OTHER_WAY}, because it has no metres: a picture ({picture.mode}), not a grey PNG of 16 bits"
        )
    with _decoding(remedy):
        values = np.asarray(picture).astype(np.uint16)
        text = picture.text.get(PNG_CHUNK)
    return StoredDepth(values=values[None], **({} if text is None else _png_facts(text)))


@contextmanager
def _decoding(remedy: str) -> Iterator[None]:
    """Turns what Pillow raises for a damaged file into a ValueError that begins with the remedy."""
    try:
        yield
    # Pillow has no error of its own for all damage: ValueError and struct.error are among what it raises.
    except (
        *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, AttributeError),
        *(struct.error, Image.DecompressionBombError),
    ) as error:
        raise ValueError(f"{remedy} ({error})") from error


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


def read_tiff(data: bytes) -> StoredDepth:
    """The depth of a grey TIFF of 16-bit or 32-bit integers or 32-bit floats; of several pages, a batch. ValueError."""
    remedy = (
        "save it again as a grey TIFF of 32-bit floats or 16 bits, because it is not a complete one that can be read"
    )
    with _decoding(remedy):
        picture = Image.open(io.BytesIO(data), formats=["TIFF"])
        count = getattr(picture, "n_frames", 1)
    size, pages = picture.size, []
    _check_size(*size, count)
    for index in range(count):
        with _decoding(remedy):
            picture.seek(index)
        # Before it is decoded: Pillow checks the size of the first page only.
        if picture.size != size:
            raise ValueError("save one picture, or pages of one size, because its pages have different sizes")
        if picture.mode not in _TIFF_MODES:
            raise ValueError(
                f"{OTHER_WAY}, because it has no metres: a picture ({picture.mode}), not a grey TIFF of 16 or 32 bits"
            )
        with _decoding(remedy):
            pages.append(np.asarray(picture).astype(_TIFF_MODES[picture.mode]))
    return StoredDepth(values=np.stack(pages))


def read_pfm(data: bytes) -> StoredDepth:
    """The depth of a PFM file. Its lines go from the bottom to the top. ValueError for a damaged one."""
    header = _PFM_HEADER.match(data)
    if header is None:
        raise ValueError("save it again, because it is not a PFM file")
    kind, width, height = header[1], int(header[2]), int(header[3])
    _check_size(width, height)
    try:
        scale = float(header[4])
    except ValueError as error:
        raise ValueError("save it again, because its PFM header is damaged") from error
    # The sign of the scale is the order of the bytes. Its size is 1 in files of depth, and undefined in others.
    shape = (height, width, 3) if kind == b"PF" else (height, width)
    count = int(np.prod(shape))
    if len(data) - header.end() < 4 * count or count == 0:
        raise ValueError(f"save it again, because it is truncated: {width}x{height} pixels need {4 * count} bytes")
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", count, header.end()).reshape(shape)[::-1]
    return StoredDepth(values=batched(np.ascontiguousarray(values, np.float32), "its picture"))


def _check_size(width: int, height: int, pages: int = 1) -> None:
    if width * height * pages > MAX_PIXELS:
        raise ValueError(f"save it smaller, because {width}x{height} pixels are more than {MAX_PIXELS}")
