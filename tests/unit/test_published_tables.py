"""The published tables: a report's page, its JSON, the card and the README agree, and are of the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sf_model.backbones.mini import MINI_DIR
from sf_model.evaluation.bootstrap import Estimate
from sf_model.evaluation.sampling import BUILTIN, weights_sha256

CARD, README = MINI_DIR / "MODEL_CARD.md", Path(__file__).parents[2] / "README.md"
SCAFFOLDS = {"SpatialFusion", "oracle depth", "shuffled depth", "blank depth"}
# Of the rows that a report must have on its page and in the card.
NEEDED = {
    "minispace": {"floor", "chance", "ceiling", "mean depth", "misplaced depth"} | SCAFFOLDS,
    "edits": {"floor", "unchanged", "ceiling", "mean depth"} | SCAFFOLDS,
    "controls_2000": {"floor", "chance", "base", "data-only", "ceiling"} | SCAFFOLDS,
    "controls_10000": {"floor", "chance", "base", "data-only", "ceiling"} | SCAFFOLDS,
    "controls_50000": {"floor", "chance", "base", "data-only", "ceiling"} | SCAFFOLDS,
}
# The 10,000's was lost: its page alone is the source.
WITH_JSON = [name for name in NEEDED if name != "controls_10000"]
SIZES = {"2,000": "controls_2000", "10,000": "controls_10000", "50,000": "controls_50000"}

Line = dict[str, str]


def lines_of(page: Path) -> list[Line]:
    """{head: cell} of every line of every table, in their order."""
    lines, heads = [], []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and heads and cells[0].strip("-"):
            lines.append(dict(zip(heads, cells)))
        heads = (heads or cells) if cells else []
    return lines


def page_of(name: str) -> Path:
    return MINI_DIR / "reports" / f"{name}.md"


def read(name: str) -> dict[str, Any]:
    return json.loads((MINI_DIR / "reports" / f"{name}.json").read_text(encoding="utf-8"))


def page_scores(name: str) -> dict[str, Line]:
    """{row: scores} of the first table of a report's page."""
    first, *lines = lines_of(page_of(name))
    same = [first, *(line for line in lines if line.keys() == first.keys())]
    return {line["row"]: {head: cell for head, cell in line.items() if head != "row"} for line in same}


def card_lines(name: str) -> list[Line]:
    """Of the model card's table that a report is the source of."""
    lines = lines_of(CARD)
    if name == "edits":
        return [line for line in lines if "pixels stayed" in line]
    lines = [line for line in lines if "where found" in line]
    if name == "minispace":
        return [line for line in lines if "scenes" not in line]
    return [line for line in lines if line.get("scenes") in ("all", name.removeprefix("controls_"))]


def estimate(value: dict[str, float] | None) -> str:
    return "-" if value is None else str(Estimate(**value))


@pytest.mark.parametrize("name", NEEDED)
def test_the_card_has_the_scores_of_the_report(name: str) -> None:
    scores, lines = page_scores(name), card_lines(name)
    assert {line["row"] for line in lines} >= NEEDED[name]
    for line in lines:
        cells = {head: cell for head, cell in line.items() if head not in ("row", "scenes")}
        assert len(cells) >= 8
        assert cells == {head: scores[line["row"]][head] for head in cells}


@pytest.mark.parametrize("name", WITH_JSON)
def test_a_report_s_page_and_its_json_agree(name: str) -> None:
    record, page = read(name), page_of(name).read_text(encoding="utf-8")
    for setting, value in record["run"].items():
        assert f"- {setting}: {value}\n" in page
    scores = page_scores(name)
    assert list(scores) == list(record["rows"])
    for row, columns in record["rows"].items():
        named = {column.replace("_", " "): value for column, value in columns.items()}
        assert scores[row] == {head: estimate(named[head]) for head in scores[row]}


@pytest.mark.parametrize("scenes", SIZES)
def test_the_card_s_ratios_to_data_only_are_the_report_s(scenes: str) -> None:
    [line] = [line for line in lines_of(CARD) if "of each seed" in line and line["scenes"] == scenes]
    lines = lines_of(page_of(SIZES[scenes]))
    [against] = [one for one in lines if one.get("SpatialFusion against") == "data-only"]
    [shuffled] = [one for one in lines if one.get("SpatialFusion against") == "shuffled depth"]
    resampled = [one for one in lines if one.get("SpatialFusion over (trainings resampled, too)") == "data-only"]
    for section in ("all", "pose", "measurement"):
        over_trainings = f" ([{resampled[0][section].split('[')[1]})" if resampled else ""
        assert line[section] == against[f"{section} ratio"] + over_trainings
    assert line["shuffled depth less"] == f"{shuffled['all minus']} points"
    seeds = [
        one["all"].split("(")[1].rstrip("x)") for one in lines if one.get("row, training", "").startswith("data-only")
    ]
    assert line["of each seed"] == ", ".join(seeds)


@pytest.mark.parametrize("scenes", SIZES)
def test_the_readme_has_the_controls_scores(scenes: str) -> None:
    [line] = [line for line in lines_of(README) if line.get("spatial scenes") == scenes]
    scores = page_scores(SIZES[scenes])
    rows = {"SpatialFusion": "SpatialFusion", "data-only": "data-only", "with another prompt's depth": "shuffled depth"}
    assert {head: line[head] for head in rows} == {head: scores[row]["all"] for head, row in rows.items()}
    [ratios] = [one for one in lines_of(CARD) if "of each seed" in one and one["scenes"] == scenes]
    assert line["ratio"] == ratios["all"].split(" (")[0]


def test_the_readme_has_minispace_s_scores() -> None:
    scores = page_scores("minispace")
    lines = {line["images drawn with"]: line for line in lines_of(README) if "images drawn with" in line}
    rows = {
        "no depth": "blank depth",
        "another prompt's depth": "shuffled depth",
        "**the depth that it predicts**": "SpatialFusion",
        "true depth of the right objects, at random places": "misplaced depth",
        "true depth": "oracle depth",
        "renders of the prompts": "ceiling",
        "right objects at random places (renders)": "chance",
    }
    assert set(lines) == set(rows)
    for called, row in rows.items():
        cells = {head: cell for head, cell in lines[called].items() if head != "images drawn with"}
        assert cells == {head: scores[row][head] for head in cells}


@pytest.mark.parametrize("name", ["minispace", "edits"])
def test_they_are_of_the_shipped_weights(name: str) -> None:
    weights = read(name)["run"]["weights"]
    assert [(entry["directory"], entry["sha256"]) for entry in weights] == [(BUILTIN, weights_sha256(MINI_DIR))]
