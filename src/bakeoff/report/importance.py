"""How much each tuned setting mattered, arm by arm.

A report starts from the store alone, so it puts the trials into an Optuna study in memory.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from bakeoff.report.budget import ended_trials
from bakeoff.report.design import PlannedArm
from bakeoff.report.results import SweepResults

#: Of fewer trials, the better quarter is one or two.
MIN_TRIALS = 10


@dataclass(frozen=True)
class Importance:
    """The share of each tuned key of an arm in a block, from PED-ANOVA over `n` trials; shares sum to 1."""

    arm: str
    block: str
    n: int
    shares: tuple[tuple[str, float], ...]


def tuning_importances(sweep: SweepResults) -> tuple[Importance, ...]:
    """PED-ANOVA (Watanabe et al. 2023) of each arm and block with two or more tuned keys and `MIN_TRIALS` trials.

    It compares the better quarter of the trials with all of them. Trials that diverged count as the worst that trained.
    """
    importances = (_importance(sweep, planned) for planned in sweep.design.planned_arms if len(planned.spaces) + len(planned.menus) > 1)
    return tuple(importance for importance in importances if importance is not None)


def _importance(sweep: SweepResults, planned: PlannedArm) -> Importance | None:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    rows = ended_trials(sweep, planned.arm, planned.block).dropna(subset=list(planned.spaces))
    scores = [float(score) for score in rows["score"] if math.isfinite(score)]
    if len(rows) < MIN_TRIALS or len(set(scores)) < 2:
        return None
    worst = min(scores) if sweep.design.goal == "maximize" else max(scores)
    # Positions in the spaces, 0 to 1, are on the scale that each was searched on.
    space: dict[str, BaseDistribution] = {key: FloatDistribution(0.0, 1.0) for key in planned.spaces}
    space |= {key: CategoricalDistribution([str(item) for item in items]) for key, items in planned.menus.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=sweep.design.goal)
    for row in rows.to_dict("records"):
        params: dict[str, float | str] = {key: min(max(r.position(float(row[key])), 0.0), 1.0) for key, r in planned.spaces.items()}
        params |= {key: str(row[key]) for key in planned.menus}
        score = float(row["score"])
        value = score if math.isfinite(score) else worst
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))
    return Importance(planned.arm, planned.block, len(rows), tuple((key, float(share)) for key, share in importances.items()))
