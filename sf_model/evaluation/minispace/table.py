"""The benchmark's table: means with 95% bootstrap intervals, in Markdown and for JSON. Scores are in percent."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from ... import world
from ..bootstrap import Estimate, mean_with_interval, ratio_over_trainings, ratio_with_interval
from .prompts import GROUPS, Prompt
from .rows import FUSION, SCAFFOLD_ROWS, PromptResult

ALL_FOUND, WHERE_FOUND = "all found", "where found"
# Columns besides the scores of HEADLINES.
SHARES = ("strict", "objects", "colors", "unasked")

HEADLINES: dict[str, tuple[str, ...]] = {"all": world.SPATIAL_KINDS, **GROUPS}
"""{column of every table: the sub-domains in its mean}."""

Results = Mapping[str, Sequence[PromptResult]]
Runs = Mapping[str, Sequence[Sequence[PromptResult]]]
"""Each row's results by training seed."""


def strata(prompts: Sequence[Prompt], values: Sequence[float], sub_domains: Sequence[str]) -> list[list[float]]:
    """Percentages by sub-domain. All sub-domains have equally many prompts.

    Templates are not strata: in a quick run they have too few prompts to resample.
    """
    grouped: dict[str, list[float]] = {name: [] for name in sub_domains}
    for prompt, value in zip(prompts, values):
        if prompt.sub_domain in grouped:
            grouped[prompt.sub_domain].append(100.0 * value)
    return list(grouped.values())


def seed_mean(runs: Sequence[Sequence[PromptResult]]) -> list[PromptResult]:
    """The mean of each prompt over systems that differ only in their training seed."""
    return [
        PromptResult(*(statistics.fmean(values) for values in zip(*map(astuple, results)))) for results in zip(*runs)
    ]


def _sections() -> dict[str, tuple[str, ...]]:
    return HEADLINES | {kind: (kind,) for kind in world.SPATIAL_KINDS}


def summarise(prompts: Sequence[Prompt], results: Sequence[PromptResult]) -> dict[str, Estimate | None]:
    """A row: the mean score over all prompts, each group and each sub-domain; SHARES; ALL_FOUND; WHERE_FOUND.

    ALL_FOUND is the share of images that show every named object. WHERE_FOUND is the mean score of these images: how
    well the objects are placed. It is None without such images. An image without all its objects scores 0, so the score
    over `whole` is this mean, for any number of training seeds.
    """
    scores = [result.score for result in results]
    row = {name: mean_with_interval(strata(prompts, scores, kinds)) for name, kinds in _sections().items()}
    for name in SHARES:
        values = [getattr(result, name) for result in results]
        row[name] = mean_with_interval(strata(prompts, values, world.SPATIAL_KINDS))
    whole = [result.whole for result in results]
    row[ALL_FOUND] = mean_with_interval(strata(prompts, whole, world.SPATIAL_KINDS))
    there = [(100.0 * score, share) for score, share in zip(scores, whole) if share]
    placed = ratio_with_interval(*([list(values)] for values in zip(*there))) if there else None
    row[WHERE_FOUND] = placed
    return row


def against(prompts: Sequence[Prompt], results: Results, reference: str) -> dict[str, dict[str, Any]]:
    """{row: {"all" and each group: difference and ratio to the reference row}}, over the same prompts.

    difference: reference minus row, in points. ratio: reference over row; None if the row's mean can be 0.
    """
    table: dict[str, dict[str, Any]] = {}
    ours = [result.score for result in results[reference]]
    for name, row in results.items():
        if name == reference:
            continue
        theirs = [result.score for result in row]
        table[name] = {}
        for section, kinds in HEADLINES.items():
            difference = [a - b for a, b in zip(ours, theirs)]
            table[name][section] = {
                "difference": mean_with_interval(strata(prompts, difference, kinds)),
                "ratio": ratio_with_interval(strata(prompts, ours, kinds), strata(prompts, theirs, kinds)),
            }
    return table


def seed_means(prompts: Sequence[Prompt], runs: Runs) -> dict[str, list[dict[str, float]]]:
    """{row: [{"all" and each group: mean} for every training seed]}."""
    return {
        name: [
            {
                section: statistics.fmean(
                    value for values in strata(prompts, [one.score for one in results], kinds) for value in values
                )
                for section, kinds in HEADLINES.items()
            }
            for results in seeds
        ]
        for name, seeds in runs.items()
    }


