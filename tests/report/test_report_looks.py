"""Looking again: the boundaries against published ones, and that five looks err no more often than one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from bakeoff.report.results import SweepResults
from bakeoff.report.verdict import compute_verdict
from bakeoff.stats.alpha_spending import SequentialDesign, boundaries, spent_alpha
from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.paired import Family, PairedDifference, compare_family
from bakeoff.stats.power import paired_power
from bakeoff.stats.repeated_intervals import SKEW_COST, repeated_confidence_intervals

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]
FIVE = SequentialDesign((10, 20, 30, 40, 50))


def obrien_fleming(alpha: float, share: float) -> float:
    return float(4 * (1 - ndtr(-ndtri(alpha / 4) / math.sqrt(share))))


def pocock(alpha: float, share: float) -> float:
    return alpha * math.log(1 + (math.e - 1) * share)


def test_boundaries_are_the_published_ones() -> None:
    """Lan and DeMets' boundaries for five looks at 5 % (Reboussin et al. 2000; Jennison and Turnbull 2000, chapter 7)."""
    assert boundaries(FIFTHS, 0.05, spending=obrien_fleming) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=2e-3)
    assert boundaries(FIFTHS, 0.05, spending=pocock) == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=1e-3)


def test_boundaries_spend_what_they_say() -> None:
    rng = np.random.default_rng(0)
    z = np.cumsum(rng.normal(size=(400_000, 5)), axis=1) / np.sqrt(np.arange(1, 6))
    crossed = np.logical_or.accumulate(np.abs(z) > boundaries(FIFTHS, 0.05), axis=1).mean(axis=0)
    assert crossed == pytest.approx([spent_alpha(0.05, share) for share in FIFTHS], abs=0.0015)


def test_looks_of_a_plan() -> None:
    assert SequentialDesign((10,)).levels == pytest.approx((0.05,))
    assert [FIVE.completed_analyses(n) for n in (0, 9, 10, 19, 20, 60)] == [0, 0, 1, 1, 2, 5]
    with pytest.raises(ValueError, match="must grow"):
        SequentialDesign((10, 10))


def test_p_over_looks_is_below_five_percent_where_a_boundary_is_crossed() -> None:
    levels = FIVE.levels
    for look in range(5):
        before = [np.ones(2)] * look
        told = FIVE.sequential_p([*before, np.array([levels[look] * 0.999, levels[look] * 1.001])])
        assert told[0] < ALPHA < told[1]
    assert SequentialDesign((10,)).sequential_p([np.array([0.03, math.nan])]) == pytest.approx([0.03, math.nan], nan_ok=True)


def test_identical_pairs_are_told_apart_in_five_percent_after_five_looks() -> None:
    gaps = np.random.default_rng(1).normal(size=(20_000, 50))
    called = float((repeated_confidence_intervals(gaps, FIVE).p < ALPHA).mean())
    naive = np.zeros(len(gaps), bool)
    for size in FIVE.sizes:
        naive |= repeated_confidence_intervals(gaps[:, :size], SequentialDesign((size,))).p < ALPHA
    assert 0.035 < called <= 0.05  # the allowance for skew costs some of the five per cent
    assert naive.mean() > 0.12  # what plain intervals would do


@pytest.mark.parametrize("first", [2, 3, 5, 10])
def test_no_first_look_is_too_small(first: int) -> None:
    gaps = np.random.default_rng(first).normal(size=(40_000, 5 * first))
    called = float((repeated_confidence_intervals(gaps, SequentialDesign(tuple(range(first, 5 * first + 1, first)))).p < ALPHA).mean())
    assert called <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(gaps))


def test_intervals_hold_over_all_looks() -> None:
    gaps = np.random.default_rng(3).normal(0.4, 1.0, size=(20_000, 50))
    for seeds in (10, 30, 50):
        told = repeated_confidence_intervals(gaps[:, :seeds], FIVE)
        held = (told.low <= 0.4) & (told.high >= 0.4)
        error = 1 - float(held.mean())
        assert 0.6 * spent_alpha(ALPHA, seeds / 50) < error <= spent_alpha(ALPHA, seeds / 50) + 0.003


def test_interval_and_p_agree_for_one_pair() -> None:
    told = repeated_confidence_intervals(np.random.default_rng(4).normal(0.3, 1.0, size=(4000, 50)), FIVE)
    outside = (told.low > 0) | (told.high < 0) | np.isnan(told.low)
    assert ((told.p < ALPHA) == outside).mean() > 0.999


