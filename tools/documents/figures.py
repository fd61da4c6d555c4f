"""Tables from JSON files of figures. There are two forms.

A report of `python -m sf_model.evaluation ...`: {"run": how it was made, section: {row: {column: figure}}}. There are
more levels if a row has several names. A figure is a number, null, or {"mean", "low", "high"}. A list of dictionaries
(for example one for each training) becomes numbered columns.

A plain table: {"columns": [text], "rows": [[text]], "note": text before the table, optional}.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .blocks import Page

# A file beside the reports that is not a report: more texts and figures for the model card.
CARD = "card.json"
RUN, READER, TRAININGS = "run", "reader", "training_seeds"
# Decimals by section of a report; 1 for others. Ratios have 2.
DECIMALS = {"over_trainings": 2, "depth": 3, READER: 3, "table": 3}
PERCENT_REPORTS = {"recognition"}
# How many of the names before a figure are the row's, by section. For others: all but the last.
ROW_NAMES = {"SpatialFusion against": 1}
TITLES = {
    "rows": "scores",
    TRAININGS: "each training",
    "over_trainings": "SpatialFusion's ratio to each row, with the trainings resampled as well",
    "depth": "the predicted depth",
    "table": "measures",
}

Names = tuple[str, ...]
Rows = dict[Names, dict[str, str]]
"""{names of a row: {column: text}}."""


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain_table(value: dict[str, Any]) -> str:
    parts = [value.get("note", ""), markdown_table(value["columns"], value["rows"])]
    return "\n\n".join(filter(None, parts))


def read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def figures(value: Any, names: Names = ()) -> Iterator[tuple[Names, Any]]:
    """(its names, figure) for every figure in a section."""
    if isinstance(value, list):
        value = _transposed({str(place): one for place, one in enumerate(value, 1)})
    if not isinstance(value, dict) or "low" in value:
        yield names, value
        return
    for name, part in value.items():
        yield from figures(part, (*names, name))


def _transposed(value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    inner = next(iter(value.values()), {})
    return {name: {outer: part[name] for outer, part in value.items()} for name in inner}


def cell(figure: Any, decimals: int) -> str:
    if figure is None:
        return "-"
    if isinstance(figure, dict):
        return f"{cell(figure['mean'], decimals)} [{cell(figure['low'], decimals)}, {cell(figure['high'], decimals)}]"
    return f"{figure:.{decimals}f}"


def section_rows(report: Path, section: str, value: Any) -> Rows:
    """The rows of a section of a report. value: the section's JSON."""
    decimals = 1 if report.stem in PERCENT_REPORTS else DECIMALS.get(section, 1)
    rows: Rows = {}
    for names, figure in figures(value):
        count = ROW_NAMES.get(section, len(names) - 1)
        column = " ".join(names[count:])
        text = cell(figure, 2 if column.endswith("ratio") else decimals)
        rows.setdefault(names[:count], {})[column] = text
    return rows


def rows_table(rows: Rows, heads: Sequence[str] = (), columns: Sequence[str] = ()) -> str:
    """A table. columns: those to show; none: all. heads: of the columns with the rows' names."""
    heads = heads or [""] * len(next(iter(rows)))
    columns = columns or list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[*names, *(row.get(column, "-") for column in columns)] for names, row in rows.items()]
    return markdown_table([*heads, *(column.replace("_", " ") for column in columns)], lines)


def _chosen(rows: Rows, patterns: Sequence[str], columns: Sequence[str]) -> Rows:
    """The rows that match one of the patterns by their names joined with "/", or by their first name.

    ValueError if a pattern matches nothing or a column is missing.
    """
    matched = {
        pattern: [names for names in rows if fnmatchcase("/".join(names), pattern) or fnmatchcase(names[0], pattern)]
        for pattern in patterns
    }
    if rows and (missing := [pattern for pattern, found in matched.items() if not found]):
        raise ValueError(f"use rows of {['/'.join(names) for names in rows]}; there is no row {missing}")
    chosen = {
        names: row for names, row in rows.items() if not patterns or any(names in found for found in matched.values())
    }
    existing = {column for row in chosen.values() for column in row}
    if chosen and (missing := [column for column in columns if column not in existing]):
        raise ValueError(f"use columns of {sorted(existing)}; there is no column {missing}")
    return chosen


