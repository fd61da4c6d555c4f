"""NPY and NPZ files from unknown hands: never unpickled, and no array is made before the file is known to hold it."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from typing import IO

import numpy as np

MAX_ELEMENTS = 2**28
_HEADER_BYTES = 10_000


def read_npy(data: bytes) -> np.ndarray:
    """The array of numbers in an NPY file. ValueError for anything else."""
    stream = io.BytesIO(data)
    shape, fortran_order, dtype = _read_header(stream)
    if dtype.kind not in "fiu":
        raise ValueError(f"the array holds {dtype} values; real numbers are needed")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise ValueError(f"the array has the shape {shape}, more than {MAX_ELEMENTS} values; save it smaller")
    offset = stream.tell()
    if offset + count * dtype.itemsize > len(data):
        raise ValueError(f"the array of shape {shape} needs more bytes than the file has: it is truncated")
    return np.frombuffer(data, dtype, count, offset).reshape(shape, order="F" if fortran_order else "C")


def read_npz(data: bytes, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an NPZ file has; where it has but one array, that one. ValueError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            wanted = list(members) if len(members) == 1 else [name for name in names if name in members]
            return {name: read_npy(_member(archive, members[name])) for name in wanted}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"it is not a whole NPZ file ({error})") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one array, no more than it may have."""
    declared = archive.getinfo(name).file_size
    if declared > 8 * MAX_ELEMENTS + _HEADER_BYTES:
        raise ValueError(f"the array {name} has {declared} bytes; save it smaller")
    with archive.open(name) as stream:
        return stream.read(declared)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"NPY version {version} is not for plain numbers")
        shape, fortran_order, dtype = readers[version](stream)
    # What numpy's parser of the header lets through, besides its own ValueError.
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"it is not a whole NPY file ({error})") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"it is not a whole NPY file (its shape is {shape})")
    return shape, fortran_order, dtype
