"""Batches that run side by side are joined in order, and an error of one is the caller's."""

import threading
import time

import pytest
import torch

from sf_model.evaluation.workers import map_batches


def test_results_keep_the_items_order() -> None:
    """The first of four batches is the slowest, and the last one is short."""
    threads = set()

    def work(batch: list[int]) -> list[int]:
        threads.add(threading.get_ident())
        time.sleep(0.05 if batch[0] == 0 else 0.0)
        return [10 * item for item in batch]

    before = torch.get_num_threads()
    assert map_batches(work, list(range(7)), 2, "test", "item") == [10 * item for item in range(7)]
    assert threading.get_ident() not in threads
    assert torch.get_num_threads() == before


def test_an_error_reaches_the_caller() -> None:
    def work(batch: list[int]) -> list[int]:
        if 3 in batch:
            raise ValueError("the third is bad")
        return batch

    with pytest.raises(ValueError, match="the third is bad"):
        map_batches(work, list(range(6)), 2, "test", "item")
