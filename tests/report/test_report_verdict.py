"""The sentences: what they say, and above all what they do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from bakeoff.report.analysis import analyse
from bakeoff.report.design import extend_studies
from bakeoff.report.outcomes import is_guessing
from bakeoff.report.results import SweepResults
from bakeoff.report.tables import arms_table
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
    assert "n = 10 studies of 10 seeds" in told.details[0]


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
    assert f"a: {lost} of 8 tuning runs diverged; they count as the worst outcome." in compute_verdict(made).caveats
    assert (made.runs.loc[made.runs["state"] == "diverged", "score"] == 0).all()
    at_the_end = made.runs.copy()
    at_the_end.loc[at_the_end["arm"] == "b", "optimizer.lr"] = 0.9
    flags = [line for line in compute_verdict(dataclasses.replace(made, runs=at_the_end)).caveats if line.startswith("Edge")]
    assert any("b's chosen optimizer.lr is 0.9, at the high end of 0.0001 to 1" in line for line in flags)


def test_an_arm_does_not_win_a_loss_by_diverging(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": -0.2}, rng=rng, metric="val/loss")
    assert compute_verdict(made).winner == "b"
    runs = made.runs.copy()
    gone = runs.index[(runs["arm"] == "b") & (runs["stage"] == "confirm")][:3]
    runs.loc[gone, "state"] = "diverged"
    runs.loc[gone, "score"] = float("nan")
    told = compute_verdict(dataclasses.replace(made, runs=runs))
    assert (told.grade, told.winner) == ("under-powered", None)
    assert "but 3 of 10 of its studies failed, against 0 of 10 of a" in told.headline


def test_an_arm_without_a_score_is_named_as_left_out(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05, "c": 0.1}, rng=rng)
    runs = made.runs.copy()
    gone = (runs["arm"] == "c") & (runs["stage"] == "confirm")
    runs.loc[gone, "state"], runs.loc[gone, "score"] = "failed", float("nan")
    told = compute_verdict(dataclasses.replace(made, runs=runs))
    assert told.winner == "b"
    assert any("c: 10 of 10 confirm runs failed" in line for line in told.caveats)
    assert any("c is left out: it has no confirm score." in line for line in told.details)


def test_identical_arms_rarely_get_a_winner_from_end_to_end(simulated: Make) -> None:
    rng = np.random.default_rng(5)
    named = sum(
        compute_verdict(simulated({"a": 0.0, "b": 0.0, "c": 0.0}, rng=rng, trials=1, seeds=5)).winner is not None for _ in range(60)
    )
    assert named <= 7  # 5 % of 60 is 3; more than 7 has a chance of 1 %


def test_arms_that_were_tuned_once_get_no_winner(simulated: Make, rng: np.random.Generator) -> None:
    verdict = compute_verdict(simulated({"sgd": 0.0, "adam": 0.03}, rng=rng, studies=1))
    assert (verdict.grade, verdict.winner) == ("as tuned", None)
    assert verdict.headline.startswith("As tuned here, adam beats sgd by ")
    assert {pair.grade for pair in verdict.differences} == {"as tuned"}
    text = " ".join(verdict.details)
    assert "the luck of tuning is not included" in text and "another tuning would move an arm by up to" in text
    assert verdict.details[-1].endswith("bakeoff sweep sim workers=2 --more studies")
    tie = compute_verdict(simulated({"a": 0.0, "b": 0.0}, rng=rng, sd_run=0.0005, studies=1))
    assert (tie.grade, tie.winner) == ("tie as tuned", None)


def test_studies_that_were_added_make_it_a_claim_about_the_arms(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"sgd": 0.0, "adam": 0.03}, rng=rng, studies=1, seeds=18, planned=10)
    # The first study has 10 seeds, four more have two each.
    seeds = {1011 + i: 1051 + i for i in range(8)}
    confirm = made.runs["stage"] == "confirm"
    made.runs.loc[confirm, "seed"] = made.runs.loc[confirm, "seed"].replace(seeds)
    design = extend_studies(made.design, seeds=10, studies=5)
    assert design.sequential.sizes == (18, 28, 38, 48, 58) and design.sequential.units == (5, 10, 15, 20, 25)
    verdict = compute_verdict(dataclasses.replace(made, design=design))
    assert (verdict.grade, verdict.winner, verdict.seeds) == ("supported", "adam", 18)
    assert "n = 5 studies of 18 seeds in all" in verdict.details[0]


def test_an_arm_that_never_trained_loses(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05}, rng=rng, diverge=lambda arm, lr: arm == "a")
    runs = made.runs[(made.runs["arm"] == "b") | (made.runs["stage"] == "tune")]
    verdict = compute_verdict(dataclasses.replace(made, runs=runs))
    assert (verdict.grade, verdict.winner) == ("supported", "b")
    assert verdict.headline == "b wins: it trains, and a never did."
    assert "a loses to b: all 8 of its tuning runs diverged or failed" in verdict.details[1]
    few = runs[(runs["stage"] == "confirm") | (runs["point"] < 2)]
    design = dataclasses.replace(made.design, planned_arms=tuple(dataclasses.replace(arm, trials=2) for arm in made.design.planned_arms))
    assert compute_verdict(dataclasses.replace(made, runs=few, design=design)).winner is None


def test_an_arm_that_fails_more_often_is_no_winner_and_one_that_fails_less_wins_a_tie(simulated: Make, rng: np.random.Generator) -> None:
    def failing(effects: dict[str, float], arm: str, failed: int) -> SweepResults:
        made = simulated(effects, rng=rng, sd_run=0.0005, seeds=20)
        gone = made.runs.index[(made.runs["arm"] == arm) & (made.runs["stage"] == "confirm")][:failed]
        made.runs.loc[gone, "state"] = "diverged"
        made.runs.loc[gone, "score"] = 0.1
        return made

    leader = compute_verdict(failing({"a": 0.0, "b": 0.05}, "b", 2))
    assert (leader.winner, leader.headline) == (
        None,
        "No winner: b scores best where it learns, but 2 of 20 of its studies failed, against 0 of 20 of a.",
    )
    assert any("2 of 20 (95 % interval 1 to 32 %) of b" in line for line in leader.details)
    rival = compute_verdict(failing({"a": 0.0, "b": 0.05}, "a", 2))
    assert rival.winner == "b" and rival.differences[0].n == 18
    tied = compute_verdict(failing({"a": 0.0, "b": 0.0}, "a", 12))
    assert (tied.grade, tied.winner) == ("supported", "b")
    assert "by its fewer failures, at scores that are alike" in tied.headline
    assert any("b fails less often than a (exact paired test, p < 0.001)" in line for line in tied.details)


def with_predictions(made: SweepResults, accuracy: dict[str, float], *, images: int = 1000) -> SweepResults:
    """The sweep with predictions of so many images in ten classes, right with the arm's accuracy."""
    rng, target = np.random.default_rng(0), np.arange(images, dtype=np.uint8) % 10
    predictions = {}
    for at, row in made.runs[made.runs["stage"] == "confirm"].iterrows():
        right = rng.random(images) < accuracy[str(row["arm"])]
        predicted = np.where(right, target, (target + 1) % 10).astype(np.uint8)
        predictions[str(row["mlflow_id"])] = (predicted, target)
        made.runs.loc[at, "score"] = float((predicted == target).mean())
    return dataclasses.replace(made, test_predictions=predictions)


