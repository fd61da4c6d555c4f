"""EXR pictures that `exr.py` does not unpack itself: tiles, and the compressions PIZ, PXR24, B44 and DWA.

FFmpeg, which every ComfyUI has through PyAV, decodes all of these but DWA. It knows few channel names and no parts. So
it gets a copy of the part that has the wanted channel alone under a name that it knows. The OpenEXR library decodes
everything; ComfyUI does not bring it, but other extensions do. tests/unit/test_exr_codecs.py compares both.
"""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path

import numpy as np

from .exr_parts import (
    DEEP,
    MAGIC,
    PIXEL_TYPES,
    SAVE_AGAIN,
    SINGLE_TILE,
    TILED,
    Attributes,
    ExrPart,
    take,
    unpack,
)

_FFMPEG = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A")
# The pixel formats that FFmpeg gives for one channel of floats or halves.
_FORMATS = {"grayf32le": np.dtype("<f4"), "grayf16le": np.dtype("<f2")}
# Attributes that a file must have, with what they are if this one has none.
_NEEDED: Attributes = {
    "lineOrder": ("lineOrder", b"\0"),
    "pixelAspectRatio": ("float", struct.pack("<f", 1.0)),
    "screenWindowCenter": ("v2f", struct.pack("<2f", 0.0, 0.0)),
    "screenWindowWidth": ("float", struct.pack("<f", 1.0)),
}


def decode_channel(data: bytes, part: ExrPart, name: str) -> np.ndarray:
    """(H, W) of a channel over the data window. data: the whole file.

    ValueError, with the remedy, if it cannot be read.
    """
    if part.kind == DEEP:
        raise ValueError(f"{SAVE_AGAIN}, because deep EXR files are not read")
    if part.compression in _FFMPEG and part.channels[name].kind == "f":
        return _by_ffmpeg(_alone(data, part, name), part).astype(part.channels[name], copy=False)
    found = _by_openexr(data, part, name)
    if found is None:
        raise ValueError(f"{SAVE_AGAIN}, because EXR compression {part.compression} is not read")
    return found


def _by_ffmpeg(data: bytes, part: ExrPart) -> np.ndarray:
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f"{SAVE_AGAIN}, because EXR compression {part.compression} needs PyAV, which is not installed"
        ) from error
    try:
        with av.open(io.BytesIO(data), format="exr_pipe") as container:
            frame = next(container.decode(video=0))
    except (av.error.FFmpegError, StopIteration, ValueError) as error:
        raise ValueError(
            f"save it again, because its {part.compression} blocks cannot be unpacked ({error})"
        ) from error
    height, width = part.size
    dtype = _FORMATS.get(frame.format.name)
    if dtype is None or (frame.height, frame.width) != (height, width):
        raise ValueError(f"{SAVE_AGAIN}, because FFmpeg reads it as {frame.format.name}")
    plane = frame.planes[0]
    lines = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * dtype.itemsize]
    return np.ascontiguousarray(lines).view(dtype)


def _by_openexr(data: bytes, part: ExrPart, name: str) -> np.ndarray | None:
    """None where the library is not there."""
    try:
        import OpenEXR
    except ImportError:
        return None
    if not hasattr(OpenEXR, "File"):  # before 3.3
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "depth.exr"
        path.write_bytes(data)
        try:
            with OpenEXR.File(str(path), separate_channels=True) as file:
                pixels = file.parts[part.number or 0].channels[name].pixels
                return np.array(pixels)
        except (RuntimeError, KeyError, IndexError, ValueError) as error:
            raise ValueError(f"save it again, because the OpenEXR library cannot read it ({error})") from error


def _alone(data: bytes, part: ExrPart, name: str) -> bytes:
    """A file of this part alone, in which the wanted channel is Y and no other has a name that means something.

    Its window begins at 0: FFmpeg puts others elsewhere.
    """
    renamed = {channel: f"unused{index}" for index, channel in enumerate(part.channels)} | {name: "Y"}
    channel_list = b"".join(
        renamed[channel].encode() + struct.pack("<x4i", PIXEL_TYPES.index(dtype), 0, 1, 1)
        for channel, dtype in part.channels.items()
    )
    height, width = part.size
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes: Attributes = {
        "channels": ("chlist", channel_list + b"\0"),
        "compression": part.attributes["compression"],
        "dataWindow": ("box2i", window),
        "displayWindow": ("box2i", window),
    }
    attributes |= {needed: part.attributes.get(needed, value) for needed, value in _NEEDED.items()}
    if part.kind == TILED:
        attributes["tiles"] = part.attributes["tiles"]
    version = 2 | (SINGLE_TILE if part.kind == TILED else 0)
    head = struct.pack("<II", MAGIC, version) + b"".join(
        key.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for key, (kind, value) in attributes.items()
    )
    blocks = _blocks(data, part)
    sizes = np.array([0, *map(len, blocks[:-1])], dtype="<u8")
    offsets = len(head) + 1 + 8 * len(blocks) + np.cumsum(sizes, dtype="<u8")
    return head + b"\0" + offsets.astype("<u8").tobytes() + b"".join(blocks)


def _blocks(data: bytes, part: ExrPart) -> list[bytes]:
    """Every block with its place and size, without the number of its part."""
    prefix = 0 if part.number is None else 4
    places = 16 if part.kind == TILED else 4
    blocks = []
    for offset in unpack(f"<{part.blocks}Q", data, part.table):
        if prefix and unpack("<i", data, offset)[0] != part.number:
            raise ValueError("save it again, because a block of the EXR belongs to another part")
        size = unpack("<i", data, offset + prefix + places)[0]
        block = take(data, offset + prefix, places + 4 + size if size >= 0 else -1)
        if part.kind != TILED:
            # Scanline blocks begin with their first line, tiles with their numbers.
            line = unpack("<i", block, 0)[0] - part.data_window[1]
            if not 0 <= line < part.size[0]:
                raise ValueError("save it again, because a block of the EXR is misplaced")
            block = struct.pack("<i", line) + block[4:]
        blocks.append(block)
    return blocks
