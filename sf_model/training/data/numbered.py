"""What the loop needs of its data: step n depends only on (seed, n), so that a run resumes exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ..batch import Batch

SEED_RANGE = 1 << 62
Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """How the samples of a step are split into processes and micro-batches. ValueError if they do not divide evenly."""

    # Samples per step, of all processes together.
    batch_size: int
    micro_batch: int
    # Number of this process, and how many there are.
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.micro_batch * self.processes):
            raise ValueError(
                f"change batch_size or micro_batch: {self.batch_size} is no multiple of {self.processes} processes x "
                f"micro_batch {self.micro_batch}"
            )

    def micro_batches(self, items: Sequence[Item]) -> list[list[Item]]:
        """This process's part of a step's items."""
        own = self.batch_size // self.processes
        mine = items[self.rank * own : (self.rank + 1) * own]
        return [list(mine[start : start + self.micro_batch]) for start in range(0, own, self.micro_batch)]


class Batches(Protocol):
    """A source of data, as the loop sees it."""

    share: Share

    def steps(self, first: int, last: int, workers: int) -> Iterator[list[Batch]]:
        """For each step from `first` to `last` - 1: this process's micro-batches."""
        ...

    def validation(self) -> list[Batch]:
        """Held-out samples in the batches of a sheet, with `sheet_time` (B,)."""
        ...

    def on_device(self, batch: Batch, device: torch.device) -> Batch:
        """A batch on the device of the training, with all that is made only there."""
        ...


class NumberedBatches(Dataset):
    """Item n holds the micro-batches of step n."""

    def steps(self, first: int, last: int, workers: int) -> Iterator[list[Batch]]:
        """As in `Batches`. `workers` processes make them in advance; 0 makes them in this process."""
        yield from DataLoader(
            self,
            batch_size=None,
            sampler=_Indices(range(first, last)),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_one_thread,
            multiprocessing_context="spawn" if workers else None,
        )

    def on_device(self, batch: Batch, device: torch.device) -> Batch:
        """As in `Batches`."""
        return {name: value.to(device) for name, value in batch.items()}


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


class _Indices(torch.utils.data.Sampler):
    def __init__(self, indices: range) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def noise_seeds(seed: int, step: int, count: int) -> list[int]:
    """One seed for each sample of a step."""
    return [random.Random(f"{seed}-{step}-{index}").randrange(SEED_RANGE) for index in range(count)]


def sheet_times(numbers: Sequence[int], count: int) -> torch.Tensor:
    """(B,) times in [0, 1] for the flow loss of held-out samples. Those of all `count` samples are evenly spread."""
    return (torch.tensor(numbers) + 0.5) / count
