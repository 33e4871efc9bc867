"""Every section's numbers against a computation of its own, on data with a known answer."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bakeoff.rendering.marks import Line
from bakeoff.report.analysis import analyse, section_tables
from bakeoff.report.budget import budgets
from bakeoff.report.design import PlannedArm, SearchRange
from bakeoff.report.figures import section_figures
from bakeoff.report.importance import tuning_importances
from bakeoff.report.narrative import section_sentences
from bakeoff.report.results import SweepResults
from bakeoff.report.sensitivity import regions
from bakeoff.report.survival import times_to_target
from bakeoff.stats.aggregates import COVERAGE, bootstrap_interval, interquartile_mean, interquartile_means, performance_profiles
from bakeoff.stats.factorial import factorial_anova
from bakeoff.stats.intervals import clopper_pearson
from bakeoff.stats.multiple_comparisons import dunnett_vs_baseline, tukey_all_pairs
from bakeoff.stats.paired import compare_pairs
from bakeoff.stats.ranks import critical_difference, mean_ranks

Make = Callable[..., SweepResults]


def scores_of(values: np.ndarray) -> dict[str, dict[str, dict[int, float]]]:
    """(blocks, arms, seeds) -> `Scores`."""
    return {f"block{b}": {f"arm{a}": dict(enumerate(map(float, row))) for a, row in enumerate(own)} for b, own in enumerate(values)}


def test_interquartile_mean_by_hand() -> None:
    means = interquartile_means(
        {"x": {"a": dict(enumerate([0.0, 1.0, 2.0, 100.0]))}, "y": {"a": dict(enumerate([3.0, 4.0, 5.0, 6.0]))}}, ["a"]
    )
    assert means[0].iqm == pytest.approx(np.mean([2.0, 3.0, 4.0, 5.0]))  # two of eight are cut at either end
    assert means[0].low is not None
    assert means[0].high is not None
    assert means[0].low < 3.5 < means[0].high
    assert interquartile_means({"x": {"a": {1: 0.5}}, "y": {"a": {}}}, ["a"]) == ()


def test_stratified_bootstrap_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    strata = [rng.normal(0, 1, 10), rng.normal(5, 1, 10)]
    draws = [float(interquartile_mean(*(rng.choice(sample, len(sample)) for sample in strata))) for _ in range(1500)]
    assert bootstrap_interval(strata) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.1)
    assert bootstrap_interval(strata) == bootstrap_interval(strata)


@pytest.mark.slow
def test_coverage_of_the_bootstrap_is_as_recorded() -> None:
    rng, times = np.random.default_rng(1), 400
    intervals = (bootstrap_interval([rng.normal(0, 1, 10)], seed=i) for i in range(times))
    held = sum(low <= 0.0 <= high for low, high in intervals)
    assert held / times == pytest.approx(COVERAGE[10, 1], abs=0.045)


def test_profiles_count_runs() -> None:
    values = np.random.default_rng(2).normal(size=(2, 2, 8))
    for profile in performance_profiles(scores_of(values), ["arm0", "arm1"], goal="minimize"):
        scores = values[:, int(profile.arm[-1])].ravel()
        assert profile.share == pytest.approx([float((scores <= level).mean()) for level in profile.levels])
        middle = len(profile.levels) // 2
        hits = round(profile.share[middle] * 16)
        interval = stats.binomtest(hits, 16).proportion_ci(0.95, method="exact")
        assert [profile.low[middle], profile.high[middle]] == pytest.approx([interval.low, interval.high])


def test_probability_of_being_ahead_is_binomial() -> None:
    gaps = [1.0, 2.0, -1.0, 3.0, 0.5, 0.7, 4.0, 1.0]
    scores = {"all": {"a": dict(enumerate(gaps)), "b": dict.fromkeys(range(8), 0.0)}}
    (pair,) = compare_pairs(scores, ["a", "b"], goal="maximize", margin=0.1)
    interval = stats.binomtest(7, 8).proportion_ci(0.95, method="exact")
    assert [pair.ahead, pair.ahead_low, pair.ahead_high] == pytest.approx([7 / 8, interval.low, interval.high])
    low, high = clopper_pearson(np.array([0.0, 5.0]), 5)
    assert (low[0], high[1]) == (0.0, 1.0)


def test_permutation_p_by_hand() -> None:
    gaps = [0.3, 0.5, -0.1, 0.4, 0.2]
    (pair,) = compare_pairs(
        {"all": {"a": dict(enumerate(gaps)), "b": dict.fromkeys(range(5), 0.0)}}, ["a", "b"], goal="maximize", margin=0.1
    )
    flips = [abs(np.dot(signs, gaps)) >= abs(sum(gaps)) - 1e-12 for signs in itertools.product([1, -1], repeat=5)]
    assert pair.p_permutation == pytest.approx(np.mean(flips))


def test_families_are_signed_so_that_positive_is_better() -> None:
    values = np.random.default_rng(3).normal(size=(3, 8)) + np.array([[0.0], [2.0], [-2.0]])
    table = {f"arm{i}": dict(enumerate(map(float, row))) for i, row in enumerate(values)}
    comparisons = {(pair.arm, pair.against): pair for pair in tukey_all_pairs("all", table, list(table), goal="minimize")}
    assert set(comparisons) == {("arm2", "arm0"), ("arm2", "arm1"), ("arm0", "arm1")}
    assert comparisons["arm2", "arm1"].difference == pytest.approx(values[1].mean() - values[2].mean())
    q = comparisons["arm2", "arm1"].difference / math.sqrt(np.mean(values.var(axis=1, ddof=1)) / 8)
    assert comparisons["arm2", "arm1"].p == pytest.approx(stats.studentized_range.sf(q, 3, 21), abs=1e-8)
    (first, _) = dunnett_vs_baseline("all", table, "arm0", goal="minimize")
    assert (first.arm, first.against) == ("arm1", "arm0")
    assert first.high < 0
    assert tukey_all_pairs("all", {"a": {1: 1.0, 2: 1.0}, "b": {1: 1.0, 2: 1.0}}, ["a", "b"], goal="maximize") == ()


def test_ranks_are_demsar_s() -> None:
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)  # Demsar 2006, section 3.2.2: 2.569 sqrt(4 * 5 / (6 * 14))
    values = np.random.default_rng(4).normal(size=(6, 3, 4)) + np.array([[[0.0], [3.0], [3.0]]])
    ranks = mean_ranks(scores_of(values), ["arm0", "arm1", "arm2"], goal="maximize")
    assert ranks is not None
    means = values.mean(axis=2)
    places = stats.rankdata(-means, axis=1).mean(axis=0)
    assert (ranks.unit, ranks.rankings) == ("block", 6)
    assert dict(zip(ranks.arms, ranks.ranks, strict=True)) == pytest.approx({f"arm{i}": places[i] for i in range(3)})
    assert ranks.p == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    assert ranks.arms[-1] == "arm0"
    assert ("arm1" in ranks.cliques[0]) and ("arm2" in ranks.cliques[0])
    ranks_of_seeds = mean_ranks(scores_of(values[:2]), ["arm0", "arm1", "arm2"], goal="maximize")
    assert ranks_of_seeds is not None
    assert (ranks_of_seeds.unit, ranks_of_seeds.rankings) == ("seed", 8)
    assert mean_ranks(scores_of(values[:, :2]), ["arm0", "arm1"], goal="maximize") is None


def test_factorial_by_hand() -> None:
    """A balanced 2 x 3 with seeds as blocks: sums of squares from the cell means."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2, 3, 5)) + np.array([0.0, 1.5])[:, None, None]
    table = {f"{i}{j}": dict(enumerate(map(float, values[i, j]))) for i in range(2) for j in range(3)}
    choices = {f"{i}{j}": {"opt": f"o{i}", "init": f"i{j}"} for i in range(2) for j in range(3)}
    anova = factorial_anova("all", table, choices, ["opt", "init"])
    assert anova is not None
    grand, cells = values.mean(), values.mean(axis=2)
    a, b = values.mean(axis=(1, 2)) - grand, values.mean(axis=(0, 2)) - grand
    both = cells - grand - a[:, None] - b[None, :]
    squares = {"opt": 15 * (a**2).sum(), "init": 10 * (b**2).sum(), "opt x init": 5 * (both**2).sum()}
    seeds = 6 * ((values.mean(axis=(0, 1)) - grand) ** 2).sum()
    residual = ((values - grand) ** 2).sum() - sum(squares.values()) - seeds
    assert anova.residual_df == 30 - 6 - 4
    for row in anova.effects:
        assert row.sum_of_squares == pytest.approx(squares[row.name])
        assert row.f == pytest.approx(squares[row.name] / row.df / (residual / 20))
        assert row.p == pytest.approx(stats.f.sf(row.f, row.df, 20))
        assert row.share == pytest.approx(squares[row.name] / (squares[row.name] + residual))
    assert {(row.factor, row.value): row.interval.mean for row in anova.levels}["opt", "o1"] == pytest.approx(values[1].mean())
    assert factorial_anova("all", table, {arm: {"opt": "same", "init": c["init"]} for arm, c in choices.items()}, ["opt", "init"]) is None


