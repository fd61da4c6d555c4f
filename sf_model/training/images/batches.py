"""Batches from the store: step n of a run is a function of (seed, n) alone, whatever the number of processes.

A step's samples have one bucket, and all are edits or none is, so that they can be put together; the step's order of
samples, and the noise of each, come from the seed, so that processes which share a step draw what one would.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from ..bases.prompts import PromptTokens
from ..world_data import Batch, loader
from .store import Row, Store

SEED_RANGE = 1 << 62


@dataclass(frozen=True)
class Place:
    """Where a sample lies."""

    shard: Path
    index: int
    row: Row


def split_rows(store: Store, validation: int) -> tuple[list[Place], list[Place]]:
    """(training, validation) samples; the latter are the same ones whatever else the folder holds."""
    places = [
        Place(shard, index, row) for shard in store.shards() for index, row in enumerate(store.contents(shard)[0])
    ]
    places.sort(key=lambda place: sha256(place.row.key.encode()).digest())
    if len(places) <= validation:
        raise ValueError(
            f"{store.folder} has {len(places)} usable samples, no more than data.validation_samples ({validation}); "
            "its problems.jsonl says what was wrong with the others"
        )
    return places[validation:], places[:validation]


class StoreBatches(Dataset):
    """Item n holds the micro-batches of step n for one process: rank `rank` of `world`.

    A micro-batch: depth_m (B, H, W), fov_y_deg (B,), noise_seed (B,) int64, and what the store has of: rgb, source
    (B, 3, H, W) uint8, latent, source_latent, prompts (ids and mask, or the cached hidden states and keys/values).
    """

    def __init__(
        self,
        places: list[Place],
        tokens: PromptTokens,
        batch_size: int,
        micro_batch: int,
        seed: int,
        depth_downscale: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % (micro_batch * world):
            raise ValueError(
                f"batch_size {batch_size} is no multiple of {world} processes x micro_batch {micro_batch}; change one"
            )
        self.tokens, self.batch_size, self.micro_batch, self.seed = tokens, batch_size, micro_batch, seed
        self.depth_downscale, self.rank, self.world = depth_downscale, rank, world
        self._groups: dict[tuple[tuple[int, int], bool], list[Place]] = defaultdict(list)
        for place in places:
            self._groups[place.row.size, place.row.is_edit].append(place)
        self.steps_per_epoch = sum(-(-len(group) // batch_size) for group in self._groups.values())
        self._epoch = -1
        self._order: list[list[Place]] = []

    @property
    def samples_per_step(self) -> int:
        """On all processes together."""
        return self.batch_size

    def steps(self, first: int, last: int, rank: int, world: int, workers: int) -> Iterator[list[Batch]]:
        """The micro-batches of steps `first` to `last` - 1."""
        assert (rank, world) == (self.rank, self.world)
        yield from loader(self, range(first, last), workers)

    def places(self, step: int) -> list[Place]:
        """The samples of a step, of all processes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return self._order[index]

    def _shuffled(self, epoch: int) -> list[list[Place]]:
        """Every sample once; the last step of a group is filled up from the group's beginning."""
        rng = random.Random(f"{self.seed}-{epoch}")
        steps = []
        for key in sorted(self._groups):
            group = self._groups[key].copy()
            rng.shuffle(group)
            for start in range(0, len(group), self.batch_size):
                chosen = group[start : start + self.batch_size]
                while len(chosen) < self.batch_size:
                    chosen += group[: self.batch_size - len(chosen)]
                steps.append(chosen)
        rng.shuffle(steps)
        return steps

    def __getitem__(self, step: int) -> list[Batch]:
        places = self.places(step)
        seeds = [random.Random(f"{self.seed}-{step}-{index}").randrange(SEED_RANGE) for index in range(len(places))]
        share = self.batch_size // self.world
        own = range(self.rank * share, (self.rank + 1) * share)
        return [
            self.collate([places[i] for i in micro], [seeds[i] for i in micro])
            for micro in (own[start : start + self.micro_batch] for start in range(0, share, self.micro_batch))
        ]

    def collate(self, places: list[Place], seeds: list[int]) -> Batch:
        """One micro-batch of these samples."""
        samples = [_read(place) for place in places]
        batch: Batch = {
            "depth_m": torch.stack([_enlarged(sample["depth_m"], self.depth_downscale) for sample in samples]),
            "fov_y_deg": torch.tensor([place.row.fov_y_deg for place in places]),
            "noise_seed": torch.tensor(seeds),
        }
        for name in ("rgb", "source"):
            if name in samples[0]:
                batch[name] = torch.stack([sample[name] for sample in samples])
        for name in ("latent", "source_latent"):
            if name in samples[0]:
                batch[name] = torch.stack([sample[name].float() for sample in samples])
        if "keys_values" in samples[0]:
            batch |= _cached_prompts(samples)
        else:
            captions, is_edit = [place.row.caption for place in places], places[0].row.is_edit
            batch["input_ids"], batch["prompt_mask"] = self.tokens.batch(captions, is_edit)
            batch["empty_ids"], batch["empty_mask"] = self.tokens.batch([""] * len(captions), is_edit)
        return batch


def _read(place: Place) -> dict[str, torch.Tensor]:
    prefix = f"{place.index}."
    with safetensors.safe_open(place.shard, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _enlarged(depth_m: torch.Tensor, factor: int) -> torch.Tensor:
    return depth_m.float().repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def _cached_prompts(samples: list[dict[str, torch.Tensor]]) -> Batch:
    """Padded on the right to the longest."""
    batch = {}
    for name, mask in (("hidden", "hidden_mask"), ("empty_hidden", "empty_mask")):
        if name in samples[0]:
            length = max(len(sample[name]) for sample in samples)
            batch[name] = torch.stack([F.pad(s[name], (0, 0, 0, length - len(s[name]))) for s in samples])
            batch[mask] = torch.stack([F.pad(s[mask], (0, length - len(s[mask]))) for s in samples])
    length = max(len(sample["prompt_mask"]) for sample in samples)
    missing = [length - len(sample["prompt_mask"]) for sample in samples]
    batch["keys_values"] = torch.stack([F.pad(s["keys_values"], (0, 0, 0, m)) for s, m in zip(samples, missing)])
    batch["prompt_mask"] = torch.stack([F.pad(s["prompt_mask"], (0, m)) for s, m in zip(samples, missing)])
    return batch
