"""How much of each arm's score may be the luck of its tuning, estimated from its trials."""

from __future__ import annotations

import numpy as np

from bakeoff.report.results import SweepResults
from bakeoff.stats.scores import goal_sign
from bakeoff.stats.tuning_luck import TuningLuck, tuning_luck


def tuning_lucks(sweep: SweepResults) -> dict[tuple[str, str], TuningLuck]:
    """(arm, block) -> the estimate, for arms that are tuned in ranges alone and have trials enough."""
    lucks: dict[tuple[str, str], TuningLuck] = {}
    rows = sweep.stage_runs("tune")
    rows = rows[rows["state"].eq("finished") & rows["score"].notna()]
    for planned in sweep.design.planned_arms:
        trials = rows[(rows["arm"] == planned.arm) & (rows["block"] == planned.block)]
        if not planned.spaces or planned.menus:
            continue
        positions = np.array([[space.position(float(row[key])) for key, space in planned.spaces.items()] for _, row in trials.iterrows()])
        values = goal_sign(sweep.design.goal) * trials["score"].to_numpy(float)
        inside = np.isfinite(positions).all(axis=1) if len(trials) else np.zeros(0, bool)
        luck = tuning_luck(positions[inside], values[inside], smooth=sweep.design.choose == "smooth") if inside.any() else None
        if luck is not None:
            lucks[planned.arm, planned.block] = luck
    return lucks
