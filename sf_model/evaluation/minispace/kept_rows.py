"""Keeps finished rows in the output folder, so that the same command continues with the others.

A row is reused only with exactly the same settings: code, seed, reader, prompts, precision, steps, and the weights of
its own system. Rows made with uncommitted code are never reused.
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
    """The files are <folder>/<row>[-<weights>].json. settings: plain values common to all rows, with the "commit"."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    def result(
        self, row: str, weights_sha256: str | None, measure: Callable[[], list[PromptResult]]
    ) -> list[PromptResult]:
        """The kept results of a row, or else measure and keep them. weights_sha256: None for rows of renders."""
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
