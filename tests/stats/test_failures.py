"""Failing runs, counted exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.failures import collapsed, compare_failures, exact_sign_p, failure_rates

TEN = SequentialDesign((10,))


def test_rates_have_exact_intervals() -> None:
    (rate,) = failure_rates({"a": {seed: seed < 3 for seed in range(10)}}, TEN, range(10))
    exact = stats.binomtest(3, 10).proportion_ci(0.95, method="exact")
    assert (rate.failed, rate.n) == (3, 10)
    assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high))


def test_pairs_are_compared_on_the_seeds_where_one_alone_failed() -> None:
    failed = {"a": {seed: seed == 0 for seed in range(10)}, "b": {seed: seed < 9 for seed in range(10)}}
    (pair,) = compare_failures(failed, TEN, range(10))
    assert (pair.steadier, pair.other, pair.only_other, pair.only_steadier) == ("a", "b", 8, 0)
    assert pair.p == pytest.approx(2 * 0.5**8) and pair.p_holm == pair.p
    assert exact_sign_p(0, 0) == 1.0


def test_a_study_fails_once() -> None:
    design = SequentialDesign.growing((10, 20), 5)
    (rate,) = failure_rates({"a": {seed: design.study_at(seed) == 2 for seed in range(10)}}, design, range(10))
    assert (rate.failed, rate.n) == (1, 5)


def test_equal_failure_rates_are_rarely_called_different() -> None:
    rng, called = np.random.default_rng(3), 0
    design = SequentialDesign((10, 20, 30))
    for _ in range(300):
        failed = {arm: dict(enumerate((rng.random(30) < 0.3).tolist())) for arm in "abc"}
        called += any(pair.p_holm < 0.05 for pair in compare_failures(failed, design, range(30)))
    assert called / 300 <= 0.05


def test_runs_collapse_by_the_median_of_those_that_did_not() -> None:
    """The first median, .5, has only the lowest two runs below its limit; without them the next two are below it, too."""
    runs = np.array([0.2, 0.25, 0.35, 0.4, 0.5, 0.9, 0.9, 0.92, 0.94])
    assert collapsed(runs, 0.1).tolist() == [True] * 4 + [False] * 5
    assert collapsed(np.array([0.9, np.nan, 0.3]), 0.1).tolist() == [False, False, True]
    assert collapsed(np.array([[0.9, 0.92, 0.3], [0.5, 0.55, 0.45]]), 0.1).tolist() == [[False, False, True], [False] * 3]
    assert not collapsed(np.array([np.nan, np.nan]), 0.1).any()
