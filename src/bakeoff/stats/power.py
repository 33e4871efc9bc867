"""Power of the paired t test, and the number of seeds that it needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from bakeoff.stats.scores import Array

POWER = 0.8
MAX_SEEDS = 1000


def paired_power(n: Any, *, delta: Any, sd: Any, alpha: Any) -> Array:
    """The chance that a two-sided paired t test finds a true difference with its sign.

    That of the noncentral t with n - 1 degrees of freedom and noncentrality delta sqrt(n) / sd (Cohen 1988, chapter 2). All arguments
    are numbers or arrays that broadcast together.

    Args:
        n: pairs of values.
        delta: true mean difference, in units of the score.
        sd: standard deviation of the differences, in the same units.
        alpha: two-sided level of the test.

    Returns:
        The power, of the common shape; 0 where n is below 2.
    """
    n, delta, sd, alpha = np.broadcast_arrays(
        np.asarray(n, float), np.asarray(delta, float), np.asarray(sd, float), np.asarray(alpha, float)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        noncentrality = delta * np.sqrt(n) / sd
    df = np.maximum(n - 1, 1)
    critical = special.stdtrit(df, 1 - alpha / 2)
    # Far beyond the boundary the noncentral t loses its digits, and the power is 1.
    certain = noncentrality - critical > 8
    power = 1.0 - special.nctdtr(df, np.where(certain, 0.0, noncentrality), critical)
    return np.where(n < 2, 0.0, np.where(certain, 1.0, power))


def seeds_needed(delta: float, *, sd: float, alpha: float = 0.05, power: float = POWER) -> int | None:
    """The smallest number of seeds at which a single analysis finds a true difference with the given power.

    Args:
        delta: true mean difference, in units of the score.
        sd: standard deviation of the paired differences.
        alpha: two-sided level of the test.
        power: the chance to find the difference.

    Returns:
        The number of seeds; None where it exceeds `MAX_SEEDS`, or `delta` is not positive, or `sd` is unknown.
    """
    if delta <= 0 or math.isnan(sd):
        return None
    sizes = np.arange(2, MAX_SEEDS + 1)
    sufficient = paired_power(sizes, delta=delta, sd=sd, alpha=alpha) >= power
    return int(sizes[int(np.argmax(sufficient))]) if sufficient.any() else None
