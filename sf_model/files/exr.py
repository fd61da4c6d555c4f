"""OpenEXR pictures with float channels: the part of the format that depth needs, in numpy and zlib.

Reads half, float and uint channels, without compression or with RLE, ZIPS or ZIP, of any part of a scanline file;
`exr_codecs.py` reads the others. Writes float32 with ZIP. PyAV alone (18.1, FFmpeg's decoder) is not enough: it
refuses a file with Z and no colours, and ignores attributes, so that the field of view would be lost.
tests/unit/test_exr.py checks both directions against the reference library.

Every fault of a file is a ValueError. No allocation is larger than the file's size allows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from .exr_codecs import decode_channel
from .exr_parts import COMPRESSIONS, LINES, LONG_NAMES, MAGIC, SCANLINE, ExrPart, take, unpack

# The most bytes that one compressed byte can give: deflate's limit, and a run of 128 in two bytes. Files with other
# compressions have no such limit, but MAX_PIXELS.
_MAX_RATIO = {"NONE": 1, "RLE": 64, "ZIPS": 1032, "ZIP": 1032}
_ZIP = COMPRESSIONS.index("ZIP")


def read_channels(data: bytes, part: ExrPart, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named channels of a part over its data window, each (H, W) in the file's type. data: the whole file."""
    if part.kind != SCANLINE or part.compression not in _MAX_RATIO:
        return {name: decode_channel(data, part, name) for name in names}
    height, width = part.size
    columns, line_bytes = _columns(part, width)
    lines = LINES[part.compression]
    blocks = -(-height // lines)
    if part.blocks != blocks:
        raise ValueError(f"save it again, because the EXR has {part.blocks} blocks and needs {blocks}")
    offsets = unpack(f"<{blocks}Q", data, part.table)
    # Checked before the pictures are allocated.
    if height * line_bytes > len(data) * _MAX_RATIO[part.compression]:
        raise ValueError(
            f"save it again, because it is truncated: it declares {width}x{height} pixels and has {len(data)} bytes"
        )
    pictures = {name: np.zeros((height, width), part.channels[name]) for name in names}
    seen = np.zeros(blocks, dtype=bool)
    for offset in offsets:
        if part.number is not None:
            # The number of the part stands before a block.
            if unpack("<i", data, offset)[0] != part.number:
                raise ValueError("save it again, because a block of the EXR belongs to another part")
            offset += 4
        y, size = unpack("<ii", data, offset)
        block, rest = divmod(y - part.data_window[1], lines)
        if rest or not 0 <= block < blocks or seen[block]:
            raise ValueError(f"save it again, because the EXR's block for line {y} is misplaced or there twice")
        seen[block] = True
        rows = min(lines, height - block * lines)
        packed = take(data, offset + 8, size)
        raw = np.frombuffer(_unpacked(packed, rows * line_bytes, part.compression), np.uint8)
        raw = raw.reshape(rows, line_bytes)
        for name, picture in pictures.items():
            values = np.ascontiguousarray(raw[:, columns[name]]).view(part.channels[name])
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
        struct.pack("<II", MAGIC, 2 | (LONG_NAMES if max(map(len, [*names, *attributes])) > 31 else 0)),
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
    for y in range(0, height, LINES["ZIP"]):
        packed = _zip(picture[y : y + LINES["ZIP"]].tobytes())
        blocks.append(struct.pack("<ii", y, len(packed)) + packed)
    head = b"".join(header)
    sizes = np.array([0, *(len(block) for block in blocks[:-1])], dtype="<u8")
    offsets = len(head) + 8 * len(blocks) + np.cumsum(sizes, dtype="<u8")
    return head + offsets.tobytes() + b"".join(blocks)


def _columns(part: ExrPart, width: int) -> tuple[dict[str, slice], int]:
    """The bytes of each channel in a line, and the line's length."""
    columns: dict[str, slice] = {}
    start = 0
    for name, dtype in part.channels.items():
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