@pytest.mark.parametrize(("arms", "sizes"), [(2, FIVE), (4, FIVE), (2, SequentialDesign((10,)))])
def test_one_standard_deviation_at_ten_seeds_is_found_as_power_analysis_says(arms: int, sizes: SequentialDesign) -> None:
    """With the level of the first look, divided by the number of pairs: Holm's correction finds at least that."""
    rng, times, found = np.random.default_rng(5), 200 if arms > 2 else 600, 0
    pairs = arms * (arms - 1) // 2
    for _ in range(times):
        values = rng.normal(0, math.sqrt(0.5), (arms, 10))
        values[0] += 1.0
        told = one_family(values, design=sizes)
        found += any(d.grade == "supported" and (d.better, d.worse) == ("arm0", "arm1") for d in told)
    least, most = (float(paired_power(10, delta=1.0 / cost, sd=1.0, alpha=sizes.levels[0] / pairs)) for cost in (SKEW_COST[1][3], 1.0))
    error = 3 * math.sqrt(0.25 / times)
    assert least - error <= found / times <= most + error + (0.1 if pairs > 1 else 0.0)


def test_a_tie_is_called_as_often_as_margin_and_n_predict() -> None:
    """Equal arms tie where the t interval's half-width leaves room for the mean: integrated over the spread by simulation of its own."""
    n, margin, level = 10, 1.0, FIVE.levels[0]
    rng = np.random.default_rng(6)
    mean, sd = rng.normal(0, 1 / math.sqrt(n), 400_000), np.sqrt(rng.chisquare(n - 1, 400_000) / (n - 1))
    critical = float(-_t_quantile(level / 2, n - 1))
    half = critical * sd / math.sqrt(n)
    expected = float(((np.abs(mean) + half <= margin) & (np.abs(mean) <= half)).mean())
    times, tied = 600, 0
    for _ in range(times):
        (one,) = one_family(rng.normal(0, math.sqrt(0.5), (2, n)), design=FIVE, margin=margin)
        tied += one.grade == "tie"
    # The allowance for skew widens a third of the intervals.
    assert 0.65 * expected < tied / times < expected
    assert 0.2 < expected < 0.95  # the check would see a rate that is off in either direction


def _t_quantile(p: float, df: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(p, df))


def one_family(scores: np.ndarray, *, design: SequentialDesign, margin: float = 0.005) -> list[PairedDifference]:
    arms = [f"arm{i}" for i in range(len(scores))]
    return compare_family(Family("all", arms, scores), goal="maximize", margin=margin, design=design, permutation_tests=False)


def test_the_seeds_that_are_asked_for_bring_the_power(simulated: Callable[..., SweepResults]) -> None:
    rng = np.random.default_rng(8)
    told = compute_verdict(simulated({"a": 0.0, "b": 0.002}, rng=rng, sd_run=0.004))
    (one,) = told.differences
    assert told.grade == "under-powered"
    assert one.more_seeds is not None
    size = one.n + one.more_seeds
    assert size in FIVE.sizes
    level = FIVE.levels[FIVE.sizes.index(size)]
    assert one.sd is not None
    assert paired_power(size, delta=max(0.005, one.advantage) / np.interp(size, *SKEW_COST), sd=one.sd, alpha=level) >= 0.8
    assert f"{one.more_seeds} more seeds, on studies of their own, would give a chance of 80 %" in told.details[-1]
    assert told.details[-1].endswith("bakeoff sweep sim workers=2 --more")


def test_the_plan_s_last_look_may_be_too_early(simulated: Callable[..., SweepResults]) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.0}, rng=np.random.default_rng(9), sd_run=0.05))
    assert told.grade == "under-powered"
    assert "The plan's last analysis, at 50 seeds, is too early" in told.details[-1]
    done = compute_verdict(simulated({"a": 0.0, "b": 0.0}, rng=np.random.default_rng(9), sd_run=0.05, seeds=50, planned=10))
    assert done.analyses == 5
    assert "The plan has no more seeds" in done.details[-1]


def test_a_look_that_is_not_complete_waits(simulated: Callable[..., SweepResults]) -> None:
    made = simulated({"a": 0.0, "b": 0.002}, rng=np.random.default_rng(10), seeds=14, planned=10)
    told = compute_verdict(made)
    assert (told.analyses, told.seeds) == (1, 10)
    assert {d.n for d in told.differences} == {10}
    assert told.details[-1].startswith("This is the verdict on the first 10 seeds; 8 runs of a later analysis are done")
    assert compute_verdict(simulated({"a": 0.0, "b": 0.002}, rng=np.random.default_rng(10), seeds=20, planned=10)).seeds == 20


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [10, 50])
def test_sweeps_of_identical_arms_get_a_winner_in_five_percent(simulated: Callable[..., SweepResults], seeds: int) -> None:
    """Stopping at the first look that names a winner, as somebody would who runs --more until there is one."""
    rng, times, named = np.random.default_rng(11), 150, 0
    for _ in range(times):
        made = simulated({"a": 0.0, "twin of a": 0.0, "b": 0.0}, rng=rng, trials=1, seeds=seeds, planned=10)
        named += any(d.grade == "supported" for d in compute_verdict(made).differences)
    assert named / times <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / times)
