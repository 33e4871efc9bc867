"""The best score against the number of tuning runs, and from how many on one arm is ahead of another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bakeoff.report import formatting
from bakeoff.report.design import INDEPENDENT_SAMPLERS, SweepDesign
from bakeoff.report.results import SweepResults
from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.scores import Array
from bakeoff.stats.tuning_curves import leading_budgets, tuning_curve

MIN_TRIALS = 4


@dataclass(frozen=True)
class Curve:
    """The median, over draws of `budget` tuning runs, of the best score among them, for budgets from 1 to as many as were run.

    `low`..`high` hold over all budgets at once with 95 %; `bands` names their kind. An end is None where so few runs rule nothing out and
    the score has no bound of its own.
    """

    arm: str
    block: str
    n: int
    budgets: tuple[int, ...]
    median: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    bands: str


@dataclass(frozen=True)
class Overtake:
    """From `budget` to `until` tuning runs `better` is ahead of `worse` in median best score; beyond, these runs cannot tell.

    All statements of a block hold at once with 95 %. Little can be said of budgets near the number of runs, since nothing is known of
    scores above the best that was seen.
    """

    block: str
    better: str
    worse: str
    budget: int
    until: int


@dataclass(frozen=True)
class Budgets:
    """Budget curves and what follows from them; `missing` says in a sentence why there are none."""

    curves: tuple[Curve, ...] = ()
    overtakes: tuple[Overtake, ...] = ()
    missing: str = ""


def budgets(sweep: SweepResults) -> Budgets:
    """The tuning curves of all arms with `MIN_TRIALS` scores, if points were drawn independently of the scores and none was pruned."""
    design = sweep.design
    missing = _objection(design)
    if missing:
        return Budgets(missing=missing)
    curves, overtakes = list[Curve](), list[Overtake]()
    bounds = (0.0, 1.0 if design.metric.endswith("accuracy") else np.inf)
    for block in design.blocks:
        scores = {arm: scores for arm in design.arms if len(scores := _scores(sweep, arm, block)) >= MIN_TRIALS}
        for arm, values in scores.items():
            curve = tuning_curve(values, goal=design.goal)
            median, low, high = (_finite(np.clip(ends, *bounds)) for ends in (curve.median, curve.low, curve.high))
            curves.append(Curve(arm, block, len(values), tuple(range(1, len(values) + 1)), median, low, high, curve.bands))
        joint = {arm: tuning_curve(values, goal=design.goal, level=1 - ALPHA / len(scores)) for arm, values in scores.items()}
        for better, worse in itertools.permutations(joint, 2):
            stretch = leading_budgets(joint[better], joint[worse], goal=design.goal)
            overtakes += [Overtake(block, better, worse, *stretch)] if stretch is not None else []
    if not curves:
        return Budgets(missing=f"No arm has {formatting.count_noun(MIN_TRIALS, 'tuning run')} with a score, so there is no budget curve.")
    return Budgets(tuple(curves), tuple(overtakes))


def _objection(design: SweepDesign) -> str:
    """Why a plan's tuning runs do not give budget curves; empty where they do."""
    if design.sampler == "grid":
        return "Budget curves hold for independent draws only, and the points of a grid are not drawn."
    if design.sampler not in INDEPENDENT_SAMPLERS:
        return f"Budget curves hold for independent draws only, and sampler {design.sampler} chose its points by earlier scores."
    return f"Budget curves need the final score of every tuning run, and pruner {design.pruner} stopped some." if design.pruner else ""


def ended_trials(sweep: SweepResults, arm: str, block: str) -> pd.DataFrame:
    """The tuning runs of an arm in a block that finished or diverged."""
    rows = sweep.stage_runs("tune")
    return rows[(rows["arm"] == arm) & (rows["block"] == block) & rows["state"].isin(["finished", "diverged"])]


def _scores(sweep: SweepResults, arm: str, block: str) -> Array:
    """The tuning scores of an arm; infinitely bad for runs that diverged."""
    rows = ended_trials(sweep, arm, block)
    worst = -np.inf if sweep.design.goal == "maximize" else np.inf
    return rows["score"].where(rows["state"] == "finished", worst).dropna().to_numpy(dtype=float)


def _finite(values: Array) -> tuple[float | None, ...]:
    return tuple(value if np.isfinite(value) else None for value in values.tolist())
