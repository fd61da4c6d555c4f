"""The command line of the programs that compute a table for docs/training.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .documents.figures import plain_table


def print_or_write(description: str | None, figures: Callable[[], dict[str, Any]]) -> None:
    """Print the table. With --json also write it to a file, which `python -m tools.documents` reads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="also write the table to this file (see docs/figures)")
    file = parser.parse_args().json
    table = figures()
    print(plain_table(table))
    if file is not None:
        file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
