"""The sentences: what they say, and above all what they do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from bakeoff.report.results import SweepResults
from bakeoff.report.verdict import compute_verdict

Make = Callable[..., SweepResults]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_a_clear_winner_is_named_with_its_evidence(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"sgd": 0.0, "adam": 0.03}, rng=rng))
    assert (told.grade, told.winner) == ("supported", "adam")
    assert told.headline.startswith("adam beats sgd by ")
    assert "95 % interval of the paired difference" in told.details[0]
    assert "n = 10 seeds" in told.details[0]


def test_no_winner_where_the_interval_has_zero(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"sgd": 0.0, "adam": 0.0}, rng=rng, sd_run=0.03))
    assert (told.grade, told.winner) == ("under-powered", None)
    assert told.headline.startswith("No winner: these runs cannot tell ")
    assert "more seed" in told.details[-1]
    assert not any(" beats " in line for line in (told.headline, *told.details))


def test_the_best_of_many_must_be_ahead_of_each(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.05, "c": 0.05, "d": -0.05}, rng=rng, sd_run=0.01))
    assert told.winner is None
    assert "a and d are each behind" in " ".join(told.details) or "d and a are each behind" in " ".join(told.details)
    won = compute_verdict(simulated({"a": 0.0, "b": 0.05, "c": 0.02}, rng=rng))
    assert won.winner == "b"
    assert "the best of the 3 arms" in won.headline
    assert "closest rival, c" in won.headline


def test_a_tie_is_told_as_one(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.0}, rng=rng, sd_run=0.0005))
    assert (told.grade, told.winner) == ("tie", None)
    assert "less than the margin of 0.50 points" in told.headline


def test_tuning_alone_is_exploratory(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.3}, rng=rng, seeds=0, planned=5))
    assert (told.grade, told.winner, told.differences) == ("exploratory", None, ())
    assert "Tuned scores are optimistic" in told.details[0]
    assert "16 of 16 tuning runs" in told.headline


def test_a_part_of_the_seeds_names_nobody(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.3}, rng=rng, seeds=4, planned=10))
    assert (told.grade, told.winner) == ("interim", None)
    assert "8 of 20 confirm runs are done" in told.headline
    assert {d.grade for d in told.differences} == {"interim"}


def test_a_single_seed_has_no_interval_and_no_winner(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.3}, rng=rng, seeds=1))
    assert told.winner is None
    assert "a single shared seed gives no interval" in told.details[0]


def test_blocks_each_get_a_sentence(simulated: Make, rng: np.random.Generator) -> None:
    told = compute_verdict(simulated({"a": 0.0, "b": 0.05}, rng=rng, blocks=("alexnet", "vgg11")))
    assert told.winner == "b"
    assert [line.split(":")[0] for line in told.details[-2:]] == ["In alexnet", "In vgg11"]
    assert any("says nothing about others" in line for line in told.caveats)


def test_edge_and_divergence_are_flagged(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05}, rng=rng, diverge=lambda arm, lr: arm == "a" and lr > 0.05)
    lost = int(((made.runs["arm"] == "a") & (made.runs["state"] == "diverged")).sum())
    assert lost > 0
    assert f"a: {lost} of 8 tuning runs diverged and count as the worst outcome." in compute_verdict(made).caveats
    assert (made.runs.loc[made.runs["state"] == "diverged", "score"] == 0).all()
    at_the_end = made.runs.copy()
    at_the_end.loc[(at_the_end["arm"] == "b") & (at_the_end["stage"] == "tune"), "optimizer.lr"] = 0.9
    flags = [line for line in compute_verdict(dataclasses.replace(made, runs=at_the_end)).caveats if line.startswith("Edge")]
    assert any("b's best optimizer.lr is 0.9, at the high end of 0.0001 to 1" in line for line in flags)


def test_an_arm_does_not_win_a_loss_by_diverging(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": -0.2}, rng=rng, metric="val/loss")
    assert compute_verdict(made).winner == "b"
    runs = made.runs.copy()
    gone = runs.index[(runs["arm"] == "b") & (runs["stage"] == "confirm")][:3]
    runs.loc[gone, "state"] = "diverged"
    runs.loc[gone, "score"] = float("nan")
    told = compute_verdict(dataclasses.replace(made, runs=runs))
    assert (told.grade, told.winner) == ("unknown", None)
    assert "some of its confirm runs diverged" in told.headline


def test_an_arm_without_a_score_is_named_as_left_out(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05, "c": 0.1}, rng=rng)
    runs = made.runs.copy()
    gone = (runs["arm"] == "c") & (runs["stage"] == "confirm")
    runs.loc[gone, "state"], runs.loc[gone, "score"] = "failed", float("nan")
    told = compute_verdict(dataclasses.replace(made, runs=runs))
    assert told.winner == "b"
    assert any("c: 10 of 10 confirm runs failed" in line for line in told.caveats)
    assert any("the verdict says nothing about it" in line for line in told.caveats)


def test_identical_arms_rarely_get_a_winner_from_end_to_end(simulated: Make) -> None:
    rng = np.random.default_rng(5)
    named = sum(
        compute_verdict(simulated({"a": 0.0, "b": 0.0, "c": 0.0}, rng=rng, trials=1, seeds=5)).winner is not None for _ in range(60)
    )
    assert named <= 7  # 5 % of 60 is 3; more than 7 has a chance of 1 %
