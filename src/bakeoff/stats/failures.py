"""Runs that fail, as an outcome of their own: exact comparisons of how often each arm's runs learn nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.intervals import clopper_pearson
from bakeoff.stats.multiple_comparisons import holm
from bakeoff.stats.scores import Array


@dataclass(frozen=True)
class FailureRate:
    """How often the runs of one arm failed.

    Attributes:
        arm: the arm.
        failed: units (studies, or seeds with a single study) of which a run failed.
        n: units.
        low: lower end of the exact 95 % interval of the share.
        high: upper end.
    """

    arm: str
    failed: int
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class FailureDifference:
    """Two arms compared by how often they fail on the same units.

    Attributes:
        steadier: the arm that fails less often.
        other: the other arm.
        only_other: units on which only `other` failed.
        only_steadier: units on which only `steadier` failed.
        p: two-sided p of the exact paired test, over the analyses.
        p_holm: `p`, corrected by Holm's method over all pairs.
    """

    steadier: str
    other: str
    only_other: int
    only_steadier: int
    p: float
    p_holm: float


def failure_rates(failed: Mapping[str, Mapping[int, bool]], design: SequentialDesign, seed_order: Sequence[int]) -> list[FailureRate]:
    """The share of units with a failed run, arm by arm, with exact intervals (Clopper and Pearson 1934).

    Args:
        failed: arm -> seed -> whether the run failed.
        design: says which study each seed belongs to.
        seed_order: the seeds in the order of the plan.

    Returns:
        One for each arm that has runs.
    """
    rates = []
    for arm, by_seed in failed.items():
        units = _failed_units({arm: by_seed}, [arm], design, seed_order)[0]
        n, count = int((~np.isnan(units)).sum()), int(np.nansum(units))
        if n:
            low, high = clopper_pearson(np.array([count]), n)
            rates.append(FailureRate(arm, count, n, float(low[0]), float(high[0])))
    return rates


def compare_failures(
    failed: Mapping[str, Mapping[int, bool]], design: SequentialDesign, seed_order: Sequence[int]
) -> list[FailureDifference]:
    """Compare all pairs of arms by McNemar's exact test on the units of which only one arm's run failed (McNemar 1947).

    Args:
        failed: arm -> seed -> whether the run failed.
        design: the analyses that were planned, over which the error is shared out.
        seed_order: the seeds in the order of the plan.

    Returns:
        One for each pair.
    """
    arms = list(failed)
    first, second = np.triu_indices(len(arms), 1)
    if not len(first):
        return []
    ps: list[Array] = []
    counts = np.zeros((2, len(first)), int)
    for size in design.sizes:
        units = _failed_units(failed, arms, design, seed_order[:size])
        both = ~np.isnan(units[first]) & ~np.isnan(units[second])
        counts = np.array([(both & (units[a] > units[b])).sum(axis=1) for a, b in ((first, second), (second, first))])
        ps.append(np.array([exact_sign_p(int(a), int(b)) for a, b in counts.T]))
        if size >= len(seed_order):
            break
    p = design.sequential_p(ps)
    differences = []
    for i, corrected in enumerate(holm(p)):
        more, fewer = int(counts[0, i]), int(counts[1, i])
        steadier, other = (second[i], first[i]) if more >= fewer else (first[i], second[i])
        differences.append(
            FailureDifference(arms[steadier], arms[other], max(more, fewer), min(more, fewer), float(p[i]), float(corrected))
        )
    return differences


def exact_sign_p(a: int, b: int) -> float:
    """The two-sided p of `a` against `b` under equal chances: the exact binomial test; 1 where both are 0."""
    return float(stats.binomtest(a, a + b).pvalue) if a + b else 1.0


def _failed_units(
    failed: Mapping[str, Mapping[int, bool]], arms: Sequence[str], design: SequentialDesign, seed_order: Sequence[int]
) -> Array:
    """`(arms, units)`: 1 where a run of the unit failed, 0 where none did, NaN where there is no run."""
    unit_of_seed = {seed: design.study_at(position) for position, seed in enumerate(seed_order)}
    columns = {unit: column for column, unit in enumerate(sorted(set(unit_of_seed.values())))}
    units = np.full((len(arms), len(columns)), np.nan)
    for row, arm in enumerate(arms):
        for seed, has_failed in failed[arm].items():
            if seed in unit_of_seed:
                column = columns[unit_of_seed[seed]]
                units[row, column] = np.fmax(units[row, column], float(has_failed))
    return units


def collapsed(scores: Array, guessing: float) -> npt.NDArray[np.bool_]:
    """Which runs of an arm collapsed: their accuracy is nearer to guessing than to the median of the arm's other runs.

    The median is that of the runs that did not collapse: those below the limit are taken out until no more are.

    Args:
        scores: accuracies `(..., runs)`, NaN where there is none.
        guessing: the accuracy of guessing.

    Returns:
        A mask of the shape of `scores`.
    """
    left = np.where(np.isnan(scores).all(axis=-1, keepdims=True), guessing, scores)
    while True:
        below = left < (guessing + np.nanmedian(left, axis=-1, keepdims=True)) / 2
        if not below.any():
            break
        left = np.where(below, np.nan, left)
    mask: npt.NDArray[np.bool_] = np.isnan(left) & ~np.isnan(scores)
    return mask