def test_a_sweep_at_chance_is_called_so(simulated: Make, rng: np.random.Generator) -> None:
    verdict = compute_verdict(with_predictions(simulated({"zeros": 0.0, "normal": 0.0}, rng=rng), {"zeros": 0.1, "normal": 0.1}))
    assert (verdict.grade, verdict.winner) == ("nothing learned", None)
    assert verdict.headline.startswith("Nothing learned: no run of zeros and normal is better than guessing.")
    assert "gives 10.20 %" in verdict.headline


def test_an_arm_at_chance_loses_to_one_that_learns(simulated: Make, rng: np.random.Generator) -> None:
    verdict = compute_verdict(with_predictions(simulated({"zeros": 0.0, "he": 0.0}, rng=rng), {"zeros": 0.1, "he": 0.9}))
    assert (verdict.grade, verdict.winner) == ("supported", "he")
    assert any("10 of 10 (95 % interval 69 to 100 %) of zeros" in line for line in verdict.details)
    assert "1,000 test images" in verdict.details[0]


def test_twins_are_said_to_be_twins(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.0, "c": -0.1}, rng=rng)
    confirm = made.runs["stage"] == "confirm"
    made.runs.loc[confirm & (made.runs["arm"] == "b"), "score"] = made.runs.loc[confirm & (made.runs["arm"] == "a"), "score"].to_numpy()
    verdict = compute_verdict(made)
    assert (verdict.grade, verdict.winner) == ("identical", None)
    assert verdict.headline.startswith("a and b are twins: their scores are identical in each of 10 runs")
    assert verdict.details[0] == "They are ahead of c."


