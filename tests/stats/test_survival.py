"""Survival curves and log-rank tests against sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bakeoff.stats import CensoredTimes, kaplan_meier, log_rank_tests


def test_kaplan_meier_by_hand() -> None:
    """A time at which observation ends takes a run from those at risk and leaves the estimate as it is."""
    times, observed = np.array([1.0, 2.0, 2.0, 3.0, 4.0]), np.array([True, True, False, True, False])
    curve = kaplan_meier(CensoredTimes(times, observed))
    assert (curve.n, curve.events, curve.median) == (5, 3, 3.0)
    assert dict(zip(curve.times, curve.survival, strict=True)) == pytest.approx({1.0: 0.8, 2.0: 0.6, 3.0: 0.3, 4.0: 0.3})
    assert (curve.low <= curve.survival).all() and (curve.survival <= curve.high).all()


def test_no_event_says_nothing() -> None:
    nobody = CensoredTimes(np.array([5.0, 5.0]), np.array([False, False]))
    curve = kaplan_meier(nobody)
    assert (curve.median, curve.low.tolist(), curve.high.tolist()) == (None, [0.0], [1.0])
    assert log_rank_tests({"a": nobody, "b": nobody}) == ()


def test_many_arms_are_compared_with_the_fastest_alone() -> None:
    observed = np.array([True, True, True])
    samples = {f"arm{i}": CensoredTimes(np.array([5.0, 6.0, 7.0]) - (i == 3), observed) for i in range(21)}
    tests = log_rank_tests(samples)
    assert len(tests) == 20 and {test.faster for test in tests} == {"arm3"}


def test_log_rank_by_hand() -> None:
    """Mantel's sums over the event times of two samples with losses."""
    a, b = (np.array([3.0, 5.0, 7.0]), np.array([10.0])), (np.array([6.0, 8.0]), np.array([10.0, 10.0]))
    expected = variance = 0.0
    for time in sorted({*a[0], *b[0]}):
        at_risk = [sum(x >= time for part in own for x in part) for own in (a, b)]
        events = sum(x == time for own in (a, b) for x in own[0])
        n = sum(at_risk)
        expected += events * at_risk[0] / n
        variance += events * (at_risk[0] / n) * (at_risk[1] / n) * (n - events) / (n - 1) if n > 1 else 0.0
    z = (3 - expected) / math.sqrt(variance)
    samples = {arm: CensoredTimes(np.concatenate(own), np.repeat([True, False], [*map(len, own)])) for arm, own in (("a", a), ("b", b))}
    (test,) = log_rank_tests(samples)
    assert test.faster == "a"
    assert test.p == pytest.approx(2 * stats.norm.sf(abs(z)))
