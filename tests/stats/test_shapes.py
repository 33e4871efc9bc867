"""Arms of unlike shape are recognized, and intervals of their differences hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bakeoff.stats.repeated_intervals import mean_tests
from bakeoff.stats.shapes import sample_skewness, shapes_differ


def test_sample_skewness_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=(5, 12))
    skewness, standard_error = sample_skewness(values)
    assert skewness == pytest.approx(stats.skew(values, axis=1, bias=False))
    assert standard_error == pytest.approx(np.full(5, 0.6373), abs=1e-4)
    with_gap = np.hstack([values, np.full((5, 1), np.nan)])
    assert sample_skewness(with_gap)[0] == pytest.approx(skewness)
    assert np.isnan(sample_skewness(np.ones((1, 6)))[0]).all()


def test_an_arm_that_makes_up_the_difference_is_unlike_the_other() -> None:
    rng = np.random.default_rng(1)
    shared, quiet, loud = rng.normal(0, 0.5, (400, 30)), rng.normal(0, 0.1, (400, 30)), rng.normal(0, 1, (400, 30))
    # The seed's own part is common to both arms and hides nothing.
    assert shapes_differ(shared + quiet, shared + loud).mean() > 0.95
    assert shapes_differ(shared + loud, shared + rng.normal(0, 1, (400, 30))).mean() < 0.25


def test_an_arm_with_a_tail_is_unlike_a_normal_one() -> None:
    rng = np.random.default_rng(2)
    tail, normal = rng.lognormal(0, 1, (400, 30)), rng.normal(0, 2.16, (400, 30))
    assert shapes_differ(tail, normal).mean() > 0.9


def test_two_seeds_and_gaps_say_nothing() -> None:
    first = np.array([[1.0, 2.0, np.nan], [np.nan] * 3])
    assert not shapes_differ(first, np.zeros((2, 3))).any()


@pytest.mark.parametrize("values", [[[-2.0, -1.0, 0.0, 1.0, 2.0]], [[0.8, 0.9, 1.0, 1.1, 1.2]]])
def test_unlike_arms_get_a_wider_interval_even_without_skewness(values: list[list[float]]) -> None:
    alike, apart = (mean_tests(np.array(values), 0.05, apart=np.array([mask])) for mask in (False, True))
    assert apart.low[0] < alike.low[0] or apart.high[0] > alike.high[0]
    assert apart.p[0] >= alike.p[0]


def test_unlike_arms_of_equal_means_are_told_apart_less_often() -> None:
    rng = np.random.default_rng(3)
    tail = (np.exp(0.5) - rng.lognormal(0, 1, (4000, 5))) / 2.16
    errors = [float((mean_tests(tail, 0.05, apart=np.full(4000, mask)).p < 0.05).mean()) for mask in (False, True)]
    assert errors[0] > 1.3 * errors[1]
