"""How much of an arm's spread is the seeds', and how much is the luck of its tuning, where tuning was repeated (`budget.studies`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from bakeoff.stats.alpha_spending import ALPHA
from bakeoff.stats.paired import Scores


@dataclass(frozen=True)
class TuningVariance:
    """One arm in one block: `n` seeds dealt out to `studies` tunings, each with a setting of its own.

    `seed_sd` is the spread of seeds at one setting, `tuning_sd` that of what tuning arrives at beyond it, both in units of the score.
    `share` is the part of the variance of a fresh tuning's fresh run that is tuning's, with its 95 % interval. `p`: that tuning adds none.
    """

    arm: str
    block: str
    studies: int
    n: int
    seed_sd: float
    tuning_sd: float
    share: float
    share_low: float
    share_high: float
    p: float


def tuning_variances(scores: Scores, arms: Sequence[str], unit_of: Mapping[int, int]) -> tuple[TuningVariance, ...]:
    """One for every arm and block with two or more studies, one of them with two or more seeds; `unit_of` is seed -> study."""
    found: list[TuningVariance] = []
    for block, table in scores.items():
        for arm in arms:
            groups: dict[int, list[float]] = {}
            for seed, score in table.get(arm, {}).items():
                groups.setdefault(unit_of[seed], []).append(score)
            told = variance_components(list(groups.values()))
            if told is not None:
                found.append(TuningVariance(arm, block, len(groups), sum(map(len, groups.values())), *told))
    return tuple(found)


def mean_over_studies(scores: Scores, unit_of: Mapping[int, int]) -> dict[str, dict[str, dict[int, float]]]:
    """`Scores` with the mean over the seeds of each study in place of the seeds: block -> arm -> study -> score."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for block, table in scores.items():
        for arm, seeds in table.items():
            groups: dict[int, list[float]] = {}
            for seed, score in seeds.items():
                groups.setdefault(unit_of[seed], []).append(score)
            found.setdefault(block, {})[arm] = {study: statistics.fmean(group) for study, group in groups.items()}
    return found


def variance_components(groups: Sequence[Sequence[float]]) -> tuple[float, float, float, float, float, float] | None:
    """(sd within, sd between, share between, its low and high end, p) of a one-way random effects model; None where it has no answer.

    The analysis of variance estimator, (MSB - MSW) / n0 with n0 = (N - sum n^2 / N) / (k - 1), cut off at 0 (Searle, Casella and
    McCulloch 1992, section 3.6). The interval of the share is that of F (section 3.6d), exact where all groups are alike in size.
    """
    k, total = len(groups), sum(map(len, groups))
    if k < 2 or total <= k:
        return None
    grand = statistics.fmean(value for group in groups for value in group)
    means = [statistics.fmean(group) for group in groups]
    within = sum((value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group) / (total - k)
    between = sum(len(group) * (mean - grand) ** 2 for group, mean in zip(groups, means, strict=True)) / (k - 1)
    if within <= 1e-24 * max(1.0, grand**2):
        return None
    size = (total - sum(len(group) ** 2 for group in groups) / total) / (k - 1)
    tuning, ratio = max(0.0, (between - within) / size), between / within
    ends = (max(0.0, (ratio / stats.f.ppf(at, k - 1, total - k) - 1) / size) for at in (1 - ALPHA / 2, ALPHA / 2))
    low, high = (end / (1 + end) for end in ends)
    p = float(stats.f.sf(ratio, k - 1, total - k))
    return math.sqrt(within), math.sqrt(tuning), tuning / (tuning + within), float(low), float(high), p
