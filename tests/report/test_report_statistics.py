"""Every number against a computation of its own, and the promise that identical arms are rarely called different."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.intervals import mean_interval
from bakeoff.stats.multiple_comparisons import holm
from bakeoff.stats.paired import Family, compare_family, compare_pairs
from bakeoff.stats.power import paired_power, seeds_needed
from bakeoff.stats.repeated_intervals import RepeatedIntervals, repeated_confidence_intervals
from bakeoff.stats.scores import ALL_BLOCKS, mean_over_blocks


def test_interval_of_the_mean_by_hand() -> None:
    told = mean_interval([0.90, 0.92, 0.94])
    # sd = 0.02, t(0.975, 2) = 4.302653: half = 4.302653 * 0.02 / sqrt(3)
    assert told.mean == pytest.approx(0.92)
    assert told.sd == pytest.approx(0.02)
    assert told.high == pytest.approx(0.92 + 4.302653 * 0.02 / math.sqrt(3), abs=1e-8)
    assert told.low == pytest.approx(0.92 - 4.302653 * 0.02 / math.sqrt(3), abs=1e-8)


def test_one_value_has_no_interval() -> None:
    told = mean_interval([0.9])
    assert (told.n, told.sd, told.low, told.high) == (1, None, None, None)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def told(gaps: np.ndarray | list[list[float]]) -> RepeatedIntervals:
    rows = np.asarray(gaps, float)
    return repeated_confidence_intervals(rows, SequentialDesign((rows.shape[1],)))


@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_paired_p_and_interval_are_those_of_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.1, 1, (40, n)), rng.normal(0, 1, (40, n))
    straight = np.abs(stats.skew(a - b, axis=1, bias=False) if n > 2 else np.zeros(40)) < 0.4
    a, b = a[straight], b[straight]
    found = told(a - b)
    for i in range(5):
        theirs = stats.ttest_rel(a[i], b[i])
        assert found.p[i] == pytest.approx(theirs.pvalue, rel=1e-9)
        interval = theirs.confidence_interval(0.95)
        assert (found.low[i], found.high[i]) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_skewed_differences_get_a_wider_interval_towards_the_tail() -> None:
    """Hall's transformation by hand, with the skewness one standard error beyond its estimate."""
    values = np.array([0.9, 1.0, 1.1, 1.05, 0.95, 1.0, 1.02, 0.98, 1.0, -0.5])
    n, mean, se = len(values), float(values.mean()), float(stats.sem(values))
    a = (stats.skew(values, bias=False) - math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))) / math.sqrt(n)
    y = stats.t.ppf(0.975, n - 1)
    t = 3 / a * (np.cbrt(1 + a * (y - a / 6)) - 1)
    found = told([values.tolist()])
    assert found.low == pytest.approx([mean - t * se])
    assert found.high == pytest.approx([mean + y * se])
    assert found.p[0] > stats.ttest_1samp(values, 0).pvalue


def test_a_skewed_arm_of_equal_mean_is_called_different_less_often_than_by_t() -> None:
    rng, pairs = np.random.default_rng(12), 4000
    gaps = (1 - rng.exponential(size=(pairs, 10))) - 0.3 * rng.normal(size=(pairs, 10))
    called = float((told(gaps).p < 0.05).mean())
    assert called <= 0.065 < float((stats.ttest_1samp(gaps, 0, axis=1).pvalue < 0.05).mean())


def test_seeds_that_one_arm_lacks_are_left_out() -> None:
    found = told([[0.1, math.nan, 0.3, 0.2], [0.1, 0.0, 0.3, 0.2]])
    assert found.n.tolist() == [3, 4]
    assert found.p[0] == pytest.approx(stats.ttest_1samp([0.1, 0.3, 0.2], 0).pvalue)


def test_no_spread_leaves_the_signs_alone() -> None:
    assert told([[0.01, 0.01, 0.01]]).p == pytest.approx([2 / 2**3])
    assert told([[0.91 - 0.9, 0.92 - 0.91, 0.93 - 0.92]]).p == pytest.approx([2 / 2**3])  # equal but for rounding
    assert told([[0.0, 0.0]]).p == pytest.approx([1.0])
    assert np.isnan(told([[0.3]]).p).all()


def test_holm_by_hand() -> None:
    # sorted: .01 * 4, .02 * 3, .03 * 2 -> max with .06, .04 * 1 -> max with .06
    assert holm(np.array([0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.9, math.nan, 0.8])) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert holm(np.array([0.03])) == pytest.approx([0.03])
    assert holm(np.array([])).tolist() == []


@pytest.mark.parametrize(("delta", "sd"), [(1.0, 1.0), (0.5, 1.0), (0.005, 0.008), (3.0, 1.0)])
def test_seeds_needed_is_the_first_n_with_that_power(delta: float, sd: float) -> None:
    def power(n: int) -> float:
        return float(stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, delta * math.sqrt(n) / sd))

    n = seeds_needed(delta, sd=sd)
    assert n is not None
    assert power(n) >= 0.8
    assert n == 2 or power(n - 1) < 0.8


