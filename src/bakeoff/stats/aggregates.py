"""Aggregates of all runs of an arm that outliers do not move: interquartile means and performance profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bakeoff.stats.intervals import LEVEL, clopper_pearson
from bakeoff.stats.scores import Array, Goal, Scores, goal_sign

N_RESAMPLES = 2000
#: Scores at which a performance profile is computed.
N_LEVELS = 101
#: (seeds, blocks) -> how often the 95 % bootstrap interval of the IQM held the truth in 4000 simulated sweeps with normal scores and
#: block means three standard deviations apart (benchmarks/iqm_coverage.py).
COVERAGE: dict[tuple[int, int], float] = {
    (seeds, blocks): coverage
    for blocks, coverages in {
        1: (0.76, 0.90, 0.93, 0.95, 0.95),
        2: (0.85, 0.90, 0.92, 0.93, 0.94),
        4: (0.80, 0.88, 0.92, 0.94, 0.95),
        8: (0.86, 0.89, 0.94, 0.94, 0.95),
    }.items()
    for seeds, coverage in zip((3, 5, 10, 20, 50), coverages, strict=True)
}


@dataclass(frozen=True)
class InterquartileMean:
    """The interquartile mean of an arm's `n` runs in all blocks.

    `low` and `high` are the ends of its 95 % bootstrap interval, and `coverage` is how often such intervals held the truth in
    simulations; all three are None with fewer than three seeds in a block.
    """

    arm: str
    n: int
    iqm: float
    low: float | None
    high: float | None
    coverage: float | None


@dataclass(frozen=True)
class PerformanceProfile:
    """The share of an arm's `n` runs that score at least as well as each of `levels`.

    All blocks weigh the same. `low` and `high` are the ends of 95 % intervals at each level.
    """

    arm: str
    n: int
    levels: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def interquartile_mean(*strata: Array, axis: int = -1) -> Any:
    """The mean of the middle half of all values of all strata together, along `axis`."""
    return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


def interquartile_means(scores: Scores, arms: Sequence[str]) -> tuple[InterquartileMean, ...]:
    """The interquartile mean of every arm that has scores in every block (Agarwal et al. 2021).

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms.

    Returns:
        One for each arm with scores in every block, with a percentile interval from a bootstrap that is stratified over the blocks.
    """
    means: list[InterquartileMean] = []
    for arm in arms:
        strata = _strata(scores, arm)
        if not strata:
            continue
        n, smallest, iqm = sum(map(len, strata)), min(map(len, strata)), float(interquartile_mean(*strata))
        if smallest < 3:
            means.append(InterquartileMean(arm, n, iqm, None, None, None))
        else:
            means.append(InterquartileMean(arm, n, iqm, *bootstrap_interval(strata), nearest_coverage(smallest, len(strata))))
    return tuple(means)


def _strata(scores: Scores, arm: str) -> list[Array]:
    """The arm's scores `(seeds,)` in each block; empty where it has none in some block."""
    strata = [np.array(list(block.get(arm, {}).values())) for block in scores.values()]
    return strata if all(len(stratum) for stratum in strata) else []


def bootstrap_interval(strata: Sequence[Array], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the interquartile mean.

    Args:
        strata: the values of each stratum, `(n,)` each; resampled within the strata.
        seed: of the resampling, so that the same data give the same interval.

    Returns:
        (low, high).
    """
    if len({float(value) for stratum in strata for value in stratum}) == 1:
        return float(strata[0][0]), float(strata[0][0])
    interval = stats.bootstrap(
        tuple(strata),
        interquartile_mean,
        paired=False,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def nearest_coverage(seeds: int, blocks: int) -> float:
    """The simulated coverage at the nearest size in `COVERAGE`, by the ratio of the sizes."""
    return COVERAGE[min(COVERAGE, key=lambda size: abs(np.log(size[0] / seeds)) + abs(np.log(size[1] / blocks)))]


def performance_profiles(scores: Scores, arms: Sequence[str], *, goal: Goal) -> tuple[PerformanceProfile, ...]:
    """A performance profile of every arm that has scores in every block (Dolan and More 2002; Agarwal et al. 2021).

    The band is the exact interval of a proportion at each level, with the runs of all blocks as the number of trials.

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms.
        goal: whether larger or smaller scores are better.

    Returns:
        One for each arm with scores in every block, all at the same levels.
    """
    values = [score for block in scores.values() for arm in arms for score in block.get(arm, {}).values()]
    if not values:
        return ()
    levels, sign = np.linspace(min(values), max(values), N_LEVELS), goal_sign(goal)
    profiles: list[PerformanceProfile] = []
    for arm in arms:
        strata = _strata(scores, arm)
        if not strata:
            continue
        share = np.mean([(sign * stratum[:, None] >= sign * levels[None, :]).mean(axis=0) for stratum in strata], axis=0)
        n = sum(map(len, strata))
        low, high = clopper_pearson(share * n, n)
        profiles.append(PerformanceProfile(arm, n, *(tuple(map(float, column)) for column in (levels, share, low, high))))
    return tuple(profiles)
