"""NPY and NPZ files from unknown hands: never unpickled, and no array is made before the file is known to hold it.

A compressed file's size says little of what is in it, so its arrays' headers are read first, and the arrays only after
the caller has agreed to their shapes.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import numpy as np

MAX_ELEMENTS = 2**28
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def byte_count(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, data: bytes, offset: int = 0) -> np.ndarray:
        """The array in the bytes from `offset` on. ValueError where these are too few."""
        if offset + self.byte_count > len(data):
            raise ValueError(f"the array of shape {self.shape} needs more bytes than the file has: it is truncated")
        values = np.frombuffer(data, self.dtype, math.prod(self.shape), offset)
        return values.reshape(self.shape, order="F" if self.fortran_order else "C")


def read_npy(data: bytes) -> np.ndarray:
    """The array of numbers in an NPY file. ValueError for anything else."""
    stream = io.BytesIO(data)
    header = _read_header(stream)
    return header.array(data, stream.tell())


def read_npz(data: bytes, names: tuple[str, ...], check: Callable[[Shapes], None]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an NPZ file has; where it has but one array, that one. ValueError.

    check: gets the shapes of these arrays before any of them is unpacked, and raises ValueError for what is too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            wanted = list(members) if len(members) == 1 else [name for name in names if name in members]
            headers = {}
            for name in wanted:
                with _open(archive, members[name]) as stream:
                    headers[name] = _read_header(stream)
            check({name: header.shape for name, header in headers.items()})
            return {name: _read_member(archive, members[name]) for name in wanted}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"it is not a whole NPZ file ({error})") from error


def _open(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The others are unpacked in pieces of any size, and NumPy does not write them.
        raise ValueError("it is not compressed as NumPy does it; save it with numpy.savez or numpy.savez_compressed")
    return archive.open(name)


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with _open(archive, name) as stream:
        header = _read_header(stream)
        return header.array(stream.read(header.byte_count))


def _read_header(stream: IO[bytes]) -> _Header:
    """The header of an array of real numbers, of at most MAX_ELEMENTS; the stream then stands at its first number."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"NPY version {version} is not for plain numbers")
        header = _Header(*readers[version](stream))
    # What numpy's parser of the header lets through, besides its own ValueError.
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"it is not a whole NPY file ({error})") from error
    if any(size < 0 for size in header.shape):
        raise ValueError(f"it is not a whole NPY file (its shape is {header.shape})")
    if header.dtype.kind not in "fiu":
        raise ValueError(f"the array holds {header.dtype} values; real numbers are needed")
    if math.prod(header.shape) > MAX_ELEMENTS:
        raise ValueError(f"the array has the shape {header.shape}, more than {MAX_ELEMENTS} values; save it smaller")
    return header
