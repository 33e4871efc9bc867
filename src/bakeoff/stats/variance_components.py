"""How much of an arm's variance is due to seeds, and how much to tuning, where tuning was repeated."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.scores import Scores, group_by_study


@dataclass(frozen=True)
class TuningVariance:
    """The variance components of one arm in one block.

    Attributes:
        arm: the arm.
        block: the block.
        studies: independent tunings, each with the setting that it chose.
        n: seeds, dealt out to the studies.
        seed_sd: standard deviation of seeds at one setting, in units of the score.
        tuning_sd: standard deviation of the settings' means, in units of the score.
        share: tuning's share of the variance of a run with a new tuning and a new seed.
        share_low: lower end of the 95 % interval of `share`.
        share_high: upper end.
        p: p of the F test that tuning adds no variance.
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


def tuning_variances(scores: Scores, arms: Sequence[str], study_of_seed: Mapping[int, int]) -> tuple[TuningVariance, ...]:
    """The variance components of every arm in every block.

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms.
        study_of_seed: seed -> study.

    Returns:
        One for each arm and block with two or more studies, at least one of them with two or more seeds.
    """
    variances: list[TuningVariance] = []
    for block, scores_by_arm in scores.items():
        for arm in arms:
            groups = list(group_by_study(scores_by_arm.get(arm, {}), study_of_seed).values())
            components = variance_components(groups)
            if components is not None:
                variances.append(TuningVariance(arm, block, len(groups), sum(map(len, groups)), *components))
    return tuple(variances)


def variance_components(groups: Sequence[Sequence[float]]) -> tuple[float, float, float, float, float, float] | None:
    """The variance components of a one-way random effects model.

    The analysis of variance estimator, (MSB - MSW) / n0 with n0 = (N - sum n^2 / N) / (k - 1), cut off at 0 (Searle, Casella and
    McCulloch 1992, section 3.6). The interval of the share is that of F (section 3.6d), exact where all groups have the same size.

    Args:
        groups: the values of each group.

    Returns:
        (sd within groups, sd between them, share of the variance between, lower and upper end of its 95 % interval, p); None with fewer
        than two groups, without a group of two, or without any variance within groups.
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
    ends = (max(0.0, (ratio / stats.f.ppf(quantile, k - 1, total - k) - 1) / size) for quantile in (1 - ALPHA / 2, ALPHA / 2))
    low, high = (end / (1 + end) for end in ends)
    p = float(stats.f.sf(ratio, k - 1, total - k))
    return math.sqrt(within), math.sqrt(tuning), tuning / (tuning + within), float(low), float(high), p
