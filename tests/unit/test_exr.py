"""The EXR reader and writer against the reference library, in both directions, and against broken files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from sf_model.files.exr import read_channels, write_exr
from sf_model.files.exr_parts import MAX_PIXELS, ExrPart, read_parts

COMPRESSIONS = {
    "NONE": OpenEXR.NO_COMPRESSION,
    "RLE": OpenEXR.RLE_COMPRESSION,
    "ZIPS": OpenEXR.ZIPS_COMPRESSION,
    "ZIP": OpenEXR.ZIP_COMPRESSION,
}
SHAPES = [(1, 1), (16, 16), (37, 53), (33, 200)]


def noise(shape: tuple[int, int], dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 90, shape).astype(dtype)


def plane(shape: tuple[int, int], dtype: type = np.float32) -> np.ndarray:
    """Rows of one value: what run lengths are for."""
    return np.repeat(np.arange(1, shape[0] + 1), shape[1]).reshape(shape).astype(dtype)


def reference_file(folder: Path, channels: dict[str, np.ndarray], **header: Any) -> bytes:
    """A file by the reference library."""
    path = folder / "reference.exr"
    full = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage} | header
    with OpenEXR.File(full, dict(channels)) as file:  # it puts its own objects into the dict
        file.write(str(path))
    return path.read_bytes()


def read_header(data: bytes) -> ExrPart:
    """The only part of a file."""
    (part,) = read_parts(data)
    return part


def read(data: bytes) -> dict[str, np.ndarray]:
    header = read_header(data)
    return read_channels(data, header, list(header.channels))


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("picture", [noise, plane])
def test_reads_what_the_reference_writes(tmp_path: Path, shape: Any, compression: str, picture: Any) -> None:
    channels = {
        "ViewLayer.Depth.Z": picture(shape),
        "half": picture(shape, np.float16),
        "ids": picture(shape, np.uint32),
    }
    data = reference_file(tmp_path, channels, compression=COMPRESSIONS[compression])
    assert read_header(data).compression == compression
    found = read(data)
    assert found.keys() == channels.keys()
    assert all(same_bits(found[name], channels[name]) for name in channels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("picture", [noise, plane])
def test_the_reference_reads_what_is_written(tmp_path: Path, shape: Any, picture: Any) -> None:
    special = picture(shape)
    special.flat[0] = np.inf
    special.flat[-1] = 1e-40  # denormal
    channels = {"confidence": noise(shape) / 90, "Z": special, "a name of more than thirty-one characters": special}
    matrix = np.arange(9, dtype=np.float32).reshape(3, 3)
    data = write_exr(channels, {"fovYDeg": 51.5, "depthUnit": "metres", "camera": matrix})
    path = tmp_path / "ours.exr"
    path.write_bytes(data)
    with OpenEXR.File(str(path), separate_channels=True) as file:
        found = {name: channel.pixels for name, channel in file.channels().items()}
        header = dict(file.header())
    assert found.keys() == channels.keys()
    assert all(same_bits(found[name], channels[name]) for name in channels)
    assert (header["fovYDeg"], header["depthUnit"]) == (51.5, "metres")
    assert (header["camera"] == matrix).all()
    assert header["compression"] == OpenEXR.ZIP_COMPRESSION
    again = read_header(data)
    assert (again.number_of("fovYDeg"), again.text_of("depthUnit")) == (51.5, "metres")
    assert (again.matrix_of("camera") == matrix).all()
    assert again.number_of("depthUnit") is again.text_of("fovYDeg") is again.matrix_of("nothing") is None
    assert all(same_bits(values, channels[name]) for name, values in read(data).items())


def test_windows_and_line_order(tmp_path: Path) -> None:
    channels = {"Z": noise((40, 20))}
    window = (np.array([-3, 5], np.int32), np.array([16, 44], np.int32))
    display = (np.array([0, 0], np.int32), np.array([29, 59], np.int32))
    data = reference_file(tmp_path, channels, dataWindow=window, displayWindow=display, lineOrder=OpenEXR.DECREASING_Y)
    header = read_header(data)
    assert (header.data_window, header.display_window) == ((-3, 5, 16, 44), (0, 0, 29, 59))
    assert same_bits(read(data)["Z"], channels["Z"])


def test_subsampled_channels_name_the_remedy(tmp_path: Path) -> None:
    halved = OpenEXR.Channel(noise((40, 20)), 2, 2)
    with pytest.raises(ValueError, match="subsampled"):
        read_header(reference_file(tmp_path, {"Y": noise((40, 20)), "RY": halved}))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_truncation_is_an_error(tmp_path: Path, compression: str) -> None:
    data = reference_file(tmp_path, {"Z": plane((20, 9))}, compression=COMPRESSIONS[compression])
    for length in range(len(data)):
        with pytest.raises(ValueError):
            read(data[:length])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_damaged_bytes_are_an_error_or_another_picture(tmp_path: Path, compression: str) -> None:
    data = reference_file(tmp_path, {"Z": plane((20, 9))}, compression=COMPRESSIONS[compression])
    random = np.random.default_rng(1)
    failed = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        try:
            read(bytes(damaged))
        except ValueError:
            failed += 1
    assert failed > 100


def with_window(data: bytes, width: int, height: int) -> bytes:
    """The same file with another declared size."""
    position = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    return data[:position] + struct.pack("<4i", 0, 0, width - 1, height - 1) + data[position + 16 :]


def test_nothing_is_allocated_that_the_file_cannot_hold() -> None:
    data = write_exr({"Z": plane((16, 16))}, {})
    with pytest.raises(ValueError, match=f"more than {MAX_PIXELS}"):
        read(with_window(data, 2**30, 2**30))
    with pytest.raises(ValueError, match="truncated.*8192x8192 pixels and has"):
        read(with_window(data, 8192, 8192)[:400] + bytes(8 * 512))
    with pytest.raises(ValueError, match="truncated"):
        read(with_window(data, 1, MAX_PIXELS))
    with pytest.raises(ValueError, match="empty"):
        read(with_window(data, 0, 5))
    with pytest.raises(ValueError, match="not an OpenEXR file"):
        read_header(b"\x89PNG\r\n\x1a\n")
