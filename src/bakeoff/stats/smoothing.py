"""The choice of a setting from noisy trials by the scores around it, so that a lucky trial at the edge of a cliff is not chosen."""

from __future__ import annotations

import numpy as np

from bakeoff.stats.scores import Array

#: Width of the kernel in units of the distance that even trials would have.
BANDWIDTH = 0.85


def smoothed(positions: Array, values: Array, *, keys: int) -> Array:
    """The mean of each trial's score and those around it, weighted by a Gaussian of their distance (Nadaraya 1964, Watson 1964).

    The kernel's width is `BANDWIDTH` / T^(1/d), with T trials and d keys: with one key, a neighbour at the usual distance counts half.

    Args:
        positions: `(trials, columns)`: a column in [0, 1] on the scale of its space for each range; for a key with a few choices, a column
            for each choice, such that trials with another choice are at distance 1.
        values: `(trials,)`, larger is better. Values that are not finite, as of diverged trials, count as the worst finite one.
        keys: tuned keys.

    Returns:
        `(trials,)`.
    """
    if keys == 0:
        return values
    finite = np.isfinite(values)
    known = np.where(finite, values, values[finite].min()) if finite.any() else np.zeros(len(values))
    width = BANDWIDTH / len(values) ** (1 / keys)
    distances = ((positions[:, None] - positions[None]) ** 2).sum(axis=2)
    weights = np.exp(-distances / (2 * width**2))
    means: Array = weights @ known / weights.sum(axis=1)
    return means
