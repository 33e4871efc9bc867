"""How long runs take to reach a target, with those that never do counted as such."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bakeoff.report.results import SweepResults
from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.multiple_comparisons import holm

Unit = Literal["steps", "images", "seconds"]
UNITS: tuple[Unit, ...] = ("steps", "images", "seconds")
#: With more arms than this there would be thousands of pairs of curves.
MOST_ARMS = 20


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
class Faster:
    """Log-rank test of two arms: `faster` reaches the target sooner; `p_holm` is corrected over all pairs of the block and unit."""

    faster: str
    slower: str
    p: float
    p_holm: float


@dataclass(frozen=True)
class TimeToTarget:
    """One block in one unit. `target` is the value of `metric` to be reached; it was taken from these runs."""

    block: str
    unit: Unit
    metric: str
    target: float
    arms: tuple[Reach, ...]
    pairs: tuple[Faster, ...]


def times_to_target(sweep: SweepResults) -> tuple[TimeToTarget, ...]:
    """For every block with curves of confirm runs: steps, images and seconds until the metric that tuning looked at reaches a target.

    The target is the median of all arms' median last values: about half of the arms reach it in most runs, the others are censored at
    the end of their budget. Runs that diverge never reach it. Seconds are at the run's own mean speed, validation included.
    """
    results: list[TimeToTarget] = []
    for block in sweep.design.blocks:
        block_steps = first_steps(sweep, block)
        if block_steps is None:
            continue
        target, table = block_steps
        for unit in UNITS:
            factor = {"steps": pd.Series(1.0, table.index), "images": table["batch"], "seconds": table["pace"]}[unit]
            known = table[factor.notna() & (factor > 0)]
            arms = [arm for arm in sweep.design.arms if (known["arm"] == arm).sum() > 1]
            if len(arms) < 2:
                continue
            data = {arm: _censored(known[known["arm"] == arm], factor) for arm in arms}
            reaches = tuple(_reach(arm, *data[arm]) for arm in arms)
            results.append(TimeToTarget(block, unit, sweep.design.metric, target, reaches, log_ranks(data)))
    return tuple(results)


def first_steps(sweep: SweepResults, block: str) -> tuple[float, pd.DataFrame] | None:
    """The target of a block, and a row a run: arm, at (the first step that reaches it; NaN), end (the last step it had), batch, pace."""
    plan, sign = sweep.design, 1.0 if sweep.design.goal == "maximize" else -1.0
    curves, runs = sweep.curves, sweep.stage_runs("confirm")
    curves = curves[(curves["block"] == block) & (curves["metric"] == plan.metric) & (curves["stage"] == "confirm")]
    runs = runs[(runs["block"] == block) & runs["state"].isin(["finished", "diverged"])].set_index("id")
    curves = curves[curves["id"].isin(runs.index)].sort_values(["id", "step"], kind="stable")
    if curves.empty:
        return None
    last = curves.groupby("id")["value"].last().where(runs["state"].reindex(curves["id"].unique()).eq("finished"))
    medians = last.groupby(runs["arm"].reindex(last.index)).median()
    target = float(medians.median())
    if not math.isfinite(target):
        return None
    hits = curves[sign * curves["value"] >= sign * target].groupby("id")["step"].first()
    ends = curves.groupby("id")["step"].last()
    table = pd.DataFrame({"arm": runs["arm"], "at": hits.reindex(runs.index), "batch": runs["batch"]})
    table.loc[runs["state"] == "diverged", "at"] = math.nan
    # A run that stopped early has not been seen to the end of its budget, and still never reaches the target.
    table["end"] = ends.reindex(runs.index).clip(lower=ends.max()).fillna(ends.max())
    table["pace"] = (runs["seconds"] / ends.reindex(runs.index)).where(runs["state"] == "finished")
    table["pace"] = table["pace"].fillna(table.groupby("arm")["pace"].transform("median"))
    return target, table


def _censored(rows: pd.DataFrame, factor: pd.Series[float]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    scale = np.asarray(factor.reindex(rows.index), dtype=np.float64)
    at: npt.NDArray[np.float64] = np.asarray(rows["at"], dtype=np.float64) * scale
    end: npt.NDArray[np.float64] = np.asarray(rows["end"], dtype=np.float64) * scale
    return at[~np.isnan(at)], end[np.isnan(at)]


def _reach(arm: str, seen: npt.NDArray[np.float64], lost: npt.NDArray[np.float64]) -> Reach:
    survival = stats.ecdf(stats.CensoredData(uncensored=seen, right=lost)).sf
    times, waiting = survival.quantiles, survival.probabilities
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", message="The confidence interval is undefined", category=RuntimeWarning)
        band = survival.confidence_interval(1 - ALPHA, method="log-log")
    # Where all wait, or none, the formula has no answer: the band is the estimate widened to all that is possible.
    low, high = np.nan_to_num(band.low.probabilities, nan=0.0), np.nan_to_num(band.high.probabilities, nan=1.0)
    below = np.flatnonzero(waiting <= 0.5)
    median = float(times[below[0]]) if len(below) else None
    return Reach(arm, len(seen) + len(lost), len(seen), median, *(tuple(map(float, column)) for column in (times, waiting, low, high)))


def log_ranks(data: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> tuple[Faster, ...]:
    """Every pair of arms by the log-rank test (Mantel 1966); pairs in which no run reaches the target are left out.

    It does not use that arms share their seeds, so where these matter it finds less than a paired test would.
    Of more than `MOST_ARMS` arms each is compared with the one of which most runs reach it, and of equals the soonest, alone.
    """
    pairs = list(itertools.combinations(data, 2))
    if len(data) > MOST_ARMS:
        best = max(data, key=lambda arm: (len(data[arm][0]), -float(np.median(data[arm][0])) if len(data[arm][0]) else -math.inf))
        pairs = [pair for pair in pairs if best in pair]
    tests = list[tuple[str, str, float]]()
    for a, b in pairs:
        if len(data[a][0]) + len(data[b][0]) == 0:
            continue
        x, y = (stats.CensoredData(uncensored=data[arm][0], right=data[arm][1]) for arm in (a, b))
        with np.errstate(invalid="ignore", divide="ignore"):
            test = stats.logrank(x, y)
        # Positive: more of a's runs have reached the target by any time than if the two were alike.
        if math.isfinite(test.statistic):
            tests.append((a, b, float(test.pvalue)) if test.statistic >= 0 else (b, a, float(test.pvalue)))
    corrected = holm(np.array([p for _, _, p in tests]))
    return tuple(Faster(a, b, p, float(q)) for (a, b, p), q in zip(tests, corrected, strict=True))
