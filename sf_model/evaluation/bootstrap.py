"""Bootstrap intervals of means over prompts, and over trainings and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self, decimals: int) -> str:
        return f"{self.mean:.{decimals}f} [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"

    def __str__(self) -> str:
        return self.text(1)


def mean_with_interval(strata: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """The mean of the strata's means. Each stratum (the prompts of a sub-domain) is resampled separately."""
    rng = np.random.default_rng(seed)
    resampled = np.mean([_resample(rng, len(scores), np.asarray(scores))[0] for scores in strata], axis=0)
    mean = np.mean([np.mean(scores) for scores in strata])
    return Estimate(float(mean), *_interval(resampled))


def ratio_with_interval(
    above: Sequence[Sequence[float]], below: Sequence[Sequence[float]], seed: int = 0
) -> Estimate | None:
    """The ratio of two such means over the same prompts, resampled together. None if `below` can be 0."""
    return ratio_over_trainings([above], [below], same_trainings=True, seed=seed)


def ratio_over_trainings(
    above: Sequence[Sequence[Sequence[float]]],
    below: Sequence[Sequence[Sequence[float]]],
    same_trainings: bool,
    seed: int = 0,
) -> Estimate | None:
    """The same ratio for two rows of several trainings, with values [training][stratum][prompt].

    The trainings are resampled too, together if both rows use the same ones. With only three trainings the interval is
    still too narrow. None as above.
    """
    rng = np.random.default_rng(seed)
    every = [*above, *below]
    # (RESAMPLES, trainings of both): means over strata of the same resampled prompts.
    means = np.mean(
        [
            np.stack(_resample(rng, len(rows[0]), *(np.asarray(row) for row in rows)), axis=1)
            for rows in ([training[stratum] for training in every] for stratum in range(len(every[0])))
        ],
        axis=0,
    )
    parts = np.split(means, [len(above)], axis=1)
    drawn = [rng.integers(part.shape[1], size=part.shape) for part in parts]
    if same_trainings:
        drawn[1] = drawn[0]
    top, bottom = (np.take_along_axis(part, index, axis=1).mean(axis=1) for part, index in zip(parts, drawn))
    if bottom.min() <= 0:
        return None
    totals = [np.mean([np.mean(row) for training in system for row in training]) for system in (above, below)]
    return Estimate(float(totals[0] / totals[1]), *_interval(top / bottom))


def _resample(rng: np.random.Generator, count: int, *values: np.ndarray) -> list[np.ndarray]:
    """(RESAMPLES,) means of each array (count,). All arrays are resampled with the same indices."""
    index = rng.integers(count, size=(RESAMPLES, count))
    return [array[index].mean(axis=1) for array in values]


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(resampled, PERCENTILES)
    return float(low), float(high)
