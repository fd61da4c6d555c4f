"""Writes files completely or not at all, even if the program is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """`with written_whole(path) as partial:` write to `partial`. It becomes `path` at the end, but not after an error.

    The folder is made. The partial file of a path always has the same name. So the next write replaces what a killed
    program left, and no folder of a million files has to be searched for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
