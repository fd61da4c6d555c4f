"""Reads NPY and NPZ files from untrusted sources. Nothing is unpickled, and no array is larger than the file allows.

A small compressed file can hold gigabytes. So the headers of the arrays are read first, and the arrays only after the
caller has checked their shapes.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

MAX_ELEMENTS = 2**28
Shapes = dict[str, tuple[int, ...]]
# What the zipfile module raises for damaged archives, beside ValueError.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, OSError, LookupError),
)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def byte_count(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, data: bytes, offset: int = 0) -> np.ndarray:
        """The array in the bytes from `offset` on. ValueError if there are too few."""
        if offset + self.byte_count > len(data):
            raise ValueError(f"save it again, because it is truncated: an array {self.shape} needs more bytes")
        values = np.frombuffer(data, self.dtype, math.prod(self.shape), offset)
        return values.reshape(self.shape, order="F" if self.fortran_order else "C")


def read_npy(data: bytes) -> np.ndarray:
    """The array of an NPY file. ValueError for anything but real numbers."""
    stream = io.BytesIO(data)
    header = _read_header(stream)
    return header.array(data, stream.tell())


def read_npz(data: bytes, names: tuple[str, ...], check: Callable[[Shapes], None]) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file that have one of these names, or its only array.

    check: gets the shapes of these arrays before any of them is unpacked. It raises ValueError for those too large.
    Raises ValueError for a file that cannot be read.
    """
    try:
        with _zip_faults():
            opened = zipfile.ZipFile(io.BytesIO(data))
        with opened as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            wanted = list(members) if len(members) == 1 else [name for name in names if name in members]
            headers = {}
            for name in wanted:
                with _open(archive, members[name]) as stream:
                    headers[name] = _read_header(stream)
            check({name: header.shape for name, header in headers.items()})
            return {name: _read_member(archive, members[name]) for name in wanted}
    except _ZIP_ERRORS as error:
        raise ValueError(f"save it again, because it is not a complete NPZ file ({error})") from error


@contextmanager
def _zip_faults() -> Iterator[None]:
    """Gives the zipfile module's own ValueErrors (for places before the file's beginning) the remedy of the others."""
    try:
        yield
    except ValueError as error:
        raise zipfile.BadZipFile(str(error)) from error


def _open(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Other methods unpack pieces of any size, and NumPy does not write them.
        raise ValueError("save it with numpy.savez or numpy.savez_compressed, because its compression is not NumPy's")
    with _zip_faults():
        return archive.open(name)


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with _open(archive, name) as stream:
        header = _read_header(stream)
        with _zip_faults():
            content = stream.read(header.byte_count)
        return header.array(content)


def _read_header(stream: IO[bytes]) -> _Header:
    """The header of an array of at most MAX_ELEMENTS real numbers. The stream is then at the first number."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"NPY version {version} is not for plain numbers")
        header = _Header(*readers[version](stream))
    # What numpy's parser of the header can raise.
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"save it again, because it is not a complete NPY file ({error})") from error
    if any(size < 0 for size in header.shape):
        raise ValueError(f"save it again, because it is not a complete NPY file (its shape is {header.shape})")
    if header.dtype.kind not in "fiu":
        raise ValueError(f"save real numbers, because the array holds {header.dtype} values")
    if math.prod(header.shape) > MAX_ELEMENTS:
        raise ValueError(f"save it smaller, because the shape {header.shape} has more than {MAX_ELEMENTS} values")
    return header
