"""What the programs that compute a table for docs/training.md share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .documents.figures import plain_table


def print_or_write(description: str | None, figures: Callable[[], dict[str, Any]]) -> None:
    """The command line of such a program: print the table, and write it with --json for `python -m tools.documents`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="a file for the table, such as those in docs/figures")
    file = parser.parse_args().json
    table = figures()
    print(plain_table(table))
    if file is not None:
        file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
