"""The prepared samples on disk: shards of safetensors, each written whole or not at all.

Shard n holds what was usable of the source's samples n * samples_per_shard and following. Its metadata lists them, and
every one that was not, with the reason. A folder is complete when `complete.json` stands in it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

SETTINGS_FILE = "settings.json"
COMPLETE_FILE = "complete.json"
PROBLEMS_FILE = "problems.jsonl"


@dataclass(frozen=True)
class Row:
    """What is known of a prepared sample without reading its tensors; `size` is its bucket (height, width)."""

    key: str
    size: tuple[int, int]
    caption: str
    is_edit: bool
    fov_y_deg: float


@dataclass(frozen=True)
class Problem:
    """A sample that was left out: `kind` is counted, `message` tells."""

    key: str
    kind: str
    message: str


class Store:
    """Reads and writes the shards of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Claim the folder for these settings. ValueError where it was begun with others."""
        path = self.folder / SETTINGS_FILE
        asked = json.loads(json.dumps(dict(settings)))
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            differing = sorted(name for name in before.keys() | asked.keys() if before.get(name) != asked.get(name))
            if differing:
                raise ValueError(
                    f"{self.folder} was prepared with other settings ({', '.join(differing)}); name another "
                    "data.prepared, or delete that folder"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asked, indent=1))

    def shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.safetensors"

    def write_shard(
        self, number: int, rows: list[Row], problems: list[Problem], tensors: Mapping[str, torch.Tensor]
    ) -> None:
        """tensors: `<index in rows>.<name>`."""
        metadata = {
            "rows": json.dumps([asdict(row) for row in rows]),
            "problems": json.dumps([asdict(problem) for problem in problems]),
        }
        stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        partial = self.shard_path(number).with_suffix(f".partial{os.getpid()}")
        # A shard of problems alone has no tensors, which safetensors does not write.
        safetensors.torch.save_file(stored or {"nothing": torch.zeros(1)}, partial, metadata)
        partial.replace(self.shard_path(number))

    def shards(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.safetensors"))

    def contents(self, shard: Path) -> tuple[list[Row], list[Problem]]:
        with safetensors.safe_open(shard, framework="pt") as file:
            metadata = file.metadata()
        rows = [Row(**{**row, "size": tuple(row["size"])}) for row in json.loads(metadata["rows"])]
        return rows, [Problem(**problem) for problem in json.loads(metadata["problems"])]

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.shards())

    def finish(self, left_out_for_size: int) -> dict[str, Any]:
        """Write the list of problems and the counts, which are also returned."""
        problems, usable, edits = [], 0, 0
        for shard in self.shards():
            rows, found = self.contents(shard)
            problems += found
            usable += len(rows)
            edits += sum(row.is_edit for row in rows)
        counts = {
            "usable": usable,
            "edits": edits,
            "left_out_for_size": left_out_for_size,
            "problems": dict(Counter(problem.kind for problem in problems)),
        }
        write_text(self.folder / PROBLEMS_FILE, "".join(json.dumps(asdict(problem)) + "\n" for problem in problems))
        write_text(self.folder / COMPLETE_FILE, json.dumps(counts, indent=1))
        return counts

    def require_complete(self) -> None:
        """ValueError, with the remedy, where preparing has not ended."""
        if not (self.folder / COMPLETE_FILE).exists():
            raise ValueError(
                f"{self.folder} is not prepared to the end; run `python -m sf_model.training cache --config ...` first"
            )


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(f".partial{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
