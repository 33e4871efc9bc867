"""What the looks at a growing set of seeds, taken together, say of each pair of arms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.power import POWER, paired_power

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RepeatedIntervals:
    """What the looks so far say of each pair: arrays with one entry a pair; NaN where it cannot be told.

    `n` seeds are in, which make `units` independent values of standard deviation `sd`; `between` is the part of their variance that more
    seeds leave as it is.
    """

    n: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    mean: Array
    sd: Array
    low: Array
    high: Array
    p: Array
    look: npt.NDArray[np.int64]
    between: Array


def repeated_confidence_intervals(gaps: Array, looks: SequentialDesign) -> RepeatedIntervals:
    """The paired t interval at each look's level, intersected over the looks, and the p over the looks; `gaps` is (pairs, seeds).

    These are repeated confidence intervals (Jennison and Turnbull 1989): all of them hold at once in 95 % of the cases, so whatever lies
    outside any of them is ruled out, and a claim once made stays. An empty intersection is NaN: the looks contradict each other.

    Seeds of one study share what tuning arrived at, so with several studies the test is on the means of the studies, with studies - 1
    degrees of freedom at every look: exact for a one-way random effects model with as many seeds in each (Searle, Casella and McCulloch
    1992, section 3.6). Later looks add seeds to each study and take the seeds' part of the spread away, never that of tuning.
    """
    pairs = len(gaps)
    low, high = np.full(pairs, -np.inf), np.full(pairs, np.inf)
    mean, sd, look = np.full(pairs, np.nan), np.full(pairs, np.nan), np.zeros(pairs, int)
    seen, units, between, ps = np.zeros(pairs, int), np.zeros(pairs, int), np.zeros(pairs), []
    for k, size in enumerate(looks.sizes):
        seeds = gaps[:, : size if k + 1 < len(looks.sizes) else None]
        count = (~np.isnan(seeds)).sum(axis=1)
        fresh = count > seen
        if not fresh.any():
            break
        part = study_means(seeds, looks.studies)
        there = ~np.isnan(part)
        n = there.sum(axis=1)
        total = np.where(there, part, 0.0).sum(axis=1)
        middle = total / np.maximum(n, 1)
        squares = (np.where(there, part - middle[:, None], 0.0) ** 2).sum(axis=1)
        spread = np.sqrt(squares / np.maximum(n - 1, 1))
        testable = fresh & (n > 1)
        flat = spread <= 1e-12 * np.maximum(1.0, np.abs(middle))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(middle) / (spread / np.sqrt(np.maximum(n, 1)))
        # Equal differences leave no spread: then all that can be said is the chance that all signs agree.
        p = np.where(flat, np.where(np.abs(middle) < 1e-12, 1.0, 2.0 ** (1 - n)), 2 * special.stdtr(np.maximum(n - 1, 1), -t))
        half = special.stdtrit(np.maximum(n - 1, 1), 1 - looks.levels[k] / 2) * spread / np.sqrt(np.maximum(n, 1))
        low = np.where(testable, np.maximum(low, middle - half), low)
        high = np.where(testable, np.minimum(high, middle + half), high)
        ps.append(np.where(testable, p, np.nan))
        mean, sd = np.where(fresh, middle, mean), np.where(fresh & (n > 1), spread, sd)
        look, seen, units = np.where(fresh, k + 1, look), np.maximum(seen, count), np.where(fresh, n, units)
        between = np.where(fresh, between_study_variance(seeds, spread**2, looks.studies), between)
    empty = (low > high + 1e-12) | np.isinf(low)
    return RepeatedIntervals(
        seen, units, mean, sd, np.where(empty, np.nan, low), np.where(empty, np.nan, high), looks.sequential_p(ps), look, between
    )  # fmt: skip


def study_means(gaps: Array, studies: int) -> Array:
    """(pairs, seeds) -> (pairs, studies): the mean over the seeds of each study, NaN where it has none; with one study, the seeds."""
    if studies == 1:
        return gaps
    parts = [gaps[:, study::studies] for study in range(studies)]
    counts = [(~np.isnan(part)).sum(axis=1) for part in parts]
    sums = [np.where(np.isnan(part), 0.0, part).sum(axis=1) for part in parts]
    means = [np.where(n > 0, total / np.maximum(n, 1), np.nan) for total, n in zip(sums, counts, strict=True)]
    return np.stack(means, axis=1)


def between_study_variance(gaps: Array, variance: Array, studies: int) -> Array:
    """Of the `variance` of study means, what is not the seeds': less the variance within studies over the seeds of one, 0 at least."""
    if studies == 1:
        return np.zeros(len(gaps))
    means = study_means(gaps, studies)
    inside = gaps - means[:, np.arange(gaps.shape[1]) % studies]
    count = (~np.isnan(gaps)).sum(axis=1)
    groups = (~np.isnan(means)).sum(axis=1)
    within = np.nansum(inside**2, axis=1) / np.maximum(count - groups, 1)
    left: Array = np.maximum(0.0, variance - within * groups / np.maximum(count, 1))
    return left


def additional_seeds(told: RepeatedIntervals, looks: SequentialDesign, *, margin: float, pairs: int) -> npt.NDArray[np.int64]:
    """How many more seeds bring each pair to the first later look with 80 % power; 0 where no look of the plan has it."""
    result = np.zeros(len(told.n), int)
    reached = np.array([looks.sizes[k - 1] if k else 0 for k in told.look])
    for size, level in reversed(list(zip(looks.sizes, looks.levels, strict=True))):
        n = looks.studies if looks.studies > 1 else size
        # More seeds shrink the seeds' part of what studies differ in, and leave tuning's.
        shrunk = told.between + (told.sd**2 - told.between) * told.n / size
        sd = np.sqrt(shrunk) if looks.studies > 1 else told.sd
        power = paired_power(n, delta=np.maximum(margin, told.mean), sd=sd, alpha=level / pairs)
        result = np.where((size > reached) & (power >= POWER), size - reached, result)
    return result
