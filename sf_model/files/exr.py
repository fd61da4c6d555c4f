"""OpenEXR pictures with float channels: the part of the format that depth needs, in numpy and zlib.

Reads single-part scanline files with half, float or uint channels, without compression or with RLE, ZIPS or ZIP. Writes
float32 with ZIP. No ComfyUI has an EXR library. All have PyAV (18.1, FFmpeg's decoder), but it refuses a file with Z
and no colours, reads no further channels of one with colours, and ignores attributes: the field of view would be lost.
tests/unit/test_exr.py checks both directions against the reference library. Layout: "OpenEXR File Layout" of the
Academy Software Foundation.

Every fault of a file is a ValueError. No allocation is larger than the file's size allows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MAGIC = 20000630
MAX_PIXELS = 2**26  # 8192 x 8192
_SINGLE_TILE, _LONG_NAMES, _NOT_IMAGE, _MULTI_PART = 0x200, 0x400, 0x800, 0x1000
_PIXEL_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
_COMPRESSIONS = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_ZIP = _COMPRESSIONS.index("ZIP")
_LINES = {"NONE": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}
# The most bytes that one compressed byte can give: deflate's limit, and a run of 128 in two bytes.
_MAX_RATIO = {"NONE": 1, "RLE": 64, "ZIPS": 1032, "ZIP": 1032}
_SAVE_AGAIN = "save it as a single-part scanline file with ZIP compression (in Blender choose OpenEXR, codec ZIP)"

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ExrHeader:
    """What a file declares. Windows are (x_min, y_min, x_max, y_max) in pixels, inclusive."""

    # In file order.
    channels: dict[str, np.dtype]
    # One of _COMPRESSIONS.
    compression: str
    data_window: Box
    display_window: Box
    # Type and bytes of every attribute.
    attributes: dict[str, tuple[str, bytes]]
    # Where the table of block offsets begins.
    offset: int

    def number(self, name: str) -> float | None:
        """A float attribute, or None."""
        kind, value = self.attributes.get(name, ("", b""))
        return struct.unpack("<f", value)[0] if kind == "float" and len(value) == 4 else None

    def text(self, name: str) -> str | None:
        """A string attribute, or None."""
        kind, value = self.attributes.get(name, ("", b""))
        return value.decode("utf-8", "replace") if kind == "string" else None

    def matrix(self, name: str) -> np.ndarray | None:
        """A (3, 3) float32 attribute, or None."""
        kind, value = self.attributes.get(name, ("", b""))
        return np.frombuffer(value, "<f4").reshape(3, 3) if kind == "m33f" and len(value) == 36 else None


def read_header(data: bytes) -> ExrHeader:
    """The header of a file. ValueError for files that `read_channels` cannot read. data: all bytes of the file."""
    magic, version = _unpack("<II", data, 0)
    if magic != MAGIC:
        raise ValueError("save it as EXR, because this is not an OpenEXR file")
    _check_version(version)
    attributes, offset = _read_attributes(data)
    missing = {"channels", "compression", "dataWindow", "displayWindow"} - attributes.keys()
    if missing:
        raise ValueError(f"save it again, because the EXR header has no {', '.join(sorted(missing))}")
    code = _unpack("<B", attributes["compression"][1], 0)[0]
    compression = _COMPRESSIONS[code] if code < len(_COMPRESSIONS) else f"number {code}"
    if compression not in _LINES:
        raise ValueError(f"{_SAVE_AGAIN}, because EXR compression {compression} is not read")
    return ExrHeader(
        channels=_read_channel_list(attributes["channels"][1]),
        compression=compression,
        data_window=_read_window("dataWindow", attributes),
        display_window=_read_window("displayWindow", attributes),
        attributes=attributes,
        offset=offset,
    )


def read_channels(data: bytes, header: ExrHeader, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named channels over the data window, each (H, W) in the file's type."""
    x_min, y_min, x_max, y_max = header.data_window
    width, height = x_max - x_min + 1, y_max - y_min + 1
    columns, line_bytes = _columns(header, width)
    lines = _LINES[header.compression]
    blocks = -(-height // lines)
    offsets = _unpack(f"<{blocks}Q", data, header.offset)
    # Checked before the pictures are allocated.
    if height * line_bytes > len(data) * _MAX_RATIO[header.compression]:
        raise ValueError(
            f"save it again, because it is truncated: it declares {width}x{height} pixels and has {len(data)} bytes"
        )
    pictures = {name: np.zeros((height, width), header.channels[name]) for name in names}
    seen = np.zeros(blocks, dtype=bool)
    for offset in offsets:
        y, size = _unpack("<ii", data, offset)
        block, rest = divmod(y - y_min, lines)
        if rest or not 0 <= block < blocks or seen[block]:
            raise ValueError(f"save it again, because the EXR's block for line {y} is misplaced or there twice")
        seen[block] = True
        rows = min(lines, height - block * lines)
        packed = _take(data, offset + 8, size)
        raw = np.frombuffer(_unpacked(packed, rows * line_bytes, header.compression), np.uint8)
        raw = raw.reshape(rows, line_bytes)
        for name, picture in pictures.items():
            values = np.ascontiguousarray(raw[:, columns[name]]).view(header.channels[name])
            picture[block * lines : block * lines + rows] = values
    return pictures


def write_exr(channels: Mapping[str, np.ndarray], attributes: Mapping[str, float | str | np.ndarray]) -> bytes:
    """A scanline file with ZIP compression.

    channels: (H, W) float32 each, of one size; stored exactly. attributes: further attributes of the header. A number
    becomes a float, an array (3, 3) an m33f.
    """
    names = sorted(channels, key=str.encode)
    height, width = channels[names[0]].shape
    channel_list = b"".join(name.encode() + struct.pack("<x4i", 2, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = [
        struct.pack("<II", MAGIC, 2 | (_LONG_NAMES if max(map(len, [*names, *attributes])) > 31 else 0)),
        _attribute("channels", "chlist", channel_list),
        _attribute("compression", "compression", bytes([_ZIP])),
        _attribute("dataWindow", "box2i", window),
        _attribute("displayWindow", "box2i", window),
        _attribute("lineOrder", "lineOrder", b"\0"),
        _attribute("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        _attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        _attribute("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        *(_attribute(name, *_encoded(value)) for name, value in attributes.items()),
        b"\0",
    ]
    # (H, channels, W): a line has one channel after the other.
    picture = np.stack([channels[name] for name in names], axis=1).astype("<f4")
    blocks = []
    for y in range(0, height, _LINES["ZIP"]):
        packed = _zip(picture[y : y + _LINES["ZIP"]].tobytes())
        blocks.append(struct.pack("<ii", y, len(packed)) + packed)
    head = b"".join(header)
    sizes = np.array([0, *(len(block) for block in blocks[:-1])], dtype="<u8")
    offsets = len(head) + 8 * len(blocks) + np.cumsum(sizes, dtype="<u8")
    return head + offsets.tobytes() + b"".join(blocks)


def _check_version(version: int) -> None:
    if version & 0xFF != 2:
        raise ValueError(f"{_SAVE_AGAIN}, because EXR version {version & 0xFF} is not read")
    kinds = {_SINGLE_TILE: "tiled", _NOT_IMAGE: "deep", _MULTI_PART: "multi-part"}
    for flag, kind in kinds.items():
        if version & flag:
            raise ValueError(f"{_SAVE_AGAIN}, because {kind} EXR files are not read")


def _read_attributes(data: bytes) -> tuple[dict[str, tuple[str, bytes]], int]:
    attributes: dict[str, tuple[str, bytes]] = {}
    offset = 8
    while True:
        name, offset = _string(data, offset)
        if not name:
            return attributes, offset
        kind, offset = _string(data, offset)
        size = _unpack("<i", data, offset)[0]
        attributes[name] = (kind, _take(data, offset + 4, size))
        offset += 4 + size


def _read_channel_list(value: bytes) -> dict[str, np.dtype]:
    channels: dict[str, np.dtype] = {}
    offset = 0
    while True:
        name, offset = _string(value, offset)
        if not name:
            break
        pixel_type, _, x_sampling, y_sampling = _unpack("<4i", value, offset)
        offset += 16
        if not 0 <= pixel_type < len(_PIXEL_TYPES):
            raise ValueError(f"save it again, because EXR channel {name!r} has the unknown pixel type {pixel_type}")
        if (x_sampling, y_sampling) != (1, 1):
            raise ValueError(f"save the depth at full size, because EXR channel {name!r} is subsampled")
        channels[name] = _PIXEL_TYPES[pixel_type]
    if not channels:
        raise ValueError("save it again, because the EXR has no channels")
    return channels


def _read_window(name: str, attributes: Mapping[str, tuple[str, bytes]]) -> Box:
    x_min, y_min, x_max, y_max = _unpack("<4i", attributes[name][1], 0)
    width, height = x_max - x_min + 1, y_max - y_min + 1
    if width < 1 or height < 1:
        raise ValueError(f"save it again, because the EXR's {name} is empty ({width}x{height} pixels)")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"save it smaller, because the EXR's {name} {width}x{height} has more than {MAX_PIXELS} pixels"
        )
    return x_min, y_min, x_max, y_max


def _columns(header: ExrHeader, width: int) -> tuple[dict[str, slice], int]:
    """The bytes of each channel in a line, and the line's length."""
    columns: dict[str, slice] = {}
    start = 0
    for name, dtype in header.channels.items():
        columns[name] = slice(start, start + width * dtype.itemsize)
        start = columns[name].stop
    return columns, start


def _unpacked(packed: bytes, size: int, compression: str) -> bytes:
    """The `size` bytes of a block, line after line."""
    if len(packed) == size:  # compressed files also store a block as it is if it does not get smaller
        return packed
    if compression == "NONE" or len(packed) > size or size > len(packed) * _MAX_RATIO[compression]:
        raise ValueError(f"save it again, because an EXR block of {size} bytes is stored in {len(packed)}")
    raw = _run_lengths(packed, size) if compression == "RLE" else _inflated(packed, size)
    if len(raw) != size:
        raise ValueError(f"save it again, because an EXR block has {len(raw)} bytes instead of {size}")
    return _merged(raw)


def _inflated(packed: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(f"save it again, because an EXR block cannot be unpacked ({error})") from error


def _run_lengths(packed: bytes, size: int) -> bytes:
    """Undo RLE. A count of -n is followed by n bytes, a count of n by one byte that stands for n + 1."""
    raw = bytearray()
    position = 0
    while position < len(packed) and len(raw) <= size:
        count = packed[position]
        if count > 127:
            count = 256 - count
            raw += packed[position + 1 : position + 1 + count]
            position += 1 + count
        else:
            raw += packed[position + 1 : position + 2] * (count + 1)
            position += 2
    return bytes(raw)


def _merged(differences: bytes) -> bytes:
    """Undo the predictor (a byte minus the one before, plus 128), then interleave the two halves."""
    steps = np.frombuffer(differences, np.uint8).copy()
    steps[1:] -= 128
    halves = np.cumsum(steps, dtype=np.uint8)
    raw = np.empty_like(halves)
    middle = (len(halves) + 1) // 2
    raw[0::2], raw[1::2] = halves[:middle], halves[middle:]
    return raw.tobytes()


def _zip(raw: bytes) -> bytes:
    values = np.frombuffer(raw, np.uint8)
    steps = np.concatenate([values[0::2], values[1::2]])
    steps[1:] = np.diff(steps) + 128
    packed = zlib.compress(steps.tobytes(), 4)
    return packed if len(packed) < len(raw) else raw


def _encoded(value: float | str | np.ndarray) -> tuple[str, bytes]:
    if isinstance(value, str):
        return "string", value.encode()
    if isinstance(value, np.ndarray):
        return "m33f", value.reshape(3, 3).astype("<f4").tobytes()
    return "float", struct.pack("<f", value)


def _attribute(name: str, kind: str, value: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value


def _string(data: bytes, offset: int) -> tuple[str, int]:
    """A zero-terminated name of at most 255 bytes, and the offset after it."""
    end = data.find(b"\0", offset, offset + 256)
    if end < 0:
        raise ValueError("save it again, because the EXR header is truncated or damaged")
    return data[offset:end].decode("utf-8", "replace"), end + 1


def _take(data: bytes, offset: int, size: int) -> bytes:
    if size < 0 or offset < 0 or offset + size > len(data):
        raise ValueError(
            f"save it again, because it is truncated: it has {len(data)} bytes and needs {size} at {offset}"
        )
    return data[offset : offset + size]


def _unpack(layout: str, data: bytes, offset: int) -> tuple[int, ...]:
    return struct.unpack(layout, _take(data, offset, struct.calcsize(layout)))
