"""Which version of the code made a file or a figure."""

from __future__ import annotations

import subprocess
from pathlib import Path

DIRTY = "-dirty"
UNKNOWN = "unknown"


def current_commit() -> str:
    """The working tree's commit, with "-dirty" if files were changed; "unknown" outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).resolve().parent),
        "describe",
        "--always",
        f"--dirty={DIRTY}",
        "--abbrev=12",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or UNKNOWN


def names_the_code(commit: str) -> bool:
    """Whether a `current_commit` identifies the code exactly: it is known, and no file was changed."""
    return commit != UNKNOWN and not commit.endswith(DIRTY)
