"""Rows that a run has finished, kept in its output folder: the same command again goes on with the others.

A row is used again only with the very settings that it was made with: code, seed, reader, prompts, precision, steps,
and the weights of its own system. Code of a changed working tree is never the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...files.atomic import written_whole
from ...training.revision import names_the_code
from .rows import PromptResult


class KeptRows:
    """`settings`: what is common to all rows, plain values, the "commit" among them. Files are
    <folder>/<row>[-<weights>].json."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    def result(
        self, row: str, weights_sha256: str | None, measure: Callable[[], list[PromptResult]]
    ) -> list[PromptResult]:
        """The kept results of a row, or measured and kept now. `weights_sha256`: None for rows of renders."""
        parts = [row] if weights_sha256 is None else [row, weights_sha256]
        path = self.folder / (re.sub(r"\W+", "-", " ".join(parts)) + ".json")
        names = [field.name for field in fields(PromptResult)]
        made_with = {"row": row, "weights_sha256": weights_sha256, **self.settings}
        if path.is_file() and names_the_code(self.settings["commit"]):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["made_with"] == made_with:
                return [PromptResult(*values) for values in zip(*(kept[name] for name in names))]
        results = measure()
        columns = {name: [getattr(result, name) for result in results] for name in names}
        with written_whole(path) as partial:
            partial.write_text(json.dumps({"made_with": made_with, **columns}), encoding="utf-8")
        return results
