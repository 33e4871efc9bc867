"""Tuning curves against the order statistics they are made of, and the good region of a known bowl."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bakeoff.stats import good_region, leading_budgets, tuning_curve


def test_tuning_curve_is_the_quantile_of_the_best_of_k() -> None:
    values = np.random.default_rng(8).uniform(size=40)
    low, median, high, _ = tuning_curve(values, goal="maximize")
    ordered = np.sort(values)
    for k in (3, 5, 20, 39):
        assert median[k - 1] == ordered[math.ceil(0.5 ** (1 / k) * 40 - 1e-9) - 1]
    assert (low <= median).all()
    assert (median <= high).all()
    assert (np.diff(median) >= 0).all()
    flipped = tuning_curve(-values, goal="minimize")
    assert flipped.median[1:] == pytest.approx(-median[1:])  # of an even number the median is either of two


def test_bands_hold_over_all_budgets() -> None:
    """The true median of the best of k uniform draws is 0.5^(1/k)."""
    rng, times, held = np.random.default_rng(9), 400, 0
    truth = 0.5 ** (1 / np.arange(1, 13))
    for _ in range(times):
        low, _, high, _ = tuning_curve(rng.uniform(size=12), goal="maximize")
        held += bool((low <= truth).all() and (truth <= high).all())
    assert held / times >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / times)


def test_an_arm_leads_from_the_budget_at_which_bands_part() -> None:
    rng = np.random.default_rng(10)
    better, worse = (tuning_curve(centre + rng.uniform(size=24), goal="maximize") for centre in (0.9, 0.0))
    stretch = leading_budgets(better, worse, goal="maximize")
    assert stretch is not None
    start, end = stretch
    assert (better.low[start - 1 : end] > worse.high[start - 1 : end]).all()
    assert start == 1 or better.low[start - 2] <= worse.high[start - 2]
    assert better.low[end] <= worse.high[end]
    assert leading_budgets(worse, better, goal="maximize") is None


def test_a_good_region_ends_where_the_interpolated_loss_passes_the_margin() -> None:
    values, scores = np.array([1e-4, 1e-3, 1e-2, 1e-1]), np.array([0.80, 0.88, 0.90, 0.89])
    region = good_region(values, scores, margin=0.05, sole_key=True)
    assert region.best == pytest.approx(1e-2) and (region.open_low, region.open_high) == (False, True)
    assert math.log10(region.low) == pytest.approx(-3 - 0.03 / 0.08)  # the loss rises from 0.02 to 0.10 in the last decade
    assert region.high == pytest.approx(0.1) and region.triple == pytest.approx(0.01 * math.log10(3))
    assert good_region(values[2:], scores[2:], margin=0.05, sole_key=True).third is None
