"""A benchmark's table on disk: JSON with what it was made with, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .bootstrap import Estimate


def estimates_markdown(
    heads: Sequence[str], rows: Iterable[tuple[Sequence[str], Mapping[str, Estimate | None]]]
) -> str:
    """A table of rows (what they are called under `heads`, their measures), with three decimals; "-" of none."""
    rows = list(rows)
    columns = list(dict.fromkeys(measure for _, row in rows for measure in row))
    lines = [f"| {' | '.join([*heads, *columns])} |", "|" + "---|" * (len(heads) + len(columns))]
    for names, row in rows:
        cells = ["-" if (value := row.get(column)) is None else value.text(3) for column in columns]
        lines.append(f"| {' | '.join([*names, *cells])} |")
    return "\n".join(lines)


def run_markdown(run: Mapping[str, Any]) -> str:
    """What a table was made with, one line each."""
    return "\n".join(f"- {name}: {value}" for name, value in run.items())


def write_report(output: Path, name: str, run: Mapping[str, Any], table: Mapping[str, Any], markdown: str) -> None:
    """`<output>/<name>.json` of the run and the table of dataclasses, and `<name>.md`, whose table is printed."""
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"run": run, "table": table}, indent=1, default=asdict)
    (output / f"{name}.json").write_text(text, encoding="utf-8")
    (output / f"{name}.md").write_text(f"{run_markdown(run)}\n\n{markdown}\n", encoding="utf-8")
    print(markdown)
    print(f"written to {output / name}.md and {output / name}.json")
