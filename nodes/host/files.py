"""Files that users choose by name, as the host's loaders do: which are offered, which are read, and when anew."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths

MAX_FILE_BYTES = 2**30


def offered_files(input_endings: tuple[str, ...], output_endings: tuple[str, ...]) -> list[str]:
    """Names for a combo: the files with these endings in the input folder, then "<name> [output]" in the output folder.

    Folders in them are searched too. What `input_file` would refuse is not offered.
    """
    inputs = _names(Path(folder_paths.get_input_directory()), input_endings)
    outputs = _names(Path(folder_paths.get_output_directory()), output_endings)
    return [*sorted(inputs), *(f"{name} [output]" for name in sorted(outputs))]


def input_file(name: str, kind: str) -> Path:
    """The file of a name, which may end in [input], [output] or [temp]; `kind` says in errors what it should hold.

    ValueError where there is none, or outside of that folder, which the oldest host does not check.
    """
    plain, annotated = folder_paths.annotated_filepath(name)
    try:
        folder = Path(annotated or folder_paths.get_input_directory()).resolve()
        path = (folder / plain.strip()).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle
        pass
    raise ValueError(
        f"there is no {kind} file {name!r} in ComfyUI's input folder; put it there, refresh the node definitions (R) "
        "and choose it again"
    )


def is_input_file(name: str, kind: str) -> bool | str:
    """For a node's `validate_inputs`: True, or what is wrong."""
    try:
        input_file(name, kind)
    except ValueError as error:
        return str(error)
    return True


def contents_digest(name: str, kind: str) -> str:
    """For a node's `fingerprint_inputs`: another one when the file's contents are others."""
    digest = hashlib.sha256()
    with input_file(name, kind).open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def read_file(path: Path, remedy: str) -> bytes:
    """All of a file. ValueError, with the remedy, for one of more than MAX_FILE_BYTES."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path.name} has {size / 2**30:.1f} GiB, at most {MAX_FILE_BYTES / 2**30:g} is read; {remedy}"
        )
    return path.read_bytes()


def _names(folder: Path, endings: tuple[str, ...]) -> Iterator[str]:
    """Relative to the folder, with forward slashes. Linked folders are passed over, hidden ones too."""
    root = folder.resolve()
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(endings) and _is_readable(Path(parent, name), root):
                yield Path(parent, name).relative_to(root).as_posix()


def _is_readable(path: Path, root: Path) -> bool:
    # Not Path.resolve, which before Python 3.13 raises for links in a circle.
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        return False
    return path.is_file() and os.access(path, os.R_OK)
