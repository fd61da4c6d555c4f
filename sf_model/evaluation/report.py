"""Writes a benchmark's table as JSON, with the record of its run, and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..scene_reader.accuracy import ReaderAccuracy, accuracy_table
from .arguments import plain
from .bootstrap import Estimate


def estimates_markdown(
    heads: Sequence[str], rows: Iterable[tuple[Sequence[str], Mapping[str, Estimate | None]]], decimals: int = 3
) -> str:
    """A table with "-" for None. rows: (names for the columns `heads`, measures)."""
    rows = list(rows)
    columns = list(dict.fromkeys(measure for _, row in rows for measure in row))
    lines = [f"| {' | '.join([*heads, *columns])} |", "|" + "---|" * (len(heads) + len(columns))]
    for names, row in rows:
        cells = ["-" if (value := row.get(column)) is None else value.text(decimals) for column in columns]
        lines.append(f"| {' | '.join([*names, *cells])} |")
    return "\n".join(lines)


def run_markdown(run: Mapping[str, Any]) -> str:
    """The record of a run, one line for each entry."""
    return "\n".join(f"- {name}: {value}" for name, value in run.items())


def write_report(output: Path, name: str, run: Mapping[str, Any], table: Mapping[str, Any], markdown: str) -> None:
    """Write `<output>/<name>.json` with the run and the table of dataclasses, and `<name>.md`. Print the table."""
    _write(output, name, {"run": run, "table": table}, f"{run_markdown(run)}\n\n{markdown}\n")
    _announce(markdown, output, f"{name}.md", f"{name}.json")


def write_scores(
    output: Path,
    name: str,
    title: str,
    run: Mapping[str, Any],
    accuracy: Mapping[str, ReaderAccuracy],
    scores: Mapping[str, Any],
    prompts: Sequence[Mapping[str, Any]],
    tables: Sequence[str],
) -> None:
    """Write three files to `output`, and print the tables. Estimates and results are dataclasses.

    <name>.json          the run, the accuracy of the reader, and the scores
    <name>_prompts.json  the scores of every prompt
    <name>.md            the tables
    """
    record = {"run": run, "reader": {images: plain(value) for images, value in accuracy.items()}, **scores}
    page = [f"# {title}", run_markdown(run), "Intervals: 95%, over prompts.", *tables]
    page += ["The scene reader:", accuracy_table(accuracy)]
    _write(output, name, record, "\n\n".join(page) + "\n")
    _write_json(output / f"{name}_prompts.json", prompts)
    _announce("\n\n".join(tables), output, f"{name}.md", f"{name}.json", f"{name}_prompts.json")


def _write(output: Path, name: str, record: Mapping[str, Any], page: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.md").write_text(page, encoding="utf-8")
    _write_json(output / f"{name}.json", record)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False, default=asdict), encoding="utf-8")


def _announce(tables: str, output: Path, *files: str) -> None:
    print(tables)
    print(f"written: {', '.join(str(output / file) for file in files)}")
