"""Runs batches of a benchmark in parallel, one core each. The networks are too small to share a batch among cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_batches(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], batch_size: int, label: str, unit: str
) -> list[Result]:
    """Apply `work` to consecutive batches, with a progress bar. Results are in the order of the items."""
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    results: list[Result] = []
    with (
        tqdm(total=len(items), desc=label, unit=unit, mininterval=2) as progress,
        ThreadPoolExecutor(min(_cores(), len(batches)), initializer=torch.set_num_threads, initargs=(1,)) as threads,
    ):
        for batch, result in zip(batches, threads.map(work, batches)):
            results += result
            progress.update(len(batch))
    return results


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
