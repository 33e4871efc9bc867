"""Repeated confidence intervals: paired comparisons over the analyses of a growing set of seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        image_variance: the variance of the mean over the choice of test images, which no number of seeds shrinks; 0 where it is unknown.
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
    image_variance: Array


#: Sample skewness, in its standard errors under normality, from which intervals allow for skew.
SKEW_FROM = 1.0
#: What that costs where nothing is skewed: numbers of values, and by how much larger a difference must be to be found as often as by the
#: t test alone (normal values, power 80 %, levels .05 to .003; `python benchmarks/operating_characteristics.py allowance`).
SKEW_COST = ((3, 5, 7, 10, 15, 20, 30, 50), (1.1, 1.16, 1.22, 1.25, 1.14, 1.08, 1.03, 1.02))


@dataclass(frozen=True)
class MeanTests:
    """One test of a mean against 0 per row; every field is an array `(rows,)`, NaN where there is no answer.

    Attributes:
        n: values.
        mean: their mean.
        sd: their standard deviation.
        low: lower end of the interval of the mean.
        high: upper end.
        p: two-sided p value.
    """

    n: Counts
    mean: Array
    sd: Array
    low: Array
    high: Array
    p: Array


def mean_tests(values: Array, level: float, *, image_variance: Array | None = None, n_images: int = 0) -> MeanTests:
    """Test the mean of each row against 0, by Student's t and, where the values are skewed, also by Hall's transformation.

    Student's t errs when one arm's scores are skewed and the other's are not. Where the sample skewness exceeds `SKEW_FROM` standard
    errors, the interval is the union of the t interval and Hall's (1992, "On the removal of skewness by transformation", equation 4),
    with the skewness at the far end of one standard error, and the p value is the larger of the two.

    What a finite test set adds to the variance of a mean is the same for all values of a row and shrinks with no number of seeds. The half
    width is the root of the sum of the squared half widths that units and images alone would give (Howe 1974): unlike with Satterthwaite's
    degrees of freedom, two units that agree by luck do not make a short interval.

    Args:
        values: `(rows, units)`, NaN where there is none.
        level: the error rate of the interval.
        image_variance: variance of each row's mean over the choice of test images, `(rows,)`; None for none.
        n_images: test images.

    Returns:
        The tests.
    """
    known = ~np.isnan(values)
    n = known.sum(axis=1)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(n, 1)
    deviations = np.where(known, values - mean[:, None], 0.0)
    df, root_n = np.maximum(n - 1, 1), np.sqrt(np.maximum(n, 1))
    sd = np.sqrt((deviations**2).sum(axis=1) / df)
    unit_variance = sd**2 / np.maximum(n, 1)
    image_variance = np.zeros(len(values)) if image_variance is None else image_variance
    unit_se, image_se = np.sqrt(unit_variance), np.sqrt(image_variance)
    se = np.sqrt(unit_variance + image_variance)

    def half_width_at(level: Array | float) -> Array:
        of_units, of_images = special.stdtrit(df, level / 2) * unit_se, special.stdtrit(max(n_images - 1, 1), level / 2) * image_se
        widths: Array = np.hypot(of_units, of_images)
        return widths

    no_spread = se <= 1e-12 * np.maximum(1.0, np.abs(mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.where(no_spread, 1.0, se)
        skewness = (deviations**3).sum(axis=1) / (deviations**2).sum(axis=1) ** 1.5 * n * np.sqrt(n - 1) / (n - 2)
        skewness_se = np.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
        # Only the units' part of the variance is skewed.
        scale = (np.sqrt(unit_variance) / se) ** 3 / root_n
    p = _p_value(np.abs(mean), half_width_at)
    half_width = half_width_at(level)
    low, high = mean - half_width, mean + half_width
    skewed = (n > 2) & ~no_spread & (np.abs(skewness) > SKEW_FROM * skewness_se)
    if skewed.any():
        a = np.where(skewed, (skewness + np.sign(skewness) * skewness_se) * scale, 1.0)
        q = half_width / np.where(no_spread, 1.0, se)
        transformed = np.maximum(0.0, np.sign(t) * _hall(t, a)) * se
        p = np.where(skewed, np.maximum(p, _p_value(transformed, half_width_at)), p)
        low = np.where(skewed, np.minimum(low, mean - _hall_inverse(q, a) * se), low)
        high = np.where(skewed, np.maximum(high, mean - _hall_inverse(-q, a) * se), high)
    # Equal differences leave no spread: then only the chance that all signs agree is known.
    p = np.where(no_spread, np.where(np.abs(mean) < 1e-12, 1.0, 2.0 ** (1.0 - n)), p)
    return MeanTests(n, mean, sd, low, high, np.minimum(p, 1.0))


def _p_value(distance: Array, half_width_at: Callable[[Array], Array]) -> Array:
    """The level at which each interval has the half width `distance`, by bisection of its logarithm."""
    low, high = np.full(len(distance), -80.0), np.zeros(len(distance))
    for _ in range(60):
        middle = (low + high) / 2
        too_wide = half_width_at(np.exp(middle)) > distance
        low, high = np.where(too_wide, middle, low), np.where(too_wide, high, middle)
    return np.exp(high)


def _hall(t: Array, a: Array) -> Array:
    """Hall's monotone transformation of a t statistic, where `a` is the skewness of one value over the root of their number."""
    transformed: Array = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    return transformed


