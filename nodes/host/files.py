"""Files that users choose by name, as in the host's loaders: which are offered, which are read, and when again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import folder_paths

MAX_FILE_BYTES = 2**30


def offered_files(input_endings: tuple[str, ...], output_endings: tuple[str, ...]) -> list[str]:
    """Names for a combo: the files with these endings in the input folder, then "<name> [output]" in the output folder.

    The folders in both are searched too. A file that `input_file` would refuse is not offered.
    """
    inputs = _names(Path(folder_paths.get_input_directory()), input_endings)
    outputs = _names(Path(folder_paths.get_output_directory()), output_endings)
    return [*sorted(inputs), *(f"{name} [output]" for name in sorted(outputs))]


def input_file(name: str, kind: str) -> Path:
    """The file of a name, which may end in [input], [output] or [temp]. kind: what it should hold, for errors.

    ValueError where there is no such file, or where it is outside of the folder. The oldest host does not check that.
    A linked name may be anything: the host compares only what is typed or chosen.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"connect the name of a {kind} file in ComfyUI's input folder, which is a text: a value of type "
            f"{type(name).__name__} is connected"
        )
    plain, annotated = folder_paths.annotated_filepath(name)
    try:
        folder = Path(annotated or folder_paths.get_input_directory()).resolve()
        path = (folder / plain.strip()).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
        pass
    raise ValueError(
        f"put the {kind} file {name!r} into ComfyUI's input folder, refresh the node definitions (R) and choose it "
        "again: there is no such file"
    )


def is_input_file(name: str, kind: str) -> bool | str:
    """For `validate_inputs` of a node: True, or what is wrong."""
    try:
        input_file(name, kind)
    except ValueError as error:
        return str(error)
    return True


def contents_digest(name: str | None, kind: str, endings: tuple[str, ...] = ("",)) -> str:
    """For `fingerprint_inputs` of a node: it changes when the contents of the file change.

    name: None where it is linked. The host does not know a linked name before the run. Then the digest changes when any
    file with these endings in the input folder changes. A file that `read_file` would refuse is not read here either.
    """
    if name is None:
        folder = Path(folder_paths.get_input_directory())
        return files_state(folder / found for found in _names(folder, endings))
    path = input_file(name, kind)
    if path.stat().st_size > MAX_FILE_BYTES:
        return files_state([path])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def files_state(paths: Iterable[Path]) -> str:
    """A digest of names, sizes and times of files. It changes when one of them is written again."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            found = path.stat()
            digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def read_file(path: Path, remedy: str) -> bytes:
    """The contents of a file. ValueError, with the remedy, for one of more than MAX_FILE_BYTES."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{remedy}: {path.name} has {size / 2**30:.1f} GiB, and at most {MAX_FILE_BYTES / 2**30:g} is read"
        )
    return path.read_bytes()


def _names(folder: Path, endings: tuple[str, ...]) -> Iterator[str]:
    """Names relative to the folder, with forward slashes. Linked and hidden folders are left out."""
    root = folder.resolve()
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(endings) and _is_readable(Path(parent, name), root):
                yield Path(parent, name).relative_to(root).as_posix()


def _is_readable(path: Path, root: Path) -> bool:
    # Not Path.resolve: before Python 3.13 it raises for links in a circle.
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        return False
    return path.is_file() and os.access(path, os.R_OK)