def without_runs(made: SweepResults, gone: pd.Series[bool]) -> SweepResults:
    return dataclasses.replace(made, runs=made.runs[~gone])


def test_a_study_in_which_nothing_trained_counts_as_failed_and_does_not_hold_the_sweep_up(
    simulated: Make, rng: np.random.Generator
) -> None:
    made = simulated({"a": 0.0, "b": 0.05}, rng=rng, trials=20, seeds=10, studies=5)
    tune = made.runs["stage"] == "tune"
    made.runs.loc[tune, "study"] = made.runs.loc[tune, "point"] // 4
    lost = (made.runs["arm"] == "a") & (made.runs["study"] == 2)
    made.runs.loc[tune & lost, "state"] = "diverged"
    # Study 2 has the third and the eighth seed, and no setting to confirm on them.
    made = without_runs(made, (made.runs["arm"] == "a") & made.runs["seed"].isin([1003, 1008]))
    verdict = compute_verdict(made)
    assert (verdict.winner, verdict.analyses) == ("b", 1)
    assert any("1 of 5 (95 % interval 1 to 72 %) of a" in line for line in verdict.details)


def test_an_analysis_without_a_shared_seed_hides_no_later_one(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05}, rng=rng, seeds=20, planned=10)
    first = (made.runs["stage"] == "confirm") & (made.runs["arm"] == "a") & (made.runs["seed"] <= 1010)
    made.runs.loc[first, "state"], made.runs.loc[first, "score"] = "failed", float("nan")
    verdict = compute_verdict(made)
    assert (verdict.analyses, verdict.differences[0].n, verdict.differences[0].better) == (2, 10, "b")


def test_an_arm_that_trained_in_one_block_alone_does_not_lose_the_other(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05}, rng=rng, blocks=("easy", "hard"))
    hard = (made.runs["arm"] == "b") & (made.runs["block"] == "hard")
    made.runs.loc[hard & (made.runs["stage"] == "tune"), "state"] = "diverged"
    verdict = compute_verdict(without_runs(made, hard & (made.runs["stage"] == "confirm")))
    assert (verdict.winner, verdict.headline) == (None, "Nothing to compare: a alone has a confirm score in every block.")
    assert any(line.startswith("In easy: b beats a") for line in verdict.details)


def test_no_number_of_seeds_is_promised_where_the_test_images_are_too_few(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.0}, rng=rng, seeds=50, planned=10)
    target, predictions = np.arange(355, dtype=np.uint8) % 10, {}
    skill = {arm: np.random.default_rng(i).normal(0, 0.15, 355) for i, arm in enumerate("ab")}
    for at, row in made.runs[made.runs["stage"] == "confirm"].iterrows():
        right = np.random.default_rng([7, int(row["seed"])]).random(355) < 0.9 + skill[str(row["arm"])]
        predictions[str(row["mlflow_id"])] = (np.where(right, target, (target + 1) % 10).astype(np.uint8), target)
        made.runs.loc[at, "score"] = float(right.mean())
    verdict = compute_verdict(dataclasses.replace(made, test_predictions=predictions))
    assert verdict.grade == "under-powered" and verdict.winner is None
    assert "No number of seeds would do: the choice of 355 test images alone" in verdict.details[-1]