def _hall_inverse(y: Array, a: Array) -> Array:
    """The t whose transformation is `y`."""
    t: Array = 3 / a * (np.cbrt(1 + a * (y - a / 6)) - 1)
    return t


def repeated_confidence_intervals(
    differences: Array, design: SequentialDesign, *, image_variances: Sequence[Array] = (), n_images: int = 0
) -> RepeatedIntervals:
    """Intervals of paired differences at the level of each analysis, intersected over the analyses, and p values over the analyses.

    All intervals of a pair hold at once in 95 % of the cases (Jennison and Turnbull 1989), so what lies outside any of them is ruled out,
    and a significant difference stays significant. An empty intersection is NaN: the analyses contradict each other.

    Seeds of one study share the setting that its tuning chose. With several studies the test is therefore on the study means: exact for a
    one-way random effects model with equally many seeds in each (Searle, Casella and McCulloch 1992, section 3.6).

    Args:
        differences: paired differences `(pairs, seeds)`, seeds in the order of the plan; NaN where one of the arms has no score.
        design: the numbers of seeds at which analyses are made, and the studies.
        image_variances: for each analysis, the variance of each pair's mean over the choice of test images, `(pairs,)`; without them the
            intervals are about these images alone.
        n_images: test images.

    Returns:
        The state of each pair.
    """
    pairs = len(differences)
    low, high = np.full(pairs, -np.inf), np.full(pairs, np.inf)
    mean, sd, between = np.full(pairs, np.nan), np.full(pairs, np.nan), np.zeros(pairs)
    n, units, analyses = np.zeros(pairs, int), np.zeros(pairs, int), np.zeros(pairs, int)
    image_variance = np.zeros(pairs)
    ps: list[Array] = []
    for k, size in enumerate(design.sizes):
        is_last = k + 1 == len(design.sizes)
        seen = differences[:, : None if is_last else size]
        seeds = (~np.isnan(seen)).sum(axis=1)
        grown = seeds > n
        if not grown.any():
            # Nothing is left, or no pair shares a seed of this analysis.
            if size >= differences.shape[1]:
                break
            ps.append(np.full(pairs, np.nan))
            continue
        image_variance = image_variances[k] if k < len(image_variances) else image_variance
        test = mean_tests(unit_means(seen, design), design.levels[k], image_variance=image_variance, n_images=n_images)
        testable = grown & (test.n > 1)
        low = np.where(testable, np.maximum(low, test.low), low)
        high = np.where(testable, np.minimum(high, test.high), high)
        ps.append(np.where(testable, test.p, np.nan))
        mean, sd = np.where(grown, test.mean, mean), np.where(testable, test.sd, sd)
        between = np.where(grown, between_study_variance(seen, test.sd**2, design), between)
        n, units, analyses = np.maximum(n, seeds), np.where(grown, test.n, units), np.where(grown, k + 1, analyses)
    empty = (low > high + 1e-12) | np.isinf(low)
    low, high = np.where(empty, np.nan, low), np.where(empty, np.nan, high)
    p = design.sequential_p(ps) if ps else np.full(pairs, np.nan)
    return RepeatedIntervals(n, units, mean, sd, low, high, p, analyses, between, image_variance)


def unit_means(differences: Array, design: SequentialDesign) -> Array:
    """The mean over the seeds of each independent unit.

    Args:
        differences: `(pairs, seeds)`, seeds in the order of the plan.
        design: says which study each seed belongs to.

    Returns:
        `(pairs, studies)`, NaN for a study without seeds; with a single study, `differences` itself.
    """
    if not design.has_studies:
        return differences
    members = _members(differences.shape[1], design)
    counts = (~np.isnan(differences)).astype(float) @ members
    sums = np.nan_to_num(differences) @ members
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _members(seeds: int, design: SequentialDesign) -> Array:
    """`(seeds, studies)`: 1 where a seed belongs to a study."""
    study_of_seed = np.array([design.study_at(position) for position in range(seeds)], int)
    members: Array = (study_of_seed[:, None] == np.unique(study_of_seed)).astype(float)
    return members


def between_study_variance(differences: Array, variance: Array, design: SequentialDesign) -> Array:
    """The part of the variance of study means that is not due to seeds.

    Args:
        differences: `(pairs, seeds)`.
        variance: variance of the study means of each pair, `(pairs,)`.
        design: says which study each seed belongs to.

    Returns:
        `(pairs,)`: the variance less the variance within studies over the seeds of one, at least 0; 0 with a single study.
    """
    if not design.has_studies:
        return np.zeros(len(differences))
    means = unit_means(differences, design)
    residuals = differences - np.nan_to_num(means) @ _members(differences.shape[1], design).T
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
    for size, units, level in reversed(list(zip(design.sizes, design.units, design.levels, strict=True))):
        # More seeds in a study shrink the seeds' part of the variance of study means, but not tuning's.
        growth = (size / units) / (np.maximum(intervals.n, 1) / np.maximum(intervals.units, 1))
        sd = np.sqrt(intervals.between_variance + (intervals.sd**2 - intervals.between_variance) / growth)
        # The images' part of the variance of the mean is as if each unit had so many times as much.
        sd = np.sqrt(sd**2 + units * intervals.image_variance)
        power = paired_power(units, delta=delta / np.interp(units, *SKEW_COST), sd=sd, alpha=level / pairs)
        seeds = np.where((size > reached) & (power >= POWER), size - reached, seeds)
    return seeds
