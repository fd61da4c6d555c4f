"""A benchmark's table on disk: JSON with what it was made with, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any


def write_report(output: Path, name: str, run: Mapping[str, Any], table: Mapping[str, Any], markdown: str) -> None:
    """`<output>/<name>.json` of the run and the table of dataclasses, and `<name>.md`, printed as well."""
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"run": run, "table": table}, indent=1, default=asdict)
    (output / f"{name}.json").write_text(text, encoding="utf-8")
    (output / f"{name}.md").write_text(markdown + "\n", encoding="utf-8")
    print(markdown)
