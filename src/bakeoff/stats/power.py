"""How many seeds a paired t test needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

POWER = 0.8
MOST_SEEDS = 1000


def paired_power(n: Any, *, delta: Any, sd: Any, alpha: Any) -> npt.NDArray[np.float64]:
    """The chance that a two-sided paired t test at `alpha` finds a true difference `delta` with its sign, for arrays of equal shape.

    That of the noncentral t with n - 1 degrees of freedom and noncentrality delta sqrt(n) / sd (Cohen 1988, chapter 2).
    """
    n, delta, sd, alpha = np.broadcast_arrays(
        np.asarray(n, float), np.asarray(delta, float), np.asarray(sd, float), np.asarray(alpha, float)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = delta * np.sqrt(n) / sd
    critical = special.stdtrit(np.maximum(n - 1, 1), 1 - alpha / 2)
    # Far beyond the boundary the noncentral t loses its digits, not its answer.
    sure = shift - critical > 8
    found = 1.0 - special.nctdtr(np.maximum(n - 1, 1), np.where(sure, 0.0, shift), critical)
    return np.where(n < 2, 0.0, np.where(sure, 1.0, found))


def seeds_needed(delta: float, *, sd: float, alpha: float = 0.05, power: float = POWER) -> int | None:
    """The smallest n at which one look finds a true difference `delta` with `power`; None beyond MOST_SEEDS."""
    if delta <= 0 or math.isnan(sd):
        return None
    sizes = np.arange(2, MOST_SEEDS + 1)
    enough = paired_power(sizes, delta=delta, sd=sd, alpha=alpha) >= power
    return int(sizes[int(np.argmax(enough))]) if enough.any() else None
