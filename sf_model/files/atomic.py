"""Files that are there whole or not at all, however the program that writes them ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """`with written_whole(path) as partial:` gives where to write; only what is complete then stands at `path`.

    The folder is made. The partial file has one name, so that what a killed program left of the same file is written
    over, and no folder of a million files is searched for it; nothing is left after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
