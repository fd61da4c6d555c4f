"""What an OpenEXR file declares: its parts, each with channels, windows, compression and the places of its blocks.

Layout: "OpenEXR File Layout" of the Academy Software Foundation. Every fault of a file is a ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MAGIC = 20000630
MAX_PIXELS = 2**26  # 8192 x 8192
MAX_PARTS = 1024
SINGLE_TILE, LONG_NAMES, NOT_IMAGE, MULTI_PART = 0x200, 0x400, 0x800, 0x1000
PIXEL_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
COMPRESSIONS = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
# Lines in a block of a scanline file.
LINES = dict(zip(COMPRESSIONS, (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)))
SCANLINE, TILED, DEEP = "scanline", "tiled", "deep"
# What to do in the programs that such files come from.
SAVE_AGAIN = (
    "save it as a scanline EXR with ZIP compression, 16 lines (Blender: OpenEXR, codec ZIP; Nuke: Write, compression "
    "Zip (16 scanlines); Houdini: the image output's EXR compression, Zip; Unreal: Movie Render Queue, .exr sequence, "
    "compression ZIP)"
)

Box = tuple[int, int, int, int]
Attributes = dict[str, tuple[str, bytes]]


@dataclass(frozen=True)
class ExrPart:
    """One picture of a file. Windows are (x_min, y_min, x_max, y_max) in pixels, inclusive."""

    # "" in a file of one part.
    name: str
    # In file order.
    channels: dict[str, np.dtype]
    # One of COMPRESSIONS.
    compression: str
    data_window: Box
    display_window: Box
    # Type and bytes of every attribute.
    attributes: Attributes
    # SCANLINE, TILED or DEEP.
    kind: str
    # Width and height of a tile, for TILED; the last two numbers of its description are levels and rounding.
    tile: tuple[int, int]
    # Where the table of block offsets begins, and how many blocks there are.
    table: int
    blocks: int
    # Its number in a file of several parts: it stands before each block. None for a single part.
    number: int | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the data window."""
        x_min, y_min, x_max, y_max = self.data_window
        return y_max - y_min + 1, x_max - x_min + 1

    def full_name(self, channel: str) -> str:
        """The channel with its part: part.layer.channel."""
        return channel if not self.name or channel.startswith(f"{self.name}.") else f"{self.name}.{channel}"

    def number_of(self, name: str) -> float | None:
        """A float attribute, or None."""
        kind, value = self.attributes.get(name, ("", b""))
        return struct.unpack("<f", value)[0] if kind == "float" and len(value) == 4 else None

    def text_of(self, name: str) -> str | None:
        """A string attribute, or None."""
        kind, value = self.attributes.get(name, ("", b""))
        return value.decode("utf-8", "replace") if kind == "string" else None

    def matrix_of(self, name: str) -> np.ndarray | None:
        """A (3, 3) float32 attribute, or None."""
        kind, value = self.attributes.get(name, ("", b""))
        return np.frombuffer(value, "<f4").reshape(3, 3) if kind == "m33f" and len(value) == 36 else None


def read_parts(data: bytes) -> list[ExrPart]:
    """All parts of a file. data: all of its bytes. ValueError for what is no EXR file, or a damaged one."""
    magic, version = unpack("<II", data, 0)
    if magic != MAGIC:
        raise ValueError("save it as EXR, because this is not an OpenEXR file")
    if version & 0xFF != 2:
        raise ValueError(f"{SAVE_AGAIN}, because EXR version {version & 0xFF} is not read")
    offset, headers = 8, []
    while True:
        attributes, offset = _read_attributes(data, offset)
        if version & MULTI_PART and not attributes:
            break
        headers.append(attributes)
        if not version & MULTI_PART:
            break
        if len(headers) > MAX_PARTS:
            raise ValueError(f"save it with fewer layers, because it has more than {MAX_PARTS} parts")
    if not headers:
        raise ValueError("save it again, because the EXR has no parts")
    parts = []
    for number, attributes in enumerate(headers):
        parts.append(_part(attributes, version, offset, number if version & MULTI_PART else None))
        offset += 8 * parts[-1].blocks
    return parts


