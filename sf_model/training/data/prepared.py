"""Batches from the store. Step n depends only on (seed, n), not on the number of processes.

The samples of a step have one bucket, and all or none are edits, so that they can be stacked. The order of samples and
their noise come from the seed, so that several processes draw the same as one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import safetensors
import torch
import torch.nn.functional as F

from ..bases.prompts import PromptTokens
from ..batch import Batch
from ..sheets import in_sheet_batches
from .numbered import NumberedBatches, Share, noise_seeds, sheet_times
from .store import Place, Row, Store, rows_of

# Common to the samples of a step: height and width of the bucket, and whether they are edits.
Kind = tuple[tuple[int, int], bool]
# A sample's shard and its number in the shard.
Address = tuple[Path, int]


def split_rows(store: Store, validation: int) -> tuple[list[Place], list[Place]]:
    """(training, validation) samples, chosen by their names. Other samples in the folder hardly change the choice."""
    places = sorted(store.usable()[0], key=lambda place: sha256(place.row.key.encode()).digest())
    if len(places) <= validation:
        raise ValueError(
            f"{store.folder} has {len(places)} usable samples, no more than data.validation_samples ({validation}); "
            "its problems.jsonl says what was wrong with the others"
        )
    return places[validation:], places[:validation]


@dataclass(frozen=True)
class _Group:
    """The samples of one kind. addresses: (n, 2) int32, index into the list of shards and number in the shard."""

    kind: Kind
    addresses: np.ndarray

    def steps_before(self, epoch: int, batch_size: int) -> int:
        """The number of this group's full batches after `epoch` epochs. The rest of an epoch goes into the next one."""
        return epoch * len(self.addresses) // batch_size


class StoreBatches(NumberedBatches):
    """Micro-batches of prepared samples (`training.batch`), with the tensors that the store has.

    Every sample is drawn equally often, however few samples share its bucket. A group repeats shuffled passes over its
    samples, and gives a step whenever a batch is full. A group smaller than a batch repeats samples within a step, but
    has fewer steps. Worker processes copy this object, so it keeps only 8 bytes a sample.
    """

    def __init__(
        self,
        places: list[Place],
        held_out: list[Place],
        tokens: PromptTokens,
        share: Share,
        seed: int,
        depth_downscale: int,
    ) -> None:
        self.tokens, self.share, self.seed, self.depth_downscale = tokens, share, seed, depth_downscale
        self._held_out = held_out
        self._shards = sorted({place.shard for place in places})
        number = {shard: index for index, shard in enumerate(self._shards)}
        found: dict[Kind, list[tuple[int, int]]] = defaultdict(list)
        for place in places:
            found[place.row.size, place.row.is_edit].append((number[place.shard], place.index))
        self._groups = [_Group(kind, np.array(found[kind], dtype=np.int32)) for kind in sorted(found)]
        self._samples = len(places)
        self._epoch = -1
        self._order: list[tuple[_Group, int]] = []

    @property
    def batch_size(self) -> int:
        return self.share.batch_size

    def places(self, step: int) -> list[Address]:
        """The samples of a step for all processes."""
        epoch = step * self.batch_size // self._samples
        while self._steps_before(epoch + 1) <= step:
            epoch += 1
        if self._epoch != epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        group, index = self._order[step - self._steps_before(epoch)]
        return self._chosen(group, index)

    def _steps_before(self, epoch: int) -> int:
        return sum(group.steps_before(epoch, self.batch_size) for group in self._groups)

    def _shuffled(self, epoch: int) -> list[tuple[_Group, int]]:
        """The steps of an epoch, each as a group and the number of its batch."""
        steps = [
            (group, index)
            for group in self._groups
            for index in range(
                group.steps_before(epoch, self.batch_size), group.steps_before(epoch + 1, self.batch_size)
            )
        ]
        random.Random(f"{self.seed}-{epoch}").shuffle(steps)
        return steps

    def _chosen(self, group: _Group, index: int) -> list[Address]:
        """Batch `index` of the group's endless shuffled passes."""
        count, orders, chosen = len(group.addresses), {}, []
        for position in range(index * self.batch_size, (index + 1) * self.batch_size):
            number, place = divmod(position, count)
            if number not in orders:
                seed = int.from_bytes(sha256(f"{self.seed}-{group.kind}-{number}".encode()).digest()[:8], "big")
                orders[number] = np.random.default_rng(seed).permutation(count)
            shard, row = group.addresses[orders[number][place]].tolist()
            chosen.append((self._shards[shard], row))
        return chosen

    def __getitem__(self, step: int) -> list[Batch]:
        places = self.places(step)
        seeds = noise_seeds(self.seed, step, len(places))
        parts = self.share.micro_batches(list(zip(places, seeds)))
        return [self.collate([place for place, _ in part], [seed for _, seed in part]) for part in parts]

    def validation(self) -> list[Batch]:
        """The held-out samples of the most common bucket and kind."""
        groups: dict[Kind, list[Address]] = defaultdict(list)
        for place in self._held_out:
            groups[place.row.size, place.row.is_edit].append((place.shard, place.index))
        largest = max(groups.values(), key=len)
        batches = []
        for part in in_sheet_batches(list(enumerate(largest)), self.share.micro_batch):
            numbers, places = zip(*part)
            batch = self.collate(list(places), list(numbers))
            batches.append({**batch, "sheet_time": sheet_times(numbers, len(largest))})
        return batches

    def collate(self, places: list[Address], seeds: list[int]) -> Batch:
        """One micro-batch of these samples."""
        rows, samples = zip(*(_read(*place) for place in places))
        batch: Batch = {
            "depth_m": torch.stack([_enlarged(sample["depth_m"], self.depth_downscale) for sample in samples]),
            "fov_y_deg": torch.tensor([row.fov_y_deg for row in rows]),
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
            captions, is_edit = [row.caption for row in rows], rows[0].is_edit
            batch["input_ids"], batch["prompt_mask"] = self.tokens.batch(captions, is_edit)
            batch["empty_ids"], batch["empty_mask"] = self.tokens.batch([""] * len(captions), is_edit)
        return batch


def _read(shard: Path, index: int) -> tuple[Row, dict[str, torch.Tensor]]:
    prefix = f"{index}."
    with safetensors.safe_open(shard, framework="pt") as file:
        row = rows_of(file.metadata())[index]
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        return row, {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _enlarged(depth_m: torch.Tensor, factor: int) -> torch.Tensor:
    return depth_m.float().repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def _cached_prompts(samples: Sequence[dict[str, torch.Tensor]]) -> Batch:
    """Stack cached prompts, padded on the right to the longest."""
    batch = {}
    for name, mask in (("hidden", "hidden_mask"), ("empty_hidden", "empty_mask")):
        if name in samples[0]:
            length = max(len(sample[name]) for sample in samples)
            batch[name] = torch.stack([F.pad(s[name], (0, 0, 0, length - len(s[name]))) for s in samples])
            batch[mask] = torch.stack([F.pad(s[mask], (0, length - len(s[mask]))) for s in samples])
    length = max(len(sample["prompt_mask"]) for sample in samples)
    missing = [length - len(sample["prompt_mask"]) for sample in samples]
    batch["keys_values"] = torch.stack([F.pad(s["keys_values"], (0, 0, 0, m)) for s, m in zip(samples, missing)])
    batch["next_position"] = torch.stack([sample["next_position"] for sample in samples])
    batch["prompt_mask"] = torch.stack([F.pad(s["prompt_mask"], (0, m)) for s, m in zip(samples, missing)])
    return batch