def _split(option: str) -> list[str]:
    return [part.strip() for part in option.split(";") if part.strip()]


def table(page: Page, source: str, section: str = "", rows: str = "", columns: str = "", heads: str = "") -> str:
    """A table of one file, or of several with names: `source="2,000=a.json; 10,000=b.json"`.

    section: of the report, or of a file with several plain tables. rows, columns: those to show, separated by ";";
    empty: all. Rows may be patterns: `rows="* depth; plain/mean"`. heads: of the columns with the rows' names.
    ValueError for rows and columns that do not exist.
    """
    found: Rows = {}
    for label, _, name in (one.rpartition("=") for one in _split(source)):
        file = page.file(name)
        value = read_json(file)
        value = value[section] if section else value
        if "columns" in value:
            return plain_table(value)
        try:
            chosen = _chosen(section_rows(file, section, value), _split(rows), _split(columns))
        except ValueError as error:
            raise ValueError(f"{page.path}: {name}, {section}: {error}") from error
        found |= {((label, *names) if label else names): row for names, row in chosen.items()}
    return rows_table(found, _split(heads), _split(columns))


def made_with(page: Page, source: str) -> str:
    """Seed, commit and weights of a report, in a line."""
    run = read_json(page.file(source))[RUN]
    weights = run.get("weights_sha256") or ", ".join(dict.fromkeys(one["sha256"] for one in run["weights"]))
    return f"Seed {run['seed']}, commit `{run['commit']}`, weights `{weights}`."


def _run_lines(run: dict[str, Any]) -> str:
    values = {name: value for name, value in run.items() if name != "weights"}
    for weights in run.get("weights", ()):
        values[f"weights of {weights['row']}, {weights['directory']}"] = weights["sha256"]
    lines = [f"- {name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in values.items()]
    return "\n".join(lines)


def reports(page: Page) -> str:
    """All reports beside the page, with all sections. The accuracy of the reader, which several share, comes last."""
    parts, readers = [], {}
    for file in sorted(page.path.parent.glob("*.json")):
        if file.name == CARD:
            continue
        report = read_json(file)
        parts += [f"## {file.stem}", _run_lines(report.pop(RUN))]
        if READER in report:
            accuracy = rows_table(section_rows(file, READER, _transposed(report.pop(READER))))
            readers.setdefault(accuracy, []).append(file.stem)
        # A row with one training is already among the scores.
        several = {name: each for name, each in report.get(TRAININGS, {}).items() if len(each) > 1}
        for section, value in (report | {TRAININGS: several}).items():
            if value:
                rows = section_rows(file, section, value)
                parts += [f"### {file.stem}: {TITLES.get(section, section)}", rows_table(rows)]
    for accuracy, names in readers.items():
        parts += [f"## The scene reader of {', '.join(names)}", accuracy]
    return "\n\n".join(parts)


def weight_files(page: Page, described_in: str) -> str:
    """The weights beside the page. described_in: a JSON file with their descriptions, {"files": {name: text}}."""
    texts = read_json(page.file(described_in))["files"]
    files = sorted(page.path.parent.glob("*.safetensors"))
    if missing := [file.name for file in files if file.name not in texts]:
        raise ValueError(f'add {missing} to "files" of {page.file(described_in)}, which does not describe them')
    counts = [parameters(file) for file in files]
    rows = [[f"`{file.name}`", texts[file.name], f"{count / 1e6:.1f} M"] for file, count in zip(files, counts)]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    rows.append(["together", f"{megabytes:.1f} MB", f"{sum(counts) / 1e6:.1f} M"])
    return markdown_table(("file", "part", "parameters"), rows)


def parameters(file: Path) -> int:
    """The number of values in a .safetensors file, from its header."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
