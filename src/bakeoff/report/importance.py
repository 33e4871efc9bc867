"""How much each tuned setting mattered, arm by arm. Here and in the sweep's studies is Optuna used, nowhere else: the report starts from
the store alone, so it puts the trials into a study in memory."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from bakeoff.report.design import PlannedArm
from bakeoff.report.results import SweepResults

#: Fewer trials than this leave one in the best tenth, and nothing to compare it with.
MIN_TRIALS = 10


@dataclass(frozen=True)
class Importance:
    """The share of each tuned key in one cell, from PED-ANOVA over `n` trials; shares sum to 1."""

    arm: str
    block: str
    n: int
    shares: tuple[tuple[str, float], ...]


def tuning_importances(sweep: SweepResults) -> tuple[Importance, ...]:
    """PED-ANOVA (Watanabe et al. 2023) for each cell with two or more tuned keys and `LEAST` trials.

    Of what sets the better quarter of the trials apart from all of them. Trials that diverged count as the worst that trained.
    """
    found = (_of(sweep, cell) for cell in sweep.design.planned_arms if len(cell.spaces) + len(cell.menus) > 1)
    return tuple(one for one in found if one is not None)


def _of(sweep: SweepResults, cell: PlannedArm) -> Importance | None:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    rows = sweep.stage_runs("tune")
    rows = rows[(rows["arm"] == cell.arm) & (rows["block"] == cell.block) & rows["state"].isin(["finished", "diverged"])]
    rows = rows.dropna(subset=list(cell.spaces))
    known = [float(score) for score in rows["score"] if math.isfinite(score)]
    if len(rows) < MIN_TRIALS or len(set(known)) < 2:
        return None
    worst = min(known) if sweep.design.goal == "maximize" else max(known)
    # By places in the spaces, 0 to 1: that is the scale that each was searched on.
    space: dict[str, BaseDistribution] = {key: FloatDistribution(0.0, 1.0) for key in cell.spaces}
    space |= {key: CategoricalDistribution([str(item) for item in items]) for key, items in cell.menus.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=sweep.design.goal)
    for row in rows.to_dict("records"):
        params: dict[str, float | str] = {key: min(max(r.position(float(row[key])), 0.0), 1.0) for key, r in cell.spaces.items()}
        params |= {key: str(row[key]) for key in cell.menus}
        score = float(row["score"])
        value = score if math.isfinite(score) else worst
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        told = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))
    return Importance(cell.arm, cell.block, len(rows), tuple((key, float(share)) for key, share in told.items()))