def over_trainings(prompts: Sequence[Prompt], runs: Runs) -> dict[str, dict[str, Estimate | None]]:
    """{row: {"all" and each group: SpatialFusion's ratio to it}}, with trainings resampled as well as prompts.

    It holds the rows that were trained several times. It is empty if SpatialFusion was trained only once.
    """

    def of_trainings(name: str, kinds: Sequence[str]) -> list[list[list[float]]]:
        return [strata(prompts, [one.score for one in results], kinds) for results in runs[name]]

    several = [name for name, results in runs.items() if len(results) > 1]
    if FUSION not in several:
        return {}
    return {
        name: {
            section: ratio_over_trainings(of_trainings(FUSION, kinds), of_trainings(name, kinds), name in SCAFFOLD_ROWS)
            for section, kinds in HEADLINES.items()
        }
        for name in several
        if name != FUSION
    }


def over_trainings_markdown(table: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    """The table of `over_trainings`; an empty string without rows."""
    if not table:
        return ""
    lines = [_line(f"{FUSION} over (trainings resampled, too)", list(HEADLINES)), _rule(len(HEADLINES))]
    lines += [_line(name, [_ratio_cell(row[section]) for section in HEADLINES]) for name, row in table.items()]
    return "\n".join(lines)


def seeds_markdown(means: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The table of `seed_means`: every training seed of the rows that have several.

    In parentheses: the score of SpatialFusion's training of the same number, over this score. An empty string if no row
    has several seeds.
    """
    several = {name: seeds for name, seeds in means.items() if len(seeds) > 1}
    if not several:
        return ""
    lines = [_line("row, training", list(HEADLINES)), _rule(len(HEADLINES))]
    ours = several.get(FUSION, [])
    for name, seeds in several.items():
        compared = name != FUSION and len(ours) == len(seeds)
        for number, row in enumerate(seeds):
            reference = ours[number] if compared else None
            cells = [_with_ratio(row, reference, section) for section in HEADLINES]
            lines.append(_line(f"{name}, {number + 1}", cells))
    return "\n".join(lines)


def _with_ratio(row: Mapping[str, float], reference: Mapping[str, float] | None, section: str) -> str:
    if reference is None or row[section] == 0:
        return f"{row[section]:.1f}"
    return f"{row[section]:.1f} ({reference[section] / row[section]:.2f}x)"


def markdown(prompts: Sequence[Prompt], results: Results) -> str:
    """The table of scores, and the differences to SpatialFusion if that row was run."""
    rows = {name: summarise(prompts, row) for name, row in results.items()}
    text = _rows_markdown(rows)
    if FUSION in results and len(results) > 1:
        text += "\n\n" + _against_markdown(against(prompts, results, FUSION))
    return text


def _cell(value: Estimate | None) -> str:
    return "-" if value is None else str(value)


def _ratio_cell(value: Estimate | None) -> str:
    return "-" if value is None else value.text(2)


def _rows_markdown(rows: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    columns = list(next(iter(rows.values())))
    head = [*HEADLINES, *SHARES, ALL_FOUND, WHERE_FOUND]
    lines = [_line("row", head), _rule(len(head))]
    lines += [_line(name, [_cell(row[column]) for column in head]) for name, row in rows.items()]
    rest = [column for column in columns if column not in head]
    lines += ["", _line("row", [column.replace("_", " ") for column in rest]), _rule(len(rest))]
    lines += [_line(name, [f"{row[column].mean:.1f}" for column in rest]) for name, row in rows.items()]
    return "\n".join(lines)


def _against_markdown(table: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    head = [f"{section} {what}" for section in HEADLINES for what in ("minus", "ratio")]
    lines = [_line(f"{FUSION} against", head), _rule(len(head))]
    for name, sections in table.items():
        cells = []
        for section in HEADLINES:
            cells += [str(sections[section]["difference"]), _ratio_cell(sections[section]["ratio"])]
        lines.append(_line(name, cells))
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * (columns + 1)


def as_json(prompts: Sequence[Prompt], results: Results) -> dict[str, Any]:
    """The same table; estimates are dataclasses."""
    compared = FUSION in results and len(results) > 1
    return {
        "rows": {name: summarise(prompts, row) for name, row in results.items()},
        f"{FUSION} against": against(prompts, results, FUSION) if compared else {},
    }


def by_prompt(prompts: Sequence[Prompt], results: Results) -> list[dict[str, Any]]:
    """What every prompt scored in each row; results are dataclasses."""
    return [
        {
            "number": prompt.number,
            "sub_domain": prompt.sub_domain,
            "template": prompt.template,
            "text": prompt.text,
            "results": {name: row[index] for name, row in results.items()},
        }
        for index, prompt in enumerate(prompts)
    ]
