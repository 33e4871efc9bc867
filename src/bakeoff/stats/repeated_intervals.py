"""Repeated confidence intervals: paired comparisons over the analyses of a growing set of seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.power import POWER, paired_power
from bakeoff.stats.scores import Array

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RepeatedIntervals:
    """The state of each pair after the analyses so far; every field is an array `(pairs,)`, NaN where there is no answer.

    Attributes:
        n: seeds that both arms have.
        units: independent values that these make: studies, or seeds with a single study.
        mean: mean difference over the units.
        sd: standard deviation of the units.
        low: lower end of the interval of the mean difference.
        high: upper end.
        p: two-sided p value over all analyses so far.
        analyses: analyses made so far.
        between_variance: the part of the units' variance that more seeds leave as it is.
    """

    n: Counts
    units: Counts
    mean: Array
    sd: Array
    low: Array
    high: Array
    p: Array
    analyses: Counts
    between_variance: Array


@dataclass(frozen=True)
class _PairedT:
    """One paired t test per row; every field is an array `(pairs,)`."""

    n: Counts
    mean: Array
    sd: Array
    half_width: Array
    p: Array


def _paired_t(values: Array, level: float) -> _PairedT:
    """Test the mean of each row of `values` `(pairs, units)` against 0; the interval has the error rate `level`."""
    known = ~np.isnan(values)
    n = known.sum(axis=1)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(n, 1)
    squares = (np.where(known, values - mean[:, None], 0.0) ** 2).sum(axis=1)
    df, root_n = np.maximum(n - 1, 1), np.sqrt(np.maximum(n, 1))
    sd = np.sqrt(squares / df)
    no_spread = sd <= 1e-12 * np.maximum(1.0, np.abs(mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / (sd / root_n)
    # Equal differences leave no spread: then only the chance that all signs agree is known.
    p = np.where(no_spread, np.where(np.abs(mean) < 1e-12, 1.0, 2.0 ** (1 - n)), 2 * special.stdtr(df, -t))
    return _PairedT(n, mean, sd, special.stdtrit(df, 1 - level / 2) * sd / root_n, p)


def repeated_confidence_intervals(differences: Array, design: SequentialDesign) -> RepeatedIntervals:
    """Paired t intervals at the level of each analysis, intersected over the analyses, and p values over the analyses.

    All intervals of a pair hold at once in 95 % of the cases (Jennison and Turnbull 1989), so what lies outside any of them is ruled out,
    and a significant difference stays significant. An empty intersection is NaN: the analyses contradict each other.

    Seeds of one study share the setting that its tuning chose. With several studies the test is therefore on the study means, with
    studies - 1 degrees of freedom at every analysis: exact for a one-way random effects model with equally many seeds in each (Searle,
    Casella and McCulloch 1992, section 3.6). Later analyses add seeds to each study and shrink the seeds' part of the variance alone.

    Args:
        differences: paired differences `(pairs, seeds)`, seeds in the order of the plan; NaN where one of the arms has no score.
        design: the numbers of seeds at which analyses are made, and the number of studies.

    Returns:
        The state of each pair.
    """
    pairs = len(differences)
    low, high = np.full(pairs, -np.inf), np.full(pairs, np.inf)
    mean, sd, between = np.full(pairs, np.nan), np.full(pairs, np.nan), np.zeros(pairs)
    n, units, analyses = np.zeros(pairs, int), np.zeros(pairs, int), np.zeros(pairs, int)
    ps: list[Array] = []
    for k, size in enumerate(design.sizes):
        is_last = k + 1 == len(design.sizes)
        seen = differences[:, : None if is_last else size]
        seeds = (~np.isnan(seen)).sum(axis=1)
        grown = seeds > n
        if not grown.any():
            break
        test = _paired_t(study_means(seen, design.studies), design.levels[k])
        testable = grown & (test.n > 1)
        low = np.where(testable, np.maximum(low, test.mean - test.half_width), low)
        high = np.where(testable, np.minimum(high, test.mean + test.half_width), high)
        ps.append(np.where(testable, test.p, np.nan))
        mean, sd = np.where(grown, test.mean, mean), np.where(testable, test.sd, sd)
        between = np.where(grown, between_study_variance(seen, test.sd**2, design.studies), between)
        n, units, analyses = np.maximum(n, seeds), np.where(grown, test.n, units), np.where(grown, k + 1, analyses)
    empty = (low > high + 1e-12) | np.isinf(low)
    low, high = np.where(empty, np.nan, low), np.where(empty, np.nan, high)
    return RepeatedIntervals(n, units, mean, sd, low, high, design.sequential_p(ps), analyses, between)


def study_means(differences: Array, studies: int) -> Array:
    """The mean over the seeds of each study.

    Args:
        differences: `(pairs, seeds)`; seed i belongs to study i modulo `studies`.
        studies: the number of studies; with 1, each seed is a unit of its own.

    Returns:
        `(pairs, studies)`, NaN for a study without seeds; with one study, `differences` itself.
    """
    if studies == 1:
        return differences
    parts = [differences[:, study::studies] for study in range(studies)]
    counts = [(~np.isnan(part)).sum(axis=1) for part in parts]
    sums = [np.where(np.isnan(part), 0.0, part).sum(axis=1) for part in parts]
    means = [np.where(n > 0, total / np.maximum(n, 1), np.nan) for total, n in zip(sums, counts, strict=True)]
    return np.stack(means, axis=1)


def between_study_variance(differences: Array, variance: Array, studies: int) -> Array:
    """The part of the variance of study means that is not due to seeds.

    Args:
        differences: `(pairs, seeds)`.
        variance: variance of the study means of each pair, `(pairs,)`.
        studies: the number of studies.

    Returns:
        `(pairs,)`: the variance less the variance within studies over the seeds of one, at least 0.
    """
    if studies == 1:
        return np.zeros(len(differences))
    means = study_means(differences, studies)
    residuals = differences - means[:, np.arange(differences.shape[1]) % studies]
    seeds = (~np.isnan(differences)).sum(axis=1)
    groups = (~np.isnan(means)).sum(axis=1)
    within = np.nansum(residuals**2, axis=1) / np.maximum(seeds - groups, 1)
    between: Array = np.maximum(0.0, variance - within * groups / np.maximum(seeds, 1))
    return between


def additional_seeds(intervals: RepeatedIntervals, design: SequentialDesign, *, margin: float, pairs: int) -> Counts:
    """How many more seeds take each pair to the first later analysis with 80 % power.

    Args:
        intervals: the state of each pair.
        design: the analyses of the plan.
        margin: the smallest difference that matters; the true one is taken to be the observed one, or this if it is larger.
        pairs: pairs of the family, among which the level is divided.

    Returns:
        `(pairs,)`; 0 where no analysis of the plan has that power.
    """
    seeds = np.zeros(len(intervals.n), int)
    reached = np.array([design.sizes[k - 1] if k else 0 for k in intervals.analyses])
    delta = np.maximum(margin, intervals.mean)
    for size, level in reversed(list(zip(design.sizes, design.levels, strict=True))):
        units, sd = size, intervals.sd
        if design.studies > 1:
            # More seeds shrink the seeds' part of the variance of study means, but not tuning's.
            units = design.studies
            sd = np.sqrt(intervals.between_variance + (intervals.sd**2 - intervals.between_variance) * intervals.n / size)
        power = paired_power(units, delta=delta, sd=sd, alpha=level / pairs)
        seeds = np.where((size > reached) & (power >= POWER), size - reached, seeds)
    return seeds
