"""Everything that a report shows, computed once: the page, the tables and the terminal draw from this."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bakeoff.report.budget import Budgets, budgets
from bakeoff.report.importance import Importance, tuning_importances
from bakeoff.report.outcomes import compared_scores
from bakeoff.report.results import SweepResults
from bakeoff.report.sensitivity import Region, regions
from bakeoff.report.survival import TimeToTarget, times_to_target
from bakeoff.report.verdict import Verdict, arm_means, compute_verdict
from bakeoff.stats.aggregates import InterquartileMean, PerformanceProfile, interquartile_means, performance_profiles
from bakeoff.stats.factorial import FactorialAnova, factorial_anova
from bakeoff.stats.intervals import MeanInterval
from bakeoff.stats.multiple_comparisons import SimultaneousComparison, dunnett_vs_baseline, tukey_all_pairs
from bakeoff.stats.ranks import MeanRanks, mean_ranks
from bakeoff.stats.scores import ALL_BLOCKS, mean_over_blocks, mean_over_studies
from bakeoff.stats.variance_components import TuningVariance, tuning_variances


@dataclass(frozen=True)
class Analysis:
    """A sweep's results and all statistics of them.

    Attributes:
        full_sweep: every run.
        sweep: the runs that the verdict rests on; confirm runs beyond the last complete analysis are left out.
        verdict: the verdict.
        arm_means: block (or all blocks) -> arm -> mean and interval, best first.
        aggregates: interquartile means of the arms.
        profiles: performance profiles of the arms.
        simultaneous: comparisons by Tukey's and Dunnett's procedures.
        ranks: mean ranks of the arms.
        factorials: analyses of variance, for sweeps with two or more factors.
        importances: importances of the tuned keys.
        budgets: best score by tuning budget.
        targets: time to target.
        regions: sensitivity to the learning rate.
        tuning_variances: variance components, for sweeps that repeat tuning.
    """

    full_sweep: SweepResults
    sweep: SweepResults
    verdict: Verdict
    arm_means: Mapping[str, Mapping[str, MeanInterval]]
    aggregates: tuple[InterquartileMean, ...]
    profiles: tuple[PerformanceProfile, ...]
    simultaneous: tuple[SimultaneousComparison, ...]
    ranks: MeanRanks | None
    factorials: tuple[FactorialAnova, ...]
    importances: tuple[Importance, ...]
    budgets: Budgets
    targets: tuple[TimeToTarget, ...]
    regions: tuple[Region, ...]
    tuning_variances: tuple[TuningVariance, ...]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks, and before them all blocks together where there are several."""
        plan = self.sweep.design
        return (ALL_BLOCKS, *plan.blocks) if len(plan.blocks) > 1 else plan.blocks


def analyse(full_sweep: SweepResults) -> Analysis:
    """Compute all statistics of a sweep.

    Args:
        full_sweep: the sweep with every run.

    Returns:
        The analysis; parts for which the runs are too few are empty.
    """
    verdict = compute_verdict(full_sweep)
    sweep = full_sweep.first_seeds(verdict.seeds) if verdict.analyses else full_sweep
    plan, scores = sweep.design, compared_scores(sweep)
    families = {ALL_BLOCKS: mean_over_blocks(scores, plan.arms)} if len(plan.blocks) > 1 else {}
    families |= {block: {arm: dict(by_seed) for arm, by_seed in by_arm.items()} for block, by_arm in scores.items()}
    study_of_seed = plan.study_of_seed(set(sweep.seed_order))
    independent = scores
    if plan.studies > 1:
        # Seeds of one study share its setting: only studies are independent.
        families = mean_over_studies(families, study_of_seed)
        independent = mean_over_studies(scores, study_of_seed)
    choices = {planned.arm: planned.choices for planned in plan.planned_arms}
    main, main_scores = next(iter(families.items()))
    simultaneous = tukey_all_pairs(main, main_scores, plan.arms, goal=plan.goal)
    if plan.baseline is not None:
        simultaneous += dunnett_vs_baseline(main, main_scores, plan.baseline, goal=plan.goal)
    anovas = [factorial_anova(block, by_arm, choices, plan.factors) for block, by_arm in families.items() if len(plan.factors) > 1]
    arms_in_all_blocks = [arm for arm in plan.arms if all(scores[block][arm] for block in plan.blocks)]
    return Analysis(
        full_sweep=full_sweep,
        sweep=sweep,
        verdict=verdict,
        arm_means={block: arm_means(sweep, block) for block in families},
        aggregates=interquartile_means(independent, plan.arms),
        profiles=performance_profiles(independent, plan.arms, goal=plan.goal),
        simultaneous=simultaneous,
        ranks=mean_ranks(independent, arms_in_all_blocks, goal=plan.goal),
        factorials=tuple(anova for anova in anovas if anova is not None),
        importances=tuning_importances(sweep),
        budgets=budgets(sweep),
        targets=times_to_target(sweep),
        regions=regions(sweep),
        tuning_variances=tuning_variances(scores, plan.arms, study_of_seed) if plan.studies > 1 else (),
    )


