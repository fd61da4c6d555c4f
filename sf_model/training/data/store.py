"""The prepared samples on disk: shards of safetensors, each written completely or not at all.

Shard n holds the usable ones among the samples from n * samples_per_shard on. Its metadata lists them, the unusable
ones with the reason, and a digest of the sources. A folder with `complete.json` is complete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ...files.atomic import written_whole

SETTINGS_FILE = "settings.json"
COMPLETE_FILE = "complete.json"
PROBLEMS_FILE = "problems.jsonl"


@dataclass(frozen=True)
class Row:
    """A prepared sample without its tensors. `size` is its bucket (height, width)."""

    key: str
    size: tuple[int, int]
    caption: str
    is_edit: bool
    fov_y_deg: float


@dataclass(frozen=True)
class Problem:
    """A sample that was left out. Problems are counted by `kind`; `message` gives the reason."""

    key: str
    kind: str
    message: str


@dataclass(frozen=True)
class Place:
    """Where a sample is stored."""

    shard: Path
    index: int
    row: Row


class Store:
    """Reads and writes the shards of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Claim the folder for these settings. ValueError if it was begun with others."""
        if (self.folder / SETTINGS_FILE).exists():
            self.check(settings)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / SETTINGS_FILE, json.dumps(dict(settings), indent=1))

    def check(self, settings: Mapping[str, Any]) -> None:
        """ValueError, with the differences and the remedy, if the folder was prepared with other settings."""
        asked = json.loads(json.dumps(dict(settings)))
        before = json.loads((self.folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        differing = [
            f"{name}: {before.get(name)!r} there, {asked.get(name)!r} now"
            for name in sorted(before.keys() | asked.keys())
            if before.get(name) != asked.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} was prepared with other settings ({'; '.join(differing)}); name another data.prepared, "
                "give the same again, or delete that folder"
            )

    def drop_stale(self, digest: Callable[[int], str]) -> int:
        """Delete the shards whose sources have changed. Returns their number.

        digest: gives the digest of shard n's sources as they are now.
        """
        stale = [path for path in self.shards() if self._metadata(path).get("sources") != digest(_number(path))]
        if stale:
            (self.folder / COMPLETE_FILE).unlink(missing_ok=True)
        for path in stale:
            path.unlink()
        return len(stale)

    def shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.safetensors"

    def write_shard(
        self, number: int, rows: list[Row], problems: list[Problem], tensors: Mapping[str, torch.Tensor], sources: str
    ) -> None:
        """Write a shard. The store is incomplete until `finish`.

        tensors: named `<index in rows>.<name>`. sources: the digest of the sources.
        """
        (self.folder / COMPLETE_FILE).unlink(missing_ok=True)
        metadata = {
            "sources": sources,
            "rows": json.dumps([asdict(row) for row in rows]),
            "problems": json.dumps([asdict(problem) for problem in problems]),
        }
        stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with written_whole(self.shard_path(number)) as partial:
            # A shard may hold only problems, but safetensors cannot write a file without tensors.
            safetensors.torch.save_file(stored or {"nothing": torch.zeros(1)}, partial, metadata)

    def shards(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.safetensors"))

    def contents(self, shard: Path) -> tuple[list[Row], list[Problem]]:
        metadata = self._metadata(shard)
        return rows_of(metadata), [Problem(**problem) for problem in json.loads(metadata["problems"])]

    def _metadata(self, shard: Path) -> dict[str, str]:
        with safetensors.safe_open(shard, framework="pt") as file:
            return file.metadata() or {}

    def usable(self) -> tuple[list[Place], list[Problem]]:
        """All problems, and all samples, but only the first of each key.

        dog.jpg and dog.png share dog.npz, which holds the depth of only one of them.
        """
        places: dict[str, Place] = {}
        problems: list[Problem] = []
        for shard in self.shards():
            rows, found = self.contents(shard)
            problems += found
            for index, row in enumerate(rows):
                if row.key in places:
                    problems.append(
                        Problem(row.key, "same_name", "another sample has this name, and so its depth file; rename one")
                    )
                else:
                    places[row.key] = Place(shard, index, row)
        return list(places.values()), problems

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.shards())

    def finish(self, left_out_for_size: int) -> dict[str, Any]:
        """Write the list of problems and the counts. Returns the counts."""
        places, problems = self.usable()
        counts = {
            "usable": len(places),
            "edits": sum(place.row.is_edit for place in places),
            "left_out_for_size": left_out_for_size,
            "problems": dict(Counter(problem.kind for problem in problems)),
            "sources": self._sources(),
        }
        write_text(self.folder / PROBLEMS_FILE, "".join(json.dumps(asdict(problem)) + "\n" for problem in problems))
        write_text(self.folder / COMPLETE_FILE, json.dumps(counts, indent=1))
        return counts

    def _sources(self) -> str:
        """One digest of the sources of all shards."""
        return sha256("".join(self._metadata(path)["sources"] for path in self.shards()).encode()).hexdigest()

    def counts(self) -> dict[str, Any]:
        """The counts of `finish`. ValueError, with the remedy, if the store is not complete."""
        self.require_complete()
        return json.loads((self.folder / COMPLETE_FILE).read_text(encoding="utf-8"))

    def require_complete(self) -> None:
        """ValueError, with the remedy, if the store is not complete."""
        if not (self.folder / COMPLETE_FILE).exists():
            raise ValueError(
                f"{self.folder} is not prepared to the end; run `python -m sf_model.training cache --config ...` first"
            )


def rows_of(metadata: Mapping[str, str]) -> list[Row]:
    """The rows in a shard's metadata."""
    return [Row(**{**row, "size": tuple(row["size"])}) for row in json.loads(metadata["rows"])]


def _number(shard: Path) -> int:
    return int(shard.stem.rpartition("-")[2])


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