def tuned(
    make_columns: Callable[[np.random.Generator], dict[str, np.ndarray]], simulated: Make, *, keys: tuple[str, ...], trials: int
) -> SweepResults:
    """A sweep of one arm with these tuned keys, each in 1e-4..1 on a log scale."""
    sweep = simulated({"a": 0.0, "b": 0.0}, rng=np.random.default_rng(6), trials=trials, seeds=2)
    columns = make_columns(np.random.default_rng(7))
    runs = sweep.runs[(sweep.runs["arm"] == "a") & (sweep.runs["stage"] == "tune")].reset_index(drop=True).assign(**columns)
    cell = PlannedArm("a", "all", dict.fromkeys(keys, SearchRange(1e-4, 1.0, True)), trials)
    return dataclasses.replace(sweep, design=dataclasses.replace(sweep.design, arms=("a",), planned_arms=(cell,)), runs=runs)


def test_the_key_that_matters_is_found(simulated: Make) -> None:
    def make_columns(rng: np.random.Generator) -> dict[str, np.ndarray]:
        lr, wd = 10 ** rng.uniform(-4, 0, 60), 10 ** rng.uniform(-4, 0, 60)
        return {"optimizer.lr": lr, "optimizer.weight_decay": wd, "score": 0.9 - 0.1 * (np.log10(lr) + 2) ** 2 + rng.normal(0, 0.005, 60)}

    (importance,) = tuning_importances(tuned(make_columns, simulated, keys=("optimizer.lr", "optimizer.weight_decay"), trials=60))
    shares = dict(importance.shares)
    assert importance.n == 60
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["optimizer.lr"] > 0.8


