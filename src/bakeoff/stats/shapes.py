"""Whether the scores of two arms are alike in shape, so that pairing makes their differences symmetric."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bakeoff.stats.scores import Array

Mask = npt.NDArray[np.bool_]

#: How far the share of the variance of a difference that one arm contributes may be from a half, which equal arms contribute each: by
#: this, and by so many of its standard errors.
MAX_SHARE_OFFSET, MAX_SHARE_ERRORS = 0.2, 1.6
#: By how many of its standard errors under normality the skewness of two arms may differ.
MAX_SKEWNESS_DIFFERENCE = 2.0


def sample_skewness(values: Array) -> tuple[Array, Array]:
    """The skewness of each row and its standard error under normality.

    Args:
        values: `(rows, n)`, NaN where there is none.

    Returns:
        (skewness, standard error), each `(rows,)`: the estimate that is unbiased under normality (Joanes and Gill 1998, G1); NaN with fewer
        than three values or without spread.
    """
    known = ~np.isnan(values)
    n = known.sum(axis=1).astype(float)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(n, 1)
    deviations = np.where(known, values - mean[:, None], 0.0)
    squares = (deviations**2).sum(axis=1)
    spread = np.where((n > 2) & (squares > n * (1e-12 * np.maximum(1.0, np.abs(mean))) ** 2), squares, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = (deviations**3).sum(axis=1) / spread**1.5 * n * np.sqrt(n - 1) / (n - 2)
        standard_error = np.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return skewness, standard_error


def shapes_differ(first: Array, second: Array) -> Mask:
    """Whether the scores of two arms differ in spread or skewness beyond what arms of equal shape would show.

    The difference of two values of one distribution is symmetric, however skewed that is, and Student's t is safe on it. Where one arm
    contributes most of the variance, its skewness is that of the difference.

    Args:
        first: scores of the first arm of each pair, `(pairs, seeds)`, NaN where there is none.
        second: scores of the second on the same seeds.

    Returns:
        `(pairs,)`: True where one arm contributes most of the variance of the differences (`MAX_SHARE_OFFSET`, `MAX_SHARE_ERRORS`), or the
        skewness of the two differs by more than `MAX_SKEWNESS_DIFFERENCE` standard errors.
    """
    known = ~np.isnan(first) & ~np.isnan(second)
    first, second = np.where(known, first, np.nan), np.where(known, second, np.nan)
    difference, total = _centred(first - second), _centred(first + second)
    variance, n = (difference**2).sum(axis=1), known.sum(axis=1)
    # What the arms share, the seed's own part, cancels in the difference. Half of the slope of a regression of the sum on the difference is
    # how far the first arm's share of the variance is from a half.
    slope = np.where(variance > 0, (difference * total).sum(axis=1) / np.where(variance > 0, variance, 1.0), 0.0)
    residual = ((total - slope[:, None] * difference) ** 2).sum(axis=1) / np.maximum(n - 2, 1)
    slope_error = np.sqrt(residual / np.where(variance > 0, variance, 1.0))
    offset, allowed = np.abs(slope) / 2, np.maximum(MAX_SHARE_OFFSET, MAX_SHARE_ERRORS * slope_error / 2)
    (first_skewness, standard_error), (second_skewness, _) = sample_skewness(first), sample_skewness(second)
    skewness = np.abs(np.nan_to_num(first_skewness) - np.nan_to_num(second_skewness))
    with np.errstate(invalid="ignore"):
        differ: Mask = (n > 2) & (offset > allowed) | (skewness > MAX_SKEWNESS_DIFFERENCE * np.sqrt(2) * standard_error)
    return differ


def _centred(values: Array) -> Array:
    """Each row less its mean, 0 where there is no value."""
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    deviations: Array = np.where(known, values - mean[:, None], 0.0)
    return deviations