def _part(attributes: Attributes, version: int, table: int, number: int | None) -> ExrPart:
    missing = {"channels", "compression", "dataWindow", "displayWindow"} - attributes.keys()
    if missing:
        raise ValueError(f"save it again, because the EXR header has no {', '.join(sorted(missing))}")
    code = unpack("<B", attributes["compression"][1], 0)[0]
    window = _read_window("dataWindow", attributes)
    kind = _kind(attributes, version, number is not None)
    tile = _tile(attributes) if kind == TILED else (0, 0)
    compression = COMPRESSIONS[code] if code < len(COMPRESSIONS) else f"number {code}"
    blocks = _blocks(window, kind, tile, compression) if number is None else _count(attributes)
    return ExrPart(
        name=attributes["name"][1].decode("utf-8", "replace") if number is not None and "name" in attributes else "",
        channels=_read_channel_list(attributes["channels"][1]),
        compression=compression,
        data_window=window,
        display_window=_read_window("displayWindow", attributes),
        attributes=attributes,
        kind=kind,
        tile=tile,
        table=table,
        blocks=blocks,
        number=number,
    )


def _kind(attributes: Attributes, version: int, several: bool) -> str:
    stated = attributes.get("type", ("", b""))[1]
    if stated.startswith(b"deep") or (version & NOT_IMAGE and not several):
        return DEEP
    return TILED if stated == b"tiledimage" or (version & SINGLE_TILE and not several) else SCANLINE


def _tile(attributes: Attributes) -> tuple[int, int]:
    if "tiles" not in attributes:
        raise ValueError("save it again, because the EXR is tiled and does not say how")
    width, height, mode = unpack("<IIB", attributes["tiles"][1], 0)
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        raise ValueError(f"save it again, because the EXR's tiles are {width}x{height} pixels")
    if mode & 0xF != 0:
        raise ValueError(f"{SAVE_AGAIN}, because it is a texture of several sizes (a mipmap)")
    return width, height


def _blocks(window: Box, kind: str, tile: tuple[int, int], compression: str) -> int:
    height, width = window[3] - window[1] + 1, window[2] - window[0] + 1
    if kind == TILED:
        return -(-width // tile[0]) * -(-height // tile[1])
    return -(-height // LINES.get(compression, 1))


def _count(attributes: Attributes) -> int:
    kind, value = attributes.get("chunkCount", ("", b""))
    if kind != "int" or len(value) != 4 or (count := unpack("<i", value, 0)[0]) < 0:
        raise ValueError("save it again, because a part of the EXR does not say how many blocks it has")
    return count


def _read_attributes(data: bytes, offset: int) -> tuple[Attributes, int]:
    attributes: Attributes = {}
    while True:
        name, offset = _string(data, offset)
        if not name:
            return attributes, offset
        kind, offset = _string(data, offset)
        size = unpack("<i", data, offset)[0]
        attributes[name] = (kind, take(data, offset + 4, size))
        offset += 4 + size


def _read_channel_list(value: bytes) -> dict[str, np.dtype]:
    channels: dict[str, np.dtype] = {}
    offset = 0
    while True:
        name, offset = _string(value, offset)
        if not name:
            break
        pixel_type, _, x_sampling, y_sampling = unpack("<4i", value, offset)
        offset += 16
        if not 0 <= pixel_type < len(PIXEL_TYPES):
            raise ValueError(f"save it again, because EXR channel {name!r} has the unknown pixel type {pixel_type}")
        if (x_sampling, y_sampling) != (1, 1):
            raise ValueError(f"save the depth at full size, because EXR channel {name!r} is subsampled")
        channels[name] = PIXEL_TYPES[pixel_type]
    if not channels:
        raise ValueError("save it again, because the EXR has no channels")
    return channels


def _read_window(name: str, attributes: Mapping[str, tuple[str, bytes]]) -> Box:
    x_min, y_min, x_max, y_max = unpack("<4i", attributes[name][1], 0)
    width, height = x_max - x_min + 1, y_max - y_min + 1
    if width < 1 or height < 1:
        raise ValueError(f"save it again, because the EXR's {name} is empty ({width}x{height} pixels)")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"save it smaller, because the EXR's {name} {width}x{height} has more than {MAX_PIXELS} pixels"
        )
    return x_min, y_min, x_max, y_max


def _string(data: bytes, offset: int) -> tuple[str, int]:
    """A zero-terminated name of at most 255 bytes, and the offset after it."""
    end = data.find(b"\0", offset, offset + 256)
    if end < 0:
        raise ValueError("save it again, because the EXR header is truncated or damaged")
    return data[offset:end].decode("utf-8", "replace"), end + 1


def take(data: bytes, offset: int, size: int) -> bytes:
    """Some bytes of a file. ValueError where it is too short."""
    if size < 0 or offset < 0 or offset + size > len(data):
        raise ValueError(
            f"save it again, because it is truncated: it has {len(data)} bytes and needs {size} at {offset}"
        )
    return data[offset : offset + size]


def unpack(layout: str, data: bytes, offset: int) -> tuple[int, ...]:
    """`struct.unpack` of some bytes of a file. ValueError where it is too short."""
    return struct.unpack(layout, take(data, offset, struct.calcsize(layout)))
