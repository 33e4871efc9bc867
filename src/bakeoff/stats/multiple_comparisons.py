"""All arms of a block at once, as textbook procedures for independent samples see them: a check on the paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bakeoff.stats.alpha_spending import ALPHA
from bakeoff.stats.paired import Goal

#: Each pair's p is an integral of its own: beyond this many arms they would take longer than the rest of the report.
MAX_ARMS = 12


@dataclass(frozen=True)
class SimultaneousComparison:
    """One comparison of a family whose intervals all hold at once with 95 %: `arm` minus `other`, positive where `arm` is better."""

    block: str
    procedure: str
    arm: str
    other: str
    difference: float
    low: float
    high: float
    p: float


def dunnett_vs_baseline(
    block: str, table: Mapping[str, Mapping[int, float]], baseline: str, *, goal: Goal
) -> tuple[SimultaneousComparison, ...]:
    """Every arm against the baseline by Dunnett's test (1955); needs two scores an arm, and does not use that seeds are shared."""
    samples = _samples(table, list(table), goal)
    others = [arm for arm in samples if arm != baseline]
    if baseline not in samples or not others or len(samples) > MAX_ARMS or _flat(samples.values()):
        return ()
    rng = np.random.default_rng(0)
    told = stats.dunnett(*(samples[arm] for arm in others), control=samples[baseline], rng=rng)
    interval = told.confidence_interval(1 - ALPHA)
    gaps = [samples[arm].mean() - samples[baseline].mean() for arm in others]
    rows = zip(others, gaps, interval.low, interval.high, told.pvalue, strict=True)
    return tuple(
        SimultaneousComparison(block, "dunnett", arm, baseline, float(d), float(lo), float(hi), float(p)) for arm, d, lo, hi, p in rows
    )


def tukey_all_pairs(
    block: str, table: Mapping[str, Mapping[int, float]], arms: Sequence[str], *, goal: Goal
) -> tuple[SimultaneousComparison, ...]:
    """Every pair by Tukey's honestly significant difference (1949; Kramer 1956 for unequal n); the better arm first."""
    samples = _samples(table, arms, goal)
    if len(samples) < 2 or len(samples) > MAX_ARMS or _flat(samples.values()):
        return ()
    names = list(samples)
    told = stats.tukey_hsd(*samples.values())
    interval = told.confidence_interval(1 - ALPHA)
    found: list[SimultaneousComparison] = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            a, b = (i, j) if told.statistic[i, j] >= 0 else (j, i)
            numbers = (float(one[a, b]) for one in (told.statistic, interval.low, interval.high, told.pvalue))
            found.append(SimultaneousComparison(block, "tukey", names[a], names[b], *numbers))
    return tuple(found)


def _samples(table: Mapping[str, Mapping[int, float]], arms: Sequence[str], goal: Goal) -> dict[str, np.ndarray]:
    sign = 1.0 if goal == "maximize" else -1.0
    return {arm: sign * np.array(list(table[arm].values())) for arm in arms if len(table.get(arm, {})) > 1}


def _flat(samples: object) -> bool:
    return all(float(np.ptp(one)) == 0 for one in samples)  # type: ignore[attr-defined]
