"""How long confirm runs take to reach a target, with those that never do counted as such."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bakeoff.report.results import SweepResults
from bakeoff.stats.scores import goal_sign
from bakeoff.stats.survival import CensoredTimes, LogRankTest, kaplan_meier, log_rank_tests

Unit = Literal["steps", "images", "seconds"]


@dataclass(frozen=True)
class Reach:
    """How an arm's confirm runs reach the target: Kaplan and Meier's share that has not, after each of `times`, with its 95 % band.

    `median` is the time by which half of the runs have; None where fewer do. `reached` of `n` runs do within their budget.
    """

    arm: str
    n: int
    reached: int
    median: float | None
    times: tuple[float, ...]
    waiting: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class TimeToTarget:
    """One block in one unit. `target` is the value of `metric` to be reached.

    `fixed_before` says whether the tuning runs gave the target; one from the confirm runs themselves would make the log-rank test find
    too many differences, so then there are no `pairs`.
    """

    block: str
    unit: Unit
    metric: str
    target: float
    fixed_before: bool
    arms: tuple[Reach, ...]
    pairs: tuple[LogRankTest, ...]

    @property
    def origin(self) -> str:
        """Where the target comes from, in a sentence."""
        if self.fixed_before:
            return (
                "The target was fixed before the first confirm run: the median over the arms of the best tuning score, made easier by the "
                "margin."
            )
        return "Without tuning runs the target is the median of these runs' last values, which allows no test."


def times_to_target(sweep: SweepResults) -> tuple[TimeToTarget, ...]:
    """For every block with curves of confirm runs: steps, images and seconds until the metric of tuning reaches a target.

    The target is the median over the arms of the best tuning score, less the plan's margin. Runs that do not reach it are censored at the
    end of their budget; runs that diverge never reach it. Seconds are at the run's own mean speed, validation included.
    """
    results: list[TimeToTarget] = []
    for block in sweep.design.blocks:
        curves, runs = _confirm_curves(sweep, block)
        if curves.empty:
            continue
        tuned = _tuned_target(sweep, block)
        target = tuned if tuned is not None else _median_last_value(curves, runs)
        if target is None:
            continue
        table = first_steps(curves, runs, target=target, sign=goal_sign(sweep.design.goal))
        units: dict[Unit, pd.Series[float]] = {"steps": pd.Series(1.0, table.index), "images": table["batch"], "seconds": table["pace"]}
        for unit, per_step in units.items():
            rows = table.assign(time=table["time"] * per_step)[per_step > 0]
            samples = _samples(rows, sweep.design.arms)
            if len(samples) > 1:
                tested = _independent(sweep, rows, runs)
                pairs = log_rank_tests(_samples(tested, sweep.design.arms)) if tuned is not None else ()
                reaches = tuple(_reach(arm, sample) for arm, sample in samples.items())
                results.append(TimeToTarget(block, unit, sweep.design.metric, target, tuned is not None, reaches, pairs))
    return tuple(results)


def _samples(rows: pd.DataFrame, arms: Sequence[str]) -> dict[str, CensoredTimes]:
    """The times of each arm that has two runs or more."""
    by_arm = {arm: rows[rows["arm"] == arm] for arm in arms}
    return {
        arm: CensoredTimes(own["time"].to_numpy(dtype=float), own["reached"].to_numpy(dtype=bool))
        for arm, own in by_arm.items()
        if len(own) > 1
    }


def _independent(sweep: SweepResults, rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first seed of each study, since seeds of one study share its setting; all rows where each arm is tuned once."""
    sequential = sweep.design.sequential
    if not sequential.has_studies:
        return rows
    first = {sequential.study_at(position): seed for position, seed in reversed(list(enumerate(sweep.seed_order)))}
    return rows[runs["seed"].reindex(rows.index).isin(list(first.values()))]


def _confirm_curves(sweep: SweepResults, block: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The confirm runs of a block that finished or diverged, by id, and their curves of the tuning metric."""
    curves, runs = sweep.curves, sweep.stage_runs("confirm")
    runs = runs[(runs["block"] == block) & runs["state"].isin(["finished", "diverged"])].set_index("id")
    curves = curves[(curves["metric"] == sweep.design.metric) & curves["id"].isin(runs.index)]
    return curves.sort_values(["id", "step"], kind="stable"), runs


def _tuned_target(sweep: SweepResults, block: str) -> float | None:
    """The median over the arms of the best score of a tuning run for the first analysis, made easier by the margin; None without one."""
    tuned = sweep.first_seeds(sweep.design.sequential.sizes[0]) if sweep.design.declared else sweep
    trials = [tuned.best_trial(arm, block) for arm in sweep.design.arms]
    scores = [float(trial["score"]) for trial in trials if trial is not None and trial["state"] == "finished"]
    return statistics.median(scores) - goal_sign(sweep.design.goal) * sweep.design.margin if scores else None


def _median_last_value(curves: pd.DataFrame, runs: pd.DataFrame) -> float | None:
    """The median over the arms of their finished runs' median last value; None where none finished."""
    last = curves.groupby("id")["value"].last()
    last = last[runs["state"].reindex(last.index) == "finished"]
    target = float(last.groupby(runs["arm"].reindex(last.index)).median().median())
    return target if math.isfinite(target) else None


def first_steps(curves: pd.DataFrame, runs: pd.DataFrame, *, target: float, sign: float) -> pd.DataFrame:
    """When each run reaches a target.

    Args:
        curves: the curves of one metric, in the order of the steps.
        runs: the runs, by id.
        target: the value to be reached.
        sign: 1 where larger values are better, else -1.

    Returns:
        One row per run: arm, time (the first step that reaches the target, or else the end of its budget), reached, batch (images per
        step) and pace (seconds per step).
    """
    first = curves[sign * curves["value"] >= sign * target].groupby("id")["step"].first().reindex(runs.index)
    first = first.where(runs["state"] == "finished")
    ends = curves.groupby("id")["step"].last()
    # A run that stopped early has not been seen to the end of its budget, and still never reaches the target.
    budget = ends.reindex(runs.index).clip(lower=ends.max()).fillna(ends.max())
    pace = (runs["seconds"] / ends.reindex(runs.index)).where(runs["state"] == "finished")
    table = pd.DataFrame({"arm": runs["arm"], "time": first.fillna(budget), "reached": first.notna(), "batch": runs["batch"]})
    return table.assign(pace=pace.fillna(pace.groupby(runs["arm"]).transform("median")))


def _reach(arm: str, sample: CensoredTimes) -> Reach:
    curve = kaplan_meier(sample)
    columns = (tuple(np.asarray(column).tolist()) for column in (curve.times, curve.survival, curve.low, curve.high))
    return Reach(arm, curve.n, curve.events, curve.median, *columns)
