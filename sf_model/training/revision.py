"""Which version of the code made a file or a figure."""

from __future__ import annotations

import subprocess
from pathlib import Path


def current_commit() -> str:
    """The working tree's commit, with "-dirty" where it differs, or "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
