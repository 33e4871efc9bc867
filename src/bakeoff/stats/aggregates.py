"""All runs of an arm as one number that outliers do not move, and as the share of runs that get anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from bakeoff.stats.alpha_spending import ALPHA
from bakeoff.stats.paired import Goal, Scores, clopper_pearson

Array = npt.NDArray[np.float64]
N_RESAMPLES = 2000
#: Scores at which a profile is told: more cannot be seen.
N_LEVELS = 101
#: (seeds, blocks) -> how often the 95 % bootstrap interval of the IQM held the truth in 4000 simulated sweeps with normal scores and
#: block means three standard deviations apart (benchmarks/iqm_coverage.py).
COVERAGE: dict[tuple[int, int], float] = {
    (3, 1): 0.76, (5, 1): 0.90, (10, 1): 0.93, (20, 1): 0.95, (50, 1): 0.95,
    (3, 2): 0.85, (5, 2): 0.90, (10, 2): 0.92, (20, 2): 0.93, (50, 2): 0.94,
    (3, 4): 0.80, (5, 4): 0.88, (10, 4): 0.92, (20, 4): 0.94, (50, 4): 0.95,
    (3, 8): 0.86, (5, 8): 0.89, (10, 8): 0.94, (20, 8): 0.94, (50, 8): 0.95,
}  # fmt: skip


@dataclass(frozen=True)
class InterquartileMean:
    """An arm's interquartile mean over all its runs in all blocks, with its bootstrap interval, and how often such intervals hold."""

    arm: str
    n: int
    iqm: float
    low: float | None
    high: float | None
    coverage: float | None


@dataclass(frozen=True)
class PerformanceProfile:
    """The share of an arm's runs that score at least as well as each of `levels`, every block counting alike; `low`, `high` at 95 %."""

    arm: str
    n: int
    levels: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def interquartile_mean(*strata: Array, axis: int = -1) -> Any:
    """The mean of the middle half of all values of all strata together."""
    return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


def interquartile_means(scores: Scores, arms: Sequence[str]) -> tuple[InterquartileMean, ...]:
    """The interquartile mean of every arm that has scores in every block, with a percentile interval from a bootstrap that is
    stratified over the blocks (Agarwal et al. 2021); no interval with fewer than three seeds in a block."""
    found: list[InterquartileMean] = []
    for arm in arms:
        strata = [np.array(list(block.get(arm, {}).values())) for block in scores.values()]
        if not strata or not all(len(one) for one in strata):
            continue
        n, least = sum(map(len, strata)), min(map(len, strata))
        low, high = bootstrap_interval(strata) if least >= 3 else (None, None)
        found.append(
            InterquartileMean(
                arm, n, float(interquartile_mean(*strata)), low, high, nearest_coverage(least, len(strata)) if least >= 3 else None
            )
        )
    return tuple(found)


def bootstrap_interval(strata: Sequence[Array], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the interquartile mean; the same data give the same interval."""
    if len({float(value) for one in strata for value in one}) == 1:
        return float(strata[0][0]), float(strata[0][0])
    told = stats.bootstrap(
        tuple(strata), interquartile_mean, paired=False, vectorized=True, n_resamples=N_RESAMPLES, confidence_level=1 - ALPHA,
        method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(told.confidence_interval.low), float(told.confidence_interval.high)


def nearest_coverage(seeds: int, blocks: int) -> float:
    """The measured coverage at the nearest simulated size, by the ratio of the sizes."""
    return COVERAGE[min(COVERAGE, key=lambda size: abs(np.log(size[0] / seeds)) + abs(np.log(size[1] / blocks)))]


def performance_profiles(scores: Scores, arms: Sequence[str], *, goal: Goal) -> tuple[PerformanceProfile, ...]:
    """A performance profile for every arm that has scores in every block (Dolan and More 2002; Agarwal et al. 2021).

    The band is Clopper-Pearson's at each level, with the runs of all blocks as the number of tries.
    """
    values = [score for block in scores.values() for arm in arms for score in block.get(arm, {}).values()]
    if not values:
        return ()
    levels = np.linspace(min(values), max(values), N_LEVELS)
    found: list[PerformanceProfile] = []
    for arm in arms:
        strata = [np.array(list(block.get(arm, {}).values())) for block in scores.values()]
        if not all(len(one) for one in strata):
            continue
        sign = 1.0 if goal == "maximize" else -1.0
        share = np.mean([(sign * one[:, None] >= sign * levels[None, :]).mean(axis=0) for one in strata], axis=0)
        n = sum(map(len, strata))
        low, high = clopper_pearson(share * n, n)
        found.append(PerformanceProfile(arm, n, *(tuple(map(float, column)) for column in (levels, share, low, high))))
    return tuple(found)
