"""The best of k tuning runs as a function of k."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bakeoff.stats.intervals import LEVEL
from bakeoff.stats.scores import Array, Goal

#: Beyond this many scores the tight bands of Learned-Miller and DeStefano take long; Kolmogorov and Smirnov's are as valid.
MAX_TIGHT = 64


class TuningCurve(NamedTuple):
    """The median, over draws of k scores, of the best of them.

    Attributes:
        low: lower end of the band at k = 1 to n, `(n,)`; infinite where the sample rules nothing out.
        median: the estimate, `(n,)`.
        high: upper end.
        bands: the kind of the band, as opda names it.
    """

    low: Array
    median: Array
    high: Array
    bands: str


def tuning_curve(scores: Array, *, goal: Goal, level: float = LEVEL) -> TuningCurve:
    """The median tuning curve with a band that holds for all k at once (Lourie, Cho and He 2024; their library opda).

    A quantile of the best of k commutes with every growing function, so the library works on the ranks 1 to n, whose bands depend on n
    alone; 0 and n + 1 stand for what lies beyond the sample.

    Args:
        scores: independent draws, `(n,)`; infinite for runs that count as worse than all others.
        goal: whether larger or smaller scores are better.
        level: the probability that the whole band holds.
    """
    ranks, bands = _rank_bands(len(scores), level, goal)
    low, median, high = np.concatenate([[-np.inf], np.sort(scores), [np.inf]])[ranks]
    return TuningCurve(low, median, high, bands)


@lru_cache(maxsize=256)
def _rank_bands(n: int, level: float, goal: Goal) -> tuple[npt.NDArray[np.int64], str]:
    """The ranks of the lower end, the median and the upper end at k = 1 to n, `(3, n)`, and the kind of the band."""
    from opda.nonparametric import EmpiricalDistribution

    kind = "ld_highest_density" if n <= MAX_TIGHT // 4 else "ld_equal_tailed" if n <= MAX_TIGHT else "ks"
    distributions = EmpiricalDistribution.confidence_bands(
        np.arange(1.0, n + 1), confidence=level, a=0.0, b=n + 1.0, generator=np.random.default_rng(0), method=kind, n_jobs=1
    )
    minimize = goal == "minimize"
    lower, median, upper = (band.quantile_tuning_curve(np.arange(1, n + 1), minimize=minimize) for band in distributions)
    ranks = [np.minimum(lower, upper), median, np.maximum(lower, upper)]
    return np.rint(ranks).astype(np.int64), kind


def leading_budgets(first: TuningCurve, second: TuningCurve, *, goal: Goal) -> tuple[int, int] | None:
    """The first stretch of budgets k, both ends included, at which the band of `first` is wholly better than that of `second`."""
    n = min(len(first.median), len(second.median))
    ahead = first.low[:n] > second.high[:n] if goal == "maximize" else first.high[:n] < second.low[:n]
    if not ahead.any():
        return None
    start = int(np.argmax(ahead))
    ends = np.flatnonzero(~ahead[start:])
    return start + 1, start + int(ends[0]) if len(ends) else n
