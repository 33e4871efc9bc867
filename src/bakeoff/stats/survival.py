"""Times until something happens, with those at which observation ended before: Kaplan and Meier's estimate and log-rank tests."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from bakeoff.stats.intervals import LEVEL
from bakeoff.stats.multiple_comparisons import holm
from bakeoff.stats.scores import Array

#: With more arms than this there would be thousands of pairs.
MAX_PAIRED_ARMS = 20


class CensoredTimes(NamedTuple):
    """Right-censored times of one sample.

    Attributes:
        times: when the event happened, or observation ended without it, `(n,)`.
        observed: whether the event happened, `(n,)`.
    """

    times: Array
    observed: npt.NDArray[np.bool_]

    def scipy(self) -> stats.CensoredData:
        """The sample as SciPy's functions take it."""
        return stats.CensoredData.right_censored(self.times, ~self.observed)


class SurvivalCurve(NamedTuple):
    """Kaplan and Meier's estimate.

    Attributes:
        n: the size of the sample.
        events: how many events were observed.
        median: the time by which half of the sample had the event; None where fewer had.
        times: the distinct times, growing, `(m,)`.
        survival: the share without the event just after each time, `(m,)`.
        low: lower end of the pointwise 95 % interval of `survival`, `(m,)`.
        high: upper end.
    """

    n: int
    events: int
    median: float | None
    times: Array
    survival: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class LogRankTest:
    """A comparison of two arms: `faster` has its events sooner; `p_holm` is corrected over all pairs of the call."""

    faster: str
    slower: str
    p: float
    p_holm: float


def kaplan_meier(sample: CensoredTimes) -> SurvivalCurve:
    """The product-limit estimate (Kaplan and Meier 1958) with log-log intervals (Kalbfleisch and Prentice 2002, section 1.4).

    Where all or none survive the interval has no formula; there it reaches to 1 and to 0.
    """
    survival = stats.ecdf(sample.scipy()).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", message="The confidence interval is undefined", category=RuntimeWarning)
        band = survival.confidence_interval(LEVEL, method="log-log")
    low, high = np.nan_to_num(band.low.probabilities, nan=0.0), np.nan_to_num(band.high.probabilities, nan=1.0)
    halved = np.flatnonzero(survival.probabilities <= 0.5)
    median = float(survival.quantiles[halved[0]]) if len(halved) else None
    return SurvivalCurve(len(sample.times), int(sample.observed.sum()), median, survival.quantiles, survival.probabilities, low, high)


def log_rank_tests(samples: Mapping[str, CensoredTimes]) -> tuple[LogRankTest, ...]:
    """Compare every pair of arms by the log-rank test (Mantel 1966), which does not use that arms share seeds.

    Args:
        samples: arm -> its times.

    Returns:
        One test per pair with an event. Of more than `MAX_PAIRED_ARMS` arms, only the one with most events, and of equals the smallest
        median, is compared with each of the others.
    """
    pairs = list(itertools.combinations(samples, 2))
    if len(samples) > MAX_PAIRED_ARMS:
        fastest = max(samples, key=lambda arm: _speed(samples[arm]))
        pairs = [pair for pair in pairs if fastest in pair]
    tests = list[tuple[str, str, float]]()
    for first, second in pairs:
        if not samples[first].observed.any() and not samples[second].observed.any():
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            test = stats.logrank(samples[first].scipy(), samples[second].scipy())
        # A positive statistic: the first arm has more events than if the two were alike.
        if math.isfinite(test.statistic):
            tests.append((*((first, second) if test.statistic >= 0 else (second, first)), float(test.pvalue)))
    corrected = holm(np.array([p for *_, p in tests]))
    return tuple(LogRankTest(*test, float(p_holm)) for test, p_holm in zip(tests, corrected, strict=True))


def _speed(sample: CensoredTimes) -> tuple[int, float]:
    events = sample.times[sample.observed]
    return len(events), -float(np.median(events)) if len(events) else -math.inf
