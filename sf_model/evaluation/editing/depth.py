"""The predicted depth of an edit, before any image: where the edit changes the scene, and where it does not.

Rows: the source's own depth, which is right wherever nothing changes, and has no values in the sky; the mean of all
scenes that fit the source and the instruction; and one sampled scene, as the nodes give it by default.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ... import world
from ...depth.metrics import DELTA1_RATIO
from ..bootstrap import Estimate
from ..depth import Shown, accuracy, estimates, shown_prediction
from ..minispace.rows import FUSION, MEAN
from ..obedience import si_rmse
from ..report import estimates_markdown
from ..sampling import SystemSampler
from ..workers import map_batches
from .prompts import EditPrompt

SOURCE = "source's own depth"
BATCH = 20
# A pixel's depth has changed if it differs by more than this share.
CHANGED = 1e-3
LEFT_ALONE, CHANGES = "left alone", "changed"


def changed_pixels(source_m: torch.Tensor, target_m: torch.Tensor) -> torch.Tensor:
    """(B, H, W) bool: the pixels whose depth the edit changes. Both inputs (B, H, W) metres, inf for sky."""
    return ~torch.isclose(source_m, target_m, rtol=CHANGED, atol=0.0)


def edit_depth(
    systems: Sequence[SystemSampler], prompts: Sequence[EditPrompt], seed: int, size: int
) -> dict[str, dict[str, Estimate | None]]:
    """{row: {measure: mean over the edits and over `systems`, which differ in their training seed}}.

    SI-RMSE ignores one factor for the whole picture, which can hardly be known from a picture alone.
    """

    def measured(batch: Sequence[EditPrompt]) -> list[dict[str, dict[str, float]]]:
        before, after = (
            world.render([getattr(prompt.pair, scene) for prompt in batch], size, size)
            for scene in ("source", "target")
        )
        changed = changed_pixels(before.depth_m, after.depth_m)
        texts, numbers = [prompt.pair.instruction for prompt in batch], [prompt.number for prompt in batch]
        drawn = {SOURCE: [Shown(None, before.depth_m)], MEAN: [], FUSION: []}
        for system in systems:
            for row, predict in zip((MEAN, FUSION), system.predictors(seed).values()):
                drawn[row].append(shown_prediction(predict(texts, numbers, before.rgb)))
        results: list[dict[str, dict[str, float]]] = [{} for _ in batch]
        for row, maps in drawn.items():
            values = [_parted(shown, after.depth_m, changed) for shown in maps]
            for place, result in enumerate(results if values else []):
                result[row] = {
                    name: torch.stack([one[name][place] for one in values]).mean().item() for name in values[0]
                }
        return results

    results = map_batches(measured, prompts, BATCH, "depth of the edits", "edit")

    def strata(row: str) -> list[list[dict[str, float]]]:
        kinds = dict.fromkeys(prompt.pair.kind for prompt in prompts)
        return [[one[row] for prompt, one in zip(prompts, results) if prompt.pair.kind == kind] for kind in kinds]

    return {row: estimates(strata(row)) for row in results[0]}


def _parted(shown: Shown, true_m: torch.Tensor, changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B,) each; nan if an edit has no such pixel."""
    parts = {}
    for part, where in ((LEFT_ALONE, ~changed), (CHANGES, changed)):
        parts[f"AbsRel, {part}"] = accuracy(shown, true_m, where)["AbsRel"]
        parts[f"right, {part}"] = right(shown.shown_m, true_m, where)
    alone_m = torch.where(changed, torch.full_like(true_m, torch.inf), true_m)
    nan = torch.full((len(true_m),), torch.nan)
    return {f"SI-RMSE, {LEFT_ALONE}": nan if shown.depth_m is None else si_rmse(shown.depth_m, alone_m), **parts}


def right(shown_m: torch.Tensor, true_m: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """(B,) share of the pixels `where` that are within a factor of 1.25, as in delta1, or sky in both. nan without any.

    An object removed in front of the sky is gone only where sky is predicted.
    """
    ratio = shown_m / true_m
    near = torch.isfinite(ratio) & (torch.maximum(ratio, 1 / ratio) < DELTA1_RATIO)
    hit = (near | (torch.isinf(shown_m) & torch.isinf(true_m))) & where
    return hit.sum(dim=(1, 2)) / where.sum(dim=(1, 2))


def markdown(table: dict[str, dict[str, Estimate | None]]) -> str:
    return estimates_markdown(("depth",), (((name,), row) for name, row in table.items()))