def test_region_of_a_known_bowl(simulated: Make) -> None:
    def make_columns(rng: np.random.Generator) -> dict[str, np.ndarray]:
        lr = np.logspace(-4, 0, 81)
        return {"optimizer.lr": lr, "score": 0.9 - 0.02 * (np.log10(lr) + 2) ** 2}

    (region,) = regions(tuned(make_columns, simulated, keys=("optimizer.lr",), trials=81))
    assert region.best == pytest.approx(0.01)
    assert region.width == pytest.approx(2 * math.sqrt(0.005 / 0.02), abs=0.03)  # the margin is 0.005
    assert region.third == pytest.approx(0.02 * math.log10(3) ** 2, abs=1e-4)
    assert region.triple == pytest.approx(region.third, abs=1e-4)
    assert not region.open_low
    assert not region.open_high


def test_an_arm_overtakes_and_learning_samplers_are_refused(simulated: Make) -> None:
    sweep = simulated({"a": 0.0, "b": 0.3}, rng=np.random.default_rng(10), trials=24, base=0.5)
    results = budgets(sweep)
    assert [(overtake.better, overtake.worse) for overtake in results.overtakes] == [("b", "a")]
    assert 1 <= results.overtakes[0].budget <= results.overtakes[0].until < 24
    tpe, grid = (dataclasses.replace(sweep.design, sampler=sampler) for sampler in ("tpe", "grid"))
    for design, word in ((tpe, "tpe"), (grid, "grid"), (dataclasses.replace(sweep.design, pruner="median"), "median")):
        refused = budgets(dataclasses.replace(sweep, design=design))
        assert refused.curves == ()
        assert word in refused.missing