def test_untrained_nets_that_are_lucky_have_learned_nothing() -> None:
    """Images of one class get one prediction, so accuracies spread more than those of independent guesses."""
    rng, learned = np.random.default_rng(0), 0
    target = np.repeat(np.arange(10), 35)
    for _ in range(200):
        named = rng.integers(0, 10, 10)[target]
        learned += not is_guessing(np.where(rng.random(350) < 0.8, named, rng.integers(0, 10, 350)), target, alpha=0.05 / 20)
    assert learned <= 3
    assert not is_guessing(np.where(rng.random(350) < 0.5, target, rng.integers(0, 10, 350)), target, alpha=0.05 / 20)


def test_nothing_learned_in_one_block_is_said_there(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.05}, rng=rng, blocks=("easy", "hard"))
    gone = (made.runs["block"] == "hard") & (made.runs["stage"] == "confirm")
    made.runs.loc[gone, "state"], made.runs.loc[gone, "score"] = "diverged", 0.1
    verdict = compute_verdict(made)
    assert any(line.startswith("In hard: Nothing learned: every confirm run of a and b diverged or failed") for line in verdict.details)


def test_equal_scores_of_the_runs_that_survived_are_no_twins(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.0}, rng=rng)
    confirm = made.runs["stage"] == "confirm"
    made.runs.loc[confirm & (made.runs["arm"] == "b"), "score"] = made.runs.loc[confirm & (made.runs["arm"] == "a"), "score"].to_numpy()
    gone = made.runs.index[confirm & (made.runs["arm"] == "b")][:6]
    made.runs.loc[gone, "state"] = "diverged"
    verdict = compute_verdict(made)
    assert verdict.grade != "identical" and "twins" not in verdict.headline


def test_sections_rest_on_the_scores_of_the_verdict(simulated: Make, rng: np.random.Generator) -> None:
    made = simulated({"a": 0.0, "b": 0.03}, rng=rng)
    gone = made.runs.index[(made.runs["stage"] == "confirm") & (made.runs["arm"] == "a")][:4]
    made.runs.loc[gone, "state"], made.runs.loc[gone, "score"] = "diverged", 0.1
    analysis = analyse(made)
    (pair,) = analysis.verdict.differences
    assert abs(analysis.simultaneous[0].difference) == pytest.approx(pair.advantage, abs=0.01)
    table = arms_table(analysis)
    assert dict(zip(table["arm"], table["failed_units"], strict=True)) == {"a": 4, "b": 0}


def test_collapsed_runs_are_counted_and_not_averaged(simulated: Callable[..., SweepResults]) -> None:
    """Two runs of b end at .3 where the others reach .9: nearer to nothing than to the median of b."""

    def collapse(effects: dict[str, float], arm: str, runs: int) -> SweepResults:
        sweep = simulated(effects, rng=np.random.default_rng(3))
        rows = sweep.runs.index[(sweep.runs["arm"] == arm) & (sweep.runs["stage"] == "confirm")]
        table = sweep.runs.copy()
        table.loc[rows[:runs], "score"] = 0.3
        return dataclasses.replace(sweep, runs=table)

    without = compute_verdict(collapse({"a": 0.0, "b": 0.05}, "b", 0))
    assert (without.grade, without.winner) == ("supported", "b")
    assert any(
        "None of the studies failed. With 10 of each arm, a failure rate of up to 31 % is not ruled out." in d for d in without.details
    )
    verdict = compute_verdict(collapse({"a": 0.0, "b": 0.05}, "b", 2))
    assert verdict.winner is None
    assert verdict.headline.startswith("No winner: b scores best where it learns, but 2 of 10 of its studies failed, against 0 of 10 of a.")
    (difference,) = verdict.differences
    assert difference.n == 8
    assert difference.advantage == pytest.approx(0.05, abs=0.01)
    # An arm that is merely worse does not collapse: each run stands beside its own arm's.
    worse = compute_verdict(collapse({"a": 0.0, "b": 0.05}, "a", 10))
    assert worse.winner == "b"
    assert not any("collapsed" in detail for detail in worse.details)