def section_tables(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """The data behind the figures, as flat tables.

    Args:
        analysis: the analysis of a sweep.

    Returns:
        Name -> table, for each section that has numbers.
    """
    frames = {name: pd.DataFrame(rows) for name, rows in _section_rows(analysis).items() if rows}
    curves: dict[str, list[pd.DataFrame]] = {
        "profiles": [_curve_frame(p, ("arm", "n"), ("levels", "share", "low", "high")) for p in analysis.profiles],
        "budget": [_curve_frame(c, ("arm", "block", "n", "bands"), ("budgets", "median", "low", "high")) for c in analysis.budgets.curves],
        "targets": [
            _curve_frame(
                reach,
                ("arm", "n", "reached", "median"),
                ("times", "waiting", "low", "high"),
                block=target.block,
                unit=target.unit,
                target=target.target,
            )
            for target in analysis.targets
            for reach in target.arms
        ],
    }
    return frames | {name: pd.concat(parts) for name, parts in curves.items() if parts}


def _curve_frame(curve: object, scalars: tuple[str, ...], columns: tuple[str, ...], **constants: object) -> pd.DataFrame:
    """One row per point of a curve: the constants and scalar attributes repeated, beside the attributes that are columns."""
    repeated = constants | {name: getattr(curve, name) for name in scalars}
    return pd.DataFrame({**repeated, **{name: getattr(curve, name) for name in columns}})


def _section_rows(analysis: Analysis) -> dict[str, list[dict[str, object]]]:
    """Name -> rows of the tables that have one row per result."""
    rows: dict[str, list[dict[str, object]]] = {
        "aggregates": [dataclasses.asdict(iqm) for iqm in analysis.aggregates],
        "families": [dataclasses.asdict(comparison) for comparison in analysis.simultaneous],
        "effects": [dataclasses.asdict(effect) for anova in analysis.factorials for effect in anova.effects],
        "levels": [
            {"block": level.block, "factor": level.factor, "value": level.value, **dataclasses.asdict(level.interval)}
            for anova in analysis.factorials
            for level in anova.levels
        ],
        "importances": [
            {"arm": importance.arm, "block": importance.block, "n": importance.n, "key": key, "share": share}
            for importance in analysis.importances
            for key, share in importance.shares
        ],
        "regions": [dataclasses.asdict(region) for region in analysis.regions],
        "tuning_variance": [dataclasses.asdict(variance) for variance in analysis.tuning_variances],
        "overtakes": [dataclasses.asdict(overtake) for overtake in analysis.budgets.overtakes],
        "logrank": [
            {"block": target.block, "unit": target.unit, "target": target.target, **dataclasses.asdict(pair)}
            for target in analysis.targets
            for pair in target.pairs
        ],
    }
    if analysis.ranks is not None:
        ranks = analysis.ranks
        rows["ranks"] = [
            {"arm": arm, "rank": rank, **{f"p against {rival}": p for rival, p in zip(ranks.arms, ps, strict=True)}}
            for arm, rank, ps in zip(ranks.arms, ranks.ranks, ranks.pairwise_p, strict=True)
        ]
    return rows