def test_time_to_target_with_runs_that_never_get_there(simulated: Make) -> None:
    sweep = simulated({"a": 0.0, "b": 0.05}, rng=np.random.default_rng(11), curves=True)
    runs = sweep.runs.copy()
    diverged = runs.index[(runs["arm"] == "b") & (runs["stage"] == "confirm")][0]
    runs.loc[diverged, "state"] = "diverged"
    runs["batch"] = 64.0
    by_unit = {times.unit: times for times in times_to_target(dataclasses.replace(sweep, runs=runs))}
    steps = by_unit["steps"]
    b = next(arm for arm in steps.arms if arm.arm == "b")
    assert (b.n, b.reached) == (10, 9)
    assert b.median is not None
    # Kaplan-Meier by hand, without ties in time of events and losses: every loss is at the last step.
    curves = sweep.curves[
        (sweep.curves["metric"] == "val/accuracy") & (sweep.curves["value"] >= steps.target) & (sweep.curves["arm"] == "b")
    ]
    at = curves.groupby("id")["step"].min().drop(runs.loc[diverged, "id"], errors="ignore")
    assert [1 - (at <= t).sum() / 10 for t in b.times] == pytest.approx(list(b.waiting))
    images = next(arm for arm in by_unit["images"].arms if arm.arm == "b")
    assert images.median == pytest.approx(64 * b.median)
    assert steps.pairs[0].faster == "b"


def test_the_target_does_not_depend_on_confirm_runs(simulated: Make) -> None:
    sweep = simulated({"a": 0.0, "b": 0.05, "c": 0.02}, rng=np.random.default_rng(11), curves=True)
    trials = [sweep.best_trial(arm, "all") for arm in "abc"]
    expected = float(np.median([trial["score"] for trial in trials if trial is not None])) - sweep.design.margin
    worse = dataclasses.replace(sweep, curves=sweep.curves.assign(value=sweep.curves["value"] - 0.1))
    for results in (sweep, worse, sweep.first_seeds(4)):
        assert {times.target for times in times_to_target(results)} == {expected}
    assert "fixed before the first confirm run" in section_sentences(analyse(sweep))["target"][0]


def test_without_tuning_runs_there_is_no_log_rank_test(simulated: Make) -> None:
    sweep = simulated({"a": 0.0, "b": 0.05}, rng=np.random.default_rng(11), curves=True)
    analysis = analyse(dataclasses.replace(sweep, runs=sweep.stage_runs("confirm")))
    assert analysis.targets and not any(times.pairs for times in analysis.targets)
    (sentence,) = section_sentences(analysis)["target"]
    assert sentence.endswith("which allows no test.")


def test_budget_curves_of_arms_whose_losses_diverged(simulated: Make) -> None:
    """A loss has no worst value: the median of few runs is unknown where most diverged."""
    sweep = simulated(
        {"a": 0.0, "b": 0.0}, rng=np.random.default_rng(13), metric="val/loss", diverge=lambda arm, lr: arm == "b" and lr > 1e-3
    )
    curves = {curve.arm: curve for curve in budgets(sweep).curves}
    assert curves["b"].median[0] is None and None not in curves["a"].median
    figure = next(figure for figure in section_figures(analyse(sweep)) if figure.name == "budget")
    assert all(math.isfinite(y) for mark in figure.marks if isinstance(mark, Line) for y in mark.y)


def test_one_analysis_has_all(simulated: Make) -> None:
    sweep = simulated({"a": 0.0, "b": 0.02, "c": 0.01}, rng=np.random.default_rng(12), blocks=("one", "two"), curves=True)
    analysis = analyse(sweep)
    assert analysis.blocks == ("all blocks", "one", "two")
    assert set(analysis.arm_means) == set(analysis.blocks)
    assert {"aggregates", "families", "ranks", "profiles", "budget", "targets", "logrank", "regions"} <= set(section_tables(analysis))
    assert all(isinstance(rows, pd.DataFrame) and len(rows) for rows in section_tables(analysis).values())
    assert all(line.endswith(".") for lines in section_sentences(analysis).values() for line in lines)


def test_a_complement_s_places_and_edges_are_those_of_one_less_x() -> None:
    from bakeoff.report.design import SearchRange

    space = SearchRange(0.7, 0.995, complement=True)
    assert [space.position(x) for x in (0.7, 1 - (0.3 * 0.005) ** 0.5, 0.995)] == pytest.approx([0.0, 0.5, 1.0])
    assert space.near_edge(0.993) == "high" and space.near_edge(0.98) is None and space.near_edge(0.72) == "low"