def collapsing(sweep: SweepResults, scores: dict[str, list[float]], state: str = "finished") -> SweepResults:
    """The sweep with these scores, and this state, of the first confirm runs of some arms."""
    runs = sweep.runs.copy()
    for arm, first in scores.items():
        rows = runs.index[(runs["arm"] == arm) & (runs["stage"] == "confirm")][: len(first)]
        runs.loc[rows, "score"], runs.loc[rows, "state"] = first, state
    return dataclasses.replace(sweep, runs=runs)


def test_it_is_said_which_scores_are_compared(simulated: Make, rng: np.random.Generator) -> None:
    sweep = simulated({"a": 0.0, "b": 0.05}, rng=rng)
    some = " ".join(compute_verdict(collapsing(sweep, {"a": [0.1]}, "diverged")).details)
    assert "Scores are compared among the others." in some
    verdict = compute_verdict(collapsing(sweep, {"a": [0.1] * 10, "b": [0.1]}, "diverged"))
    (difference,) = verdict.differences
    assert difference.n == 10
    text = " ".join(verdict.details)
    assert "All scores are compared, because a never learned." in text
    assert "among the others" not in text


def test_a_leader_that_failed_once_asks_for_more_studies(simulated: Make, rng: np.random.Generator) -> None:
    verdict = compute_verdict(collapsing(simulated({"a": 0.0, "b": 0.05}, rng=rng), {"b": [0.1]}, "diverged"))
    assert verdict.winner is None
    assert verdict.details[-1].startswith("More studies would tell whether it fails more often: bakeoff sweep sim")


def test_an_arm_whose_confirm_runs_have_no_score_is_not_said_to_have_never_trained(simulated: Make, rng: np.random.Generator) -> None:
    def without_scores(studies: int | None) -> SweepResults:
        return collapsing(simulated({"a": 0.0, "b": 0.05}, rng=rng, studies=studies), {"a": [np.nan] * 10}, "failed")

    verdict = compute_verdict(without_scores(None))
    assert (verdict.grade, verdict.winner) == ("supported", "b")
    assert verdict.headline == "b wins: it trains, and the studies of a have no score."
    assert "Scores are compared" not in " ".join(verdict.details)
    once = compute_verdict(without_scores(1))
    assert (once.grade, once.winner) == ("as tuned", None)
    assert once.headline == "As tuned here, b trains and the runs of a have no score; another tuning may turn that around."


def test_a_diverged_run_is_not_quoted_as_the_best_that_learned_nothing(simulated: Make, rng: np.random.Generator) -> None:
    sweep = with_predictions(simulated({"a": 0.0, "b": 0.0}, rng=rng), {"a": 0.1, "b": 0.6})
    headline = compute_verdict(collapsing(sweep, {"b": [0.1] * 10}, "diverged")).headline
    assert headline.startswith("Nothing learned: no run of a and b that trained to its end is better than guessing. The best reaches 1")


def test_all_numbers_of_an_arm_rest_on_the_runs_that_are_compared(simulated: Make, rng: np.random.Generator) -> None:
    sweep = collapsing(simulated({"a": 0.0, "b": 0.0}, rng=rng), {"b": [0.3]})
    sweep.runs.loc[sweep.runs["score"] == 0.3, "tuned"] = 0.3
    (row,) = [row for row in arms_table(analyse(sweep)).to_dict("records") if row["arm"] == "b"]
    assert row["n"] == 9
    assert row["validation"] == pytest.approx(row["mean"] + 0.003)
    interim = dataclasses.replace(sweep, runs=sweep.runs[sweep.runs["seed"] != 1010])
    analysis = analyse(interim)
    (difference,) = analysis.verdict.differences
    assert analysis.verdict.grade == "interim"
    assert difference.n == analysis.arm_means["all"]["b"].n == 8
    design = dataclasses.replace(sweep.design, declared=False)
    pooled = analyse(dataclasses.replace(sweep, design=design))
    assert pooled.verdict.differences[0].n == pooled.arm_means["all"]["b"].n == 10
