"""Many comparisons at once: Holm's correction, and the textbook procedures for independent samples as a check on paired comparisons."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bakeoff.stats.intervals import LEVEL
from bakeoff.stats.scores import Array, Goal, goal_sign

#: Each p of Dunnett's and Tukey's is an integral: with more arms than this they would take longer than the rest of the report.
MAX_ARMS = 12


@dataclass(frozen=True)
class SimultaneousComparison:
    """One comparison of a family whose intervals all hold at once with 95 %.

    `difference` is that of the means of `arm` and `against` in units of the score, positive where `arm` is better; `low` and `high` are
    the ends of its interval. `procedure` is `tukey` or `dunnett`.
    """

    block: str
    procedure: str
    arm: str
    against: str
    difference: float
    low: float
    high: float
    p: float


def holm(ps: Array) -> Array:
    """Holm's step-down correction (Holm 1979).

    Args:
        ps: p values `(tests,)`; NaN where one is unknown.

    Returns:
        Corrected p values `(tests,)`; unknown ones stay NaN and are not counted.
    """
    from statsmodels.stats.multitest import multipletests

    known, corrected = ~np.isnan(ps), ps.copy()
    if known.sum() > 1:
        # multipletests begins with a full garbage collection, which takes half a second in a report's memory for each family.
        gc.freeze()
        try:
            corrected[known] = multipletests(ps[known], method="holm")[1]
        finally:
            gc.unfreeze()
    return corrected


def dunnett_vs_baseline(
    block: str, scores_by_arm: Mapping[str, Mapping[int, float]], baseline: str, *, goal: Goal
) -> tuple[SimultaneousComparison, ...]:
    """Compare every arm with the baseline by Dunnett's test (1955), which does not use that seeds are shared.

    Args:
        block: the name of the family.
        scores_by_arm: arm -> seed -> score; arms with fewer than two scores are left out.
        baseline: the arm to compare with.
        goal: whether larger or smaller scores are better.

    Returns:
        One comparison per arm; none without a baseline, without any spread, or with more than `MAX_ARMS` arms.
    """
    samples = _samples(scores_by_arm, list(scores_by_arm), goal)
    arms = [arm for arm in samples if arm != baseline]
    if baseline not in samples or not arms or len(samples) > MAX_ARMS or _no_spread(samples):
        return ()
    test = stats.dunnett(*(samples[arm] for arm in arms), control=samples[baseline], rng=np.random.default_rng(0))
    interval = test.confidence_interval(LEVEL)
    differences = [samples[arm].mean() - samples[baseline].mean() for arm in arms]
    columns = (map(float, column) for column in (differences, interval.low, interval.high, test.pvalue))
    return tuple(SimultaneousComparison(block, "dunnett", arm, baseline, *numbers) for arm, *numbers in zip(arms, *columns, strict=True))


def tukey_all_pairs(
    block: str, scores_by_arm: Mapping[str, Mapping[int, float]], arms: Sequence[str], *, goal: Goal
) -> tuple[SimultaneousComparison, ...]:
    """Compare every pair by Tukey's honestly significant difference (1949; Kramer 1956 for unequal n).

    Args:
        block: the name of the family.
        scores_by_arm: arm -> seed -> score; arms with fewer than two scores are left out.
        arms: the arms to compare.
        goal: whether larger or smaller scores are better.

    Returns:
        One comparison per pair, the better arm first; none without any spread, or with more than `MAX_ARMS` arms.
    """
    samples = _samples(scores_by_arm, arms, goal)
    if len(samples) < 2 or len(samples) > MAX_ARMS or _no_spread(samples):
        return ()
    names = list(samples)
    test = stats.tukey_hsd(*samples.values())
    interval = test.confidence_interval(LEVEL)
    comparisons: list[SimultaneousComparison] = []
    for i, j in itertools.combinations(range(len(names)), 2):
        a, b = (i, j) if test.statistic[i, j] >= 0 else (j, i)
        numbers = (float(matrix[a, b]) for matrix in (test.statistic, interval.low, interval.high, test.pvalue))
        comparisons.append(SimultaneousComparison(block, "tukey", names[a], names[b], *numbers))
    return tuple(comparisons)


def _samples(scores_by_arm: Mapping[str, Mapping[int, float]], arms: Sequence[str], goal: Goal) -> dict[str, Array]:
    """The scores of each arm that has two or more, signed so that larger is better."""
    return {arm: goal_sign(goal) * np.array(list(scores_by_arm[arm].values())) for arm in arms if len(scores_by_arm.get(arm, {})) > 1}


def _no_spread(samples: Mapping[str, Array]) -> bool:
    return all(float(np.ptp(sample)) == 0 for sample in samples.values())
