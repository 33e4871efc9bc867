"""The good regions of tuned learning rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bakeoff.report.budget import ended_trials
from bakeoff.report.design import PlannedArm
from bakeoff.report.results import SweepResults
from bakeoff.stats.scores import goal_sign
from bakeoff.stats.sensitivity import GoodRegion, good_region

MIN_TRIALS = 4


@dataclass(frozen=True)
class _TunedKey:
    arm: str
    block: str
    key: str


@dataclass(frozen=True)
class Region(GoodRegion, _TunedKey):
    """The good region of one tuned learning rate of an arm in a block."""


def regions(sweep: SweepResults) -> tuple[Region, ...]:
    """The good region of every tuned key that is named `lr` or ends in `_lr`, for each arm and block with `MIN_TRIALS` scores."""
    candidates = [
        _region(sweep, planned, key)
        for planned in sweep.design.planned_arms
        for key in planned.spaces
        if (name := key.rpartition(".")[2]) == "lr" or name.endswith("_lr")
    ]
    return tuple(region for region in candidates if region is not None)


def _region(sweep: SweepResults, planned: PlannedArm, key: str) -> Region | None:
    rows = ended_trials(sweep, planned.arm, planned.block)
    rows = rows[rows[key] > 0]
    scores = goal_sign(sweep.design.goal) * rows["score"].to_numpy(dtype=float)
    trained = np.isfinite(scores)
    if len(scores) < MIN_TRIALS or not trained.any():
        return None
    # A run that diverged without a score counts as the worst that trained.
    scores = np.where(trained, scores, scores[trained].min())
    sole_key = len(planned.spaces) + len(planned.menus) == 1
    region = good_region(rows[key].to_numpy(dtype=float), scores, margin=sweep.design.margin, sole_key=sole_key)
    return Region(planned.arm, planned.block, key, **vars(region))