def test_one_standard_deviation_takes_ten_pairs() -> None:
    assert seeds_needed(1.0, sd=1.0) == 10  # the textbook value (Cohen's tables)
    assert seeds_needed(1e-6, sd=1.0) is None


def test_power_holds_in_simulation() -> None:
    rng = np.random.default_rng(0)
    n = seeds_needed(0.7, sd=1.0)
    assert n is not None
    found = told(rng.normal(0.7, 1.0, (3000, n))).p < 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("n", "d", "alpha"), [(10, 1.0, 0.05), (10, 1.0, 0.0334), (25, 0.4, 0.01), (3, 2.0, 0.05)])
def test_power_is_that_of_statsmodels(n: int, d: float, alpha: float) -> None:
    theirs = TTestPower().power(effect_size=d, nobs=n, alpha=alpha, alternative="two-sided")
    assert float(paired_power(n, delta=d, sd=1.0, alpha=alpha)) == pytest.approx(theirs, abs=1e-4)


def test_intervals_cover() -> None:
    rng = np.random.default_rng(1)
    each = [mean_interval(list(rng.normal(0.5, 0.1, 5))) for _ in range(4000)]
    assert np.mean([t.low <= 0.5 <= t.high for t in each if t.low is not None and t.high is not None]) == pytest.approx(0.95, abs=0.012)


def test_difference_over_blocks_is_that_of_per_seed_means() -> None:
    rng = np.random.default_rng(16)
    scores = {b: {a: {s: float(rng.normal()) for s in range(6)} for a in "xyz"} for b in ("one", "two", "three")}
    found = [d for d in compare_pairs(scores, list("xyz"), goal="maximize", margin=0.1) if d.block == ALL_BLOCKS]
    assert len(found) == 3
    ps = []
    for a, b in itertools.combinations("xyz", 2):
        gaps = [np.mean([scores[k][a][s] - scores[k][b][s] for k in scores]) for s in range(6)]
        one = next(d for d in found if {d.better, d.worse} == {a, b})
        assert one.advantage == pytest.approx(abs(np.mean(gaps)))
        low, high = stats.t.interval(0.95, 5, loc=one.advantage, scale=np.std(gaps, ddof=1) / math.sqrt(6))
        assert [one.low, one.high] == pytest.approx([low, high])
        ps.append(stats.ttest_1samp(gaps, 0).pvalue)
    assert sorted(d.p for d in found if d.p is not None) == pytest.approx(sorted(ps))


def test_only_seeds_that_both_arms_have_in_every_block_count() -> None:
    scores = {"one": {"x": {1: 1.0, 2: 2.0, 3: 3.0}, "y": {1: 0.5, 2: 0.0}}, "two": {"x": {1: 1.0, 2: 2.0}, "y": {1: 1.0, 2: 1.0}}}
    assert mean_over_blocks(scores, ["x", "y"]) == {"x": {1: 1.0, 2: 2.0}, "y": {1: 0.75, 2: 0.5}}
    found = {d.block: d for d in compare_pairs(scores, ["x", "y"], goal="maximize", margin=0.1)}
    assert {block: d.n for block, d in found.items()} == {"one": 2, "two": 2, ALL_BLOCKS: 2}
    assert found[ALL_BLOCKS].advantage == pytest.approx((0.25 + 1.5) / 2)


def test_a_loss_is_better_when_it_is_lower() -> None:
    scores = {"all": {"x": {1: 1.0, 2: 1.1}, "y": {1: 0.5, 2: 0.7}}}
    (one,) = compare_pairs(scores, ["x", "y"], goal="minimize", margin=0.01)
    assert (one.better, one.worse) == ("y", "x")
    assert one.advantage == pytest.approx(0.45)


def test_grades() -> None:
    def grade(gaps: list[float]) -> str:
        table = {"x": dict(enumerate(gaps)), "y": dict.fromkeys(range(len(gaps)), 0.0)}
        (one,) = compare_pairs({"all": table}, ["x", "y"], goal="maximize", margin=0.5)
        return one.grade

    assert grade([2.0, 2.1, 1.9, 2.05]) == "supported"
    assert grade([0.01, -0.02, 0.015, -0.01]) == "tie"
    assert grade([1.0, -2.0, 2.5, 0.1]) == "under-powered"
    assert grade([1.0]) == "unknown"
    assert grade([1.0, 1.0, 1.0]) == "unknown"
    assert grade([0.0, 0.0]) == "identical"
    assert grade([0.0]) == "unknown"


@pytest.mark.parametrize("images", [None, 360])
def test_identical_arms_are_called_different_in_at_most_five_percent(images: int | None) -> None:
    """Also where scores come in steps, as accuracies on a small test set do."""
    rng, times, called = np.random.default_rng(3), 400, 0
    for _ in range(times):
        shared = rng.normal(0, 0.01, 4)
        values = 0.95 + shared + rng.normal(0, 0.006, (4, 4))
        family = Family("all", list("abcd"), values if images is None else np.round(values * images) / images)
        pairs = compare_family(family, goal="maximize", margin=0.005, design=SequentialDesign((4,)), permutation_tests=False)
        called += any(pair.grade == "supported" for pair in pairs)
    assert called / times <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / times)
