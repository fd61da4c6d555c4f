"""The published tables: a report's page, its JSON and the model card agree, and are of the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sf_model.backbones.mini import MINI_DIR
from sf_model.evaluation.bootstrap import Estimate
from sf_model.evaluation.sampling import BUILTIN, weights_sha256

REPORTS = sorted((MINI_DIR / "reports").glob("*.json"))


def lines_of(page: Path) -> list[dict[str, str]]:
    """{head: cell} of every line of every table, in their order."""
    lines, heads = [], []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and heads and cells[0].strip("-"):
            lines.append(dict(zip(heads, cells)))
        heads = (heads or cells) if cells else []
    return lines


def scores_of(record: dict[str, Any], row: str, heads: list[str]) -> dict[str, str]:
    columns = {name.replace("_", " "): value for name, value in record["rows"][row].items()}
    return {head: "-" if columns[head] is None else str(Estimate(**columns[head])) for head in heads}


def only_scores(line: dict[str, str]) -> dict[str, str]:
    return {head: cell for head, cell in line.items() if head not in ("row", "scenes")}


def read(name: str) -> dict[str, Any]:
    return json.loads((MINI_DIR / "reports" / f"{name}.json").read_text(encoding="utf-8"))


def card_lines(name: str) -> list[dict[str, str]]:
    """Of the model card's table that a report is the source of."""
    lines = lines_of(MINI_DIR / "MODEL_CARD.md")
    if name == "edits":
        return [line for line in lines if "pixels stayed" in line]
    scenes = name.removeprefix("controls_") if name != "minispace" else None
    return [line for line in lines if "where found" in line and line.get("scenes") == scenes]


@pytest.mark.parametrize("name", [report.stem for report in REPORTS])
def test_a_report_s_page_its_json_and_the_card_agree(name: str) -> None:
    record, page = read(name), MINI_DIR / "reports" / f"{name}.md"
    for setting, value in record["run"].items():
        assert f"- {setting}: {value}\n" in page.read_text(encoding="utf-8")
    rows = list(record["rows"])
    for lines in (lines_of(page)[: len(rows)], card_lines(name)):
        assert {"SpatialFusion", "oracle depth", "blank depth"} <= {line["row"] for line in lines} <= set(rows)
        for line in lines:
            scores = only_scores(line)
            assert len(scores) >= 8
            assert scores == scores_of(record, line["row"], list(scores))


@pytest.mark.parametrize("name", ["minispace", "edits"])
def test_they_are_of_the_shipped_weights(name: str) -> None:
    weights = read(name)["run"]["weights"]
    assert [(entry["directory"], entry["sha256"]) for entry in weights] == [(BUILTIN, weights_sha256(MINI_DIR))]
