"""Everything that a report shows, computed once: the page, the tables and the terminal draw from this."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bakeoff.report import narrative
from bakeoff.report.budget import Budgets, budgets
from bakeoff.report.importance import Importance, tuning_importances
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
    """A sweep and all that was found out about it.

    `whole` has every run; `sweep` has those that the verdict rests on (confirm runs beyond the last complete look are left out).
    `standings`: block (or all blocks) -> arm -> mean and interval, best first. `says`: section (aggregate, ranks, effects, families,
    importance, budget, target, region, tuning) -> sentences made from its numbers; a section without numbers says why.
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
    narrative: Mapping[str, tuple[str, ...]]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks, and before them all blocks together where there are several."""
        plan = self.sweep.design
        return (ALL_BLOCKS, *plan.blocks) if len(plan.blocks) > 1 else plan.blocks


def analyse(whole: SweepResults) -> Analysis:
    """The analysis of a sweep that is read; sections for which the runs are too few are empty."""
    verdict = compute_verdict(whole)
    sweep = whole.first_seeds(verdict.seeds) if verdict.analyses else whole
    plan, scores = sweep.design, sweep.scores()
    tables = {ALL_BLOCKS: mean_over_blocks(scores, plan.arms)} if len(plan.blocks) > 1 else {}
    tables |= {block: {arm: dict(seeds) for arm, seeds in arms.items()} for block, arms in scores.items()}
    unit_of = plan.study_of_seed(set(sweep.seed_order))
    if plan.studies > 1:
        # Seeds of one study share its setting: only studies are independent.
        tables = mean_over_studies(tables, unit_of)
    votes = mean_over_studies(scores, unit_of) if plan.studies > 1 else scores
    choices = {cell.arm: cell.choices for cell in plan.planned_arms}
    main = next(iter(tables))
    families = tukey_all_pairs(main, tables[main], plan.arms, goal=plan.goal)
    families += dunnett_vs_baseline(main, tables[main], plan.baseline, goal=plan.goal) if plan.baseline is not None else ()
    found = [factorial_anova(block, table, choices, plan.factors) for block, table in tables.items()] if len(plan.factors) > 1 else []
    scored = [arm for arm in plan.arms if all(scores[block][arm] for block in plan.blocks)]
    made = Analysis(
        full_sweep=whole,
        sweep=sweep,
        verdict=verdict,
        arm_means={block: arm_means(sweep, block) for block in tables},
        aggregates=interquartile_means(scores, plan.arms),
        profiles=performance_profiles(scores, plan.arms, goal=plan.goal),
        simultaneous=families,
        ranks=mean_ranks(votes, scored, goal=plan.goal),
        factorials=tuple(one for one in found if one is not None),
        importances=tuning_importances(sweep),
        budgets=budgets(sweep),
        targets=times_to_target(sweep),
        regions=regions(sweep),
        tuning_variances=tuning_variances(scores, plan.arms, unit_of) if plan.studies > 1 else (),
        narrative={},
    )
    return dataclasses.replace(made, narrative=narrative.all_of(made))


def section_tables(found: Analysis) -> dict[str, pd.DataFrame]:
    """Name -> one flat table for each section that has numbers: the data behind its figure."""
    rows: dict[str, list[dict[str, object]]] = {
        "aggregates": [dataclasses.asdict(one) for one in found.aggregates],
        "families": [dataclasses.asdict(one) for one in found.simultaneous],
        "effects": [dataclasses.asdict(one) for each in found.factorials for one in each.effects],
        "levels": [
            {"block": one.block, "factor": one.factor, "value": one.value, **dataclasses.asdict(one.interval)}
            for each in found.factorials
            for one in each.levels
        ],
        "importances": [
            {"arm": one.arm, "block": one.block, "n": one.n, "key": key, "share": share}
            for one in found.importances
            for key, share in one.shares
        ],
        "regions": [dataclasses.asdict(one) for one in found.regions],
        "tuning_variance": [dataclasses.asdict(one) for one in found.tuning_variances],
        "overtakes": [dataclasses.asdict(one) for one in found.budgets.overtakes],
        "logrank": [
            {"block": each.block, "unit": each.unit, "target": each.target, **dataclasses.asdict(one)}
            for each in found.targets
            for one in each.pairs
        ],
    }
    if found.ranks is not None:
        told = found.ranks
        apart = [dict(zip((f"p against {arm}" for arm in told.arms), row, strict=True)) for row in told.pairwise_p]
        rows["ranks"] = [{"arm": arm, "rank": rank, **ps} for arm, rank, ps in zip(told.arms, told.ranks, apart, strict=True)]
    frames = {name: pd.DataFrame(given) for name, given in rows.items() if given}
    columns: dict[str, list[tuple[object, dict[str, object], tuple[str, ...]]]] = {
        "profiles": [(p, {"arm": p.arm, "n": p.n}, ("levels", "share", "low", "high")) for p in found.profiles],
        "budget": [
            (c, {"arm": c.arm, "block": c.block, "n": c.n, "bands": c.bands}, ("budgets", "median", "low", "high"))
            for c in found.budgets.curves
        ],
        "targets": [
            (
                r,
                {"block": t.block, "unit": t.unit, "target": t.target, "arm": r.arm, "n": r.n, "reached": r.reached, "median": r.median},
                ("times", "waiting", "low", "high"),
            )
            for t in found.targets
            for r in t.arms
        ],
    }
    for name, parts in columns.items():
        if parts:
            frames[name] = pd.concat([pd.DataFrame({**fixed, **{key: getattr(one, key) for key in keys}}) for one, fixed, keys in parts])
    return frames
