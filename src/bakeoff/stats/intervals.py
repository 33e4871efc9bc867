"""Confidence intervals of means and proportions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from bakeoff.stats.scores import Array, group_by_study

#: The error rate of every test, and of all interim analyses together.
ALPHA = 0.05
#: The confidence level of every interval.
LEVEL = 1 - ALPHA


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its Student t interval.

    `sd`, `low` and `high` are None for a single value, whose spread is unknown.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> MeanInterval:
    """The mean of independent values with its interval, mean +- t(1 - (1 - level) / 2, n - 1) sd / sqrt(n).

    Args:
        values: one or more values.
        level: confidence level, between 0 and 1.

    Returns:
        The mean, the standard deviation (n - 1) and the interval.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("mean_interval: no values")
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return MeanInterval(n, mean, None, None, None)
    sd = statistics.stdev(values)
    half_width = float(special.stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return MeanInterval(n, mean, sd, mean - half_width, mean + half_width)


def clustered_mean_interval(scores_by_seed: Mapping[int, float], study_of_seed: Mapping[int, int], *, level: float = LEVEL) -> MeanInterval:
    """The mean of study means with its interval, for seeds that share a setting with the other seeds of their study.

    Args:
        scores_by_seed: seed -> score; one or more.
        study_of_seed: seed -> study. Only studies are independent of each other.
        level: confidence level, between 0 and 1.

    Returns:
        Mean and interval of the study means; `n` and `sd` are those of all scores.

    Raises:
        ValueError: there are no scores.
    """
    pooled = mean_interval(list(scores_by_seed.values()), level=level)
    study_means = [statistics.fmean(group) for group in group_by_study(scores_by_seed, study_of_seed).values()]
    return replace(mean_interval(study_means, level=level), n=pooled.n, sd=pooled.sd)


def clopper_pearson(successes: Array, n: Any) -> tuple[Array, Array]:
    """The exact 95 % interval of proportions (Clopper and Pearson 1934), which covers at least as often as it says.

    Args:
        successes: successes of each proportion, any shape. They need not be whole numbers, so that ties can count half.
        n: trials, of a shape that broadcasts with `successes`.

    Returns:
        (low, high), each of the common shape.
    """
    low = np.where(successes > 0, special.betaincinv(np.maximum(successes, 1e-9), n - successes + 1, ALPHA / 2), 0.0)
    high = np.where(successes < n, special.betaincinv(successes + 1, np.maximum(n - successes, 1e-9), 1 - ALPHA / 2), 1.0)
    return low, high
