"""Repeated tuning: its share of the variance against other estimators, and comparisons that do not take its luck for an arm's worth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bakeoff.report.analysis import analyse, section_tables
from bakeoff.report.narrative import section_sentences
from bakeoff.report.results import SweepResults
from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.intervals import clustered_mean_interval
from bakeoff.stats.paired import compare_pairs
from bakeoff.stats.repeated_intervals import repeated_confidence_intervals, unit_means
from bakeoff.stats.variance_components import variance_components

STUDIES, EACH = 6, 5


def groups(rng: np.random.Generator, *, tuning: float, seed: float = 1.0, studies: int = STUDIES, each: int = EACH) -> np.ndarray:
    return rng.normal(0, tuning, (studies, 1)) + rng.normal(0, seed, (studies, each))


def test_components_are_those_of_restricted_likelihood() -> None:
    """For groups of one size both give the same where the part between them is not cut off at 0 (Searle et al. 1992, section 4.8)."""
    import statsmodels.formula.api as smf

    values = groups(np.random.default_rng(3), tuning=1.5)
    frame = pd.DataFrame({"y": values.ravel(), "g": np.repeat(np.arange(STUDIES), EACH)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = smf.mixedlm("y ~ 1", frame, groups=frame["g"]).fit(reml=True)
    told = variance_components([list(row) for row in values])
    assert told is not None
    assert told[0] ** 2 == pytest.approx(theirs.scale, rel=1e-3)
    assert told[1] ** 2 == pytest.approx(float(theirs.cov_re.iloc[0, 0]), rel=1e-3)
    assert told[5] == pytest.approx(float(frame_anova(frame)), rel=1e-9)


def frame_anova(frame: pd.DataFrame) -> float:
    from scipy import stats

    return float(stats.f_oneway(*(part["y"] for _, part in frame.groupby("g"))).pvalue)


def test_the_interval_of_tuning_s_share_holds_the_truth() -> None:
    rng, held, times, sum_of_squares = np.random.default_rng(4), 0, 2000, 0.0
    for _ in range(times):
        told = variance_components(groups(rng, tuning=0.7).tolist())
        assert told is not None
        held += told[3] <= 0.49 / 1.49 <= told[4]
        sum_of_squares += told[0] ** 2
    assert held / times == pytest.approx(0.95, abs=0.012)
    assert sum_of_squares / times == pytest.approx(1.0, abs=0.02)


def test_groups_of_unequal_size_give_the_truth_on_average() -> None:
    rng = np.random.default_rng(5)
    each = [variance_components([row[: 2 + i].tolist() for i, row in enumerate(groups(rng, tuning=2.0))]) for _ in range(1500)]
    assert np.mean([one[1] ** 2 for one in each if one is not None]) == pytest.approx(4.0, abs=0.15)


def test_too_little_gives_nothing() -> None:
    assert (
        variance_components([[0.5], [0.6]]) is None
        and variance_components([[0.5, 0.6]]) is None
        and variance_components([[0.5, 0.5], [0.5, 0.5]]) is None
    )


@pytest.mark.parametrize(("tuning", "studies"), [(0.0, 3), (1.0, 3), (3.0, 2), (1.0, 5)])
def test_the_luck_of_tuning_is_called_a_difference_in_five_per_cent_of_sweeps(tuning: float, studies: int) -> None:
    """Two arms of equal worth, tuned several times each, over five looks: seeds alone would call far more."""
    rng, pairs, looks = np.random.default_rng(6), 20_000, SequentialDesign((10, 20, 30, 40, 50), studies)
    luck = rng.normal(0, tuning, (pairs, studies))[:, np.arange(50) % studies]
    gaps = luck + rng.normal(0, 1.0, (pairs, 50))
    told = repeated_confidence_intervals(gaps, looks)
    outside = float(((told.low > 0) | (told.high < 0)).mean())
    assert float((told.p < 0.05).mean()) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / pairs) and outside <= 0.054
    if tuning:
        assert float((repeated_confidence_intervals(gaps, SequentialDesign(looks.sizes)).p < 0.05).mean()) > 0.2


def test_a_study_counts_once() -> None:
    assert unit_means(np.array([[1.0, 10.0, 3.0, math.nan]]), SequentialDesign((4,), 2)) == pytest.approx(np.array([[2.0, 10.0]]))
    looks = SequentialDesign((6,), 3)
    table = {"all": {"a": {1: 3.0, 2: 5.0, 3: 7.0, 4: 3.2, 5: 5.2, 6: 7.2}, "b": dict.fromkeys(range(1, 7), 1.0)}}
    (one,) = compare_pairs(table, ["a", "b"], goal="maximize", margin=0.1, design=looks, seed_order=range(1, 7))
    assert (one.n, one.studies) == (6, 3) and one.sd == pytest.approx(2.0)
    assert one.advantage == pytest.approx(4.1) and one.p_permutation == pytest.approx(0.25)
    told = clustered_mean_interval(table["all"]["a"], {seed: looks.study_at(place) for place, seed in enumerate(range(1, 7))})
    assert told.n == 6 and one.low is not None and told.low is not None and one.low <= told.low - 1.0 + 1e-9


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_more_studies_bring_the_power_whatever_the_share_of_tuning(share: float) -> None:
    rng, design = np.random.default_rng(7), SequentialDesign.growing((20, 40, 60, 80, 100), 10)
    luck, noise = rng.normal(0, math.sqrt(share), 10), rng.normal(0, math.sqrt(2 * (1 - share)), 20)
    studies = np.array([design.study_at(position) for position in range(20)])
    gaps = noise + luck[studies]
    gaps += 0.5 - gaps.mean()
    scores = {"all": {"a": dict(enumerate(gaps.tolist())), "b": dict.fromkeys(range(20), 0.0)}}
    (pair,) = compare_pairs(scores, ["a", "b"], goal="maximize", margin=0.1, design=design, seed_order=range(20))
    assert pair.grade == "under-powered" and pair.studies == 10
    assert pair.more_seeds is not None and pair.n + pair.more_seeds in design.sizes


def test_studies_that_grow_with_the_analyses_keep_the_error() -> None:
    """Two arms of equal worth, whose tuning varies as much as their seeds, stopping at the first analysis that finds a difference."""
    rng, pairs, design = np.random.default_rng(9), 20_000, SequentialDesign.growing((10, 20, 30, 40, 50), 5)
    assert design.units == (5, 10, 15, 20, 25)
    studies = np.array([design.study_at(position) for position in range(50)])
    gaps = rng.normal(0, 1.0, (pairs, 25))[:, studies] + rng.normal(0, 1.0, (pairs, 50))
    called = float((repeated_confidence_intervals(gaps, design).p < 0.05).mean())
    assert 0.03 < called <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / pairs)


def test_a_report_tells_tuning_from_seeds(simulated: Callable[..., SweepResults], plan_of: Callable[..., dict[str, Any]]) -> None:
    from dataclasses import replace

    sweep = simulated({"adam": 0.0, "sgd": 0.0}, rng=np.random.default_rng(8), seeds=12, studies=1)
    plain = analyse(sweep)
    assert not plain.tuning_variances and "once" in section_sentences(plain)["tuning"][0] and "tuning_variance" not in section_tables(plain)
    found = analyse(replace(sweep, design=replace(sweep.design, sequential=replace(sweep.design.sequential, studies=3))))
    assert [(one.arm, one.studies, one.n) for one in found.tuning_variances] == [("adam", 3, 12), ("sgd", 3, 12)]
    assert (
        len(section_tables(found)["tuning_variance"]) == 2
        and "tuning again moves test accuracy by" in section_sentences(found)["tuning"][0]
    )
    assert any("a study counts once" in note for note in found.verdict.caveats)
    assert "n = 3 studies of 12 seeds in all" in " ".join(found.verdict.details)
