"""Sheets of held-out samples: pictures side by side, and the figures that go to the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from ..depth import metrics
from ..models.depth_prediction import DepthPrediction
from .batch import Batch

# Samples that are drawn as pictures. The metrics are over all held-out samples.
SHEET_ROWS = 8
SHEET_BATCH = 8
SHEET_DEPTH_SEED = 0
Item = TypeVar("Item")


@dataclass(frozen=True)
class Sheet:
    """A stage's pictures and metrics of one batch."""

    # Pictures (B, 3, H, W) in [0, 1], all of one size; or none.
    columns: list[torch.Tensor]
    # Means over the batch.
    metrics: dict[str, float]
    # Samples in the batch.
    count: int


def joined(sheets: list[Sheet]) -> Sheet:
    """One sheet of SHEET_ROWS rows, and the means over all samples."""
    columns = [torch.cat(parts)[:SHEET_ROWS] for parts in zip(*(sheet.columns for sheet in sheets if sheet.columns))]
    count = sum(sheet.count for sheet in sheets)
    metrics = {}
    for name in dict.fromkeys(name for sheet in sheets for name in sheet.metrics):
        # A sheet may be of other samples than the rest, and have metrics of its own.
        having = [sheet for sheet in sheets if name in sheet.metrics]
        metrics[name] = sum(sheet.metrics[name] * sheet.count for sheet in having) / sum(s.count for s in having)
    return Sheet(columns, metrics, count)


def in_sheet_batches(items: list[Item], micro_batch: int) -> list[list[Item]]:
    """Split into batches of `micro_batch` items, but at least 2 and at most SHEET_BATCH.

    The last batch may have one more item: a sample alone has no other sample's depth to be tested with.
    """
    size = min(SHEET_BATCH, max(2, micro_batch))
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = batches[-1] + last
    return batches


def depth_figures(prediction: DepthPrediction, batch: Batch, ending: str = "") -> dict[str, float]:
    """abs_rel and delta1 of a prediction, also on objects alone; `ending` is appended to their names."""
    depth_m, true_m = prediction.log_depth.exp(), batch["depth_m"]
    figures = {
        f"abs_rel{ending}": metrics.abs_rel(depth_m, true_m).mean().item(),
        f"delta1{ending}": metrics.delta1(depth_m, true_m).mean().item(),
    }
    if "is_object" in batch:
        # A surface that is taken for sky is wrong, too.
        seen_m = torch.where(prediction.validity_logit > 0, depth_m, torch.full_like(depth_m, torch.inf))
        objects_m = torch.where(batch["is_object"], true_m, torch.full_like(true_m, torch.inf))
        figures[f"object_delta1{ending}"] = metrics.delta1(seen_m, objects_m).mean().item()
    return figures
