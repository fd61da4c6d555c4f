"""Files in the host's temp folder that this pack wrote, kept below a size. The host empties the folder at its start."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path


class BoundedFiles:
    """Deletes the oldest files when all together have more than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._files: deque[tuple[Path, int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, paths: Iterable[Path]) -> None:
        """Take files that were just written. These stay, whatever their size."""
        new = [(path, path.stat().st_size) for path in paths]
        with self._lock:
            self._bytes += sum(size for _, size in new)
            while self._files and self._bytes > self._max_bytes:
                path, size = self._files.popleft()
                self._bytes -= size
                with contextlib.suppress(OSError):  # gone already, or open in another program
                    path.unlink()
            self._files.extend(new)
