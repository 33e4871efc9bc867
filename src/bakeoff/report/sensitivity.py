"""How wide the good region of a learning rate is, and what a wrong one costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bakeoff.report.design import PlannedArm
from bakeoff.report.results import SweepResults

Array = npt.NDArray[np.float64]
#: Decades to either side within which, with other keys tuned as well, the best trial stands for a learning rate.
REACH = 0.25
LEAST = 4
FACTOR = 3.0


@dataclass(frozen=True)
class Region:
    """Of one tuned learning rate in one cell, from `n` tuning runs.

    `best` is the learning rate of the best one. From `low` to `high`, `width` decades, the score is within `margin` of the best one;
    `open_low`, `open_high` say that the region ends where the space does, so it may go on. `third` and `triple` are what a third of the
    best learning rate, and three times it, cost in units of the score (None: outside what was tried).
    """

    arm: str
    block: str
    key: str
    n: int
    best: float
    margin: float
    low: float
    high: float
    width: float
    open_low: bool
    open_high: bool
    third: float | None
    triple: float | None


def regions(sweep: SweepResults) -> tuple[Region, ...]:
    """One for every cell and every tuned key of a learning rate (named `lr` or ending in `_lr`).

    With that key alone tuned, scores between trials are interpolated on the logarithm; with others as well, the best trial within a
    quarter of a decade stands for a learning rate. Tuning scores flatter the best point, so costs are rather too large.
    """
    candidates = [
        _region(sweep, cell, key)
        for cell in sweep.design.planned_arms
        for key in cell.spaces
        if (name := key.rpartition(".")[2]) == "lr" or name.endswith("_lr")
    ]
    return tuple(region for region in candidates if region is not None)


def _region(sweep: SweepResults, cell: PlannedArm, key: str) -> Region | None:
    rows = sweep.stage_runs("tune")
    rows = rows[(rows["arm"] == cell.arm) & (rows["block"] == cell.block) & rows["state"].isin(["finished", "diverged"]) & (rows[key] > 0)]
    sign = 1.0 if sweep.design.goal == "maximize" else -1.0
    score = _bounded(rows, sign)
    if len(score) < LEAST:
        return None
    at = np.log10(rows[key].to_numpy(dtype=float))
    if len(cell.spaces) + len(cell.menus) == 1:
        order = np.argsort(at, kind="stable")
        places, losses = at[order], score.max() - score[order]
    else:
        places = np.unique(at)
        losses = np.array([score.max() - score[np.abs(at - place) <= REACH].max() for place in places])
    peak, margin = float(at[int(np.argmax(score))]), sweep.design.margin
    low, high = _ends(places, losses, peak, margin)
    return Region(
        cell.arm,
        cell.block,
        key,
        len(score),
        10**peak,
        margin,
        10**low,
        10**high,
        high - low,
        bool(low <= places[0]),
        bool(high >= places[-1]),
        _cost(places, losses, peak - math.log10(FACTOR)),
        _cost(places, losses, peak + math.log10(FACTOR)),
    )


def _bounded(rows: pd.DataFrame, sign: float) -> Array:
    """Scores with larger meaning better; a run that diverged with a loss counts as the worst that trained."""
    score = sign * rows["score"].to_numpy(dtype=float)
    known = score[np.isfinite(score)]
    return np.where(np.isfinite(score), score, known.min()) if len(known) else known


def _ends(places: Array, losses: Array, peak: float, margin: float) -> tuple[float, float]:
    """Where the interpolated loss first exceeds the margin, going out from the peak to either side."""
    ends: list[float] = []
    for side in (-1.0, 1.0):
        outer = np.flatnonzero(side * (places - peak) >= 0)
        outer = outer if side > 0 else outer[::-1]
        end, before = peak, (peak, 0.0)
        for i in outer:
            place, loss = float(places[i]), float(losses[i])
            if loss > margin:
                share = (margin - before[1]) / (loss - before[1])
                end = before[0] + share * (place - before[0])
                break
            end, before = place, (place, loss)
        ends.append(end)
    return ends[0], ends[1]


def _cost(places: Array, losses: Array, at: float) -> float | None:
    return float(np.interp(at, places, losses)) if places[0] <= at <= places[-1] else None
