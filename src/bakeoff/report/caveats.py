"""What a reader must know before using a verdict: flags that the numbers themselves do not show."""

from __future__ import annotations

from collections.abc import Iterator

from bakeoff.report import formatting
from bakeoff.report.results import ENDED, SweepResults

#: Below this many pairs the t interval depends on the differences being normal, which so few cannot show.
FEW_SEEDS = 6


def caveats(sweep: SweepResults) -> list[str]:
    """What a reader must know before using the verdict.

    Args:
        sweep: the results that the verdict rests on.

    Returns:
        One or two sentences for each caveat.
    """
    return [*_edges_of_spaces(sweep), *_unscored_runs(sweep), *_tuning(sweep), *_scores(sweep), *_origin(sweep)]


def _edges_of_spaces(sweep: SweepResults) -> Iterator[str]:
    """Chosen settings that lie at an end of what was searched."""
    for planned in sweep.design.planned_arms:
        for key, space in planned.spaces.items():
            values = sweep.settings(planned.arm, planned.block, key)
            for side in ("low", "high"):
                at_edge = [value for value in values if space.near_edge(float(value)) == side]
                if at_edge:
                    low, high = (formatting.significant(end) for end in (space.low, space.high))
                    how_many = f" in {len(at_edge)} of {len(values)} studies" if len(values) > 1 else ""
                    yield (
                        f"Edge of the space: {planned.arm}'s chosen {key}{_in_block(sweep, planned.block)} is "
                        f"{formatting.chosen_settings(at_edge)}{how_many}, at the {side} end of {low} to {high}; "
                        "a better value may lie outside."
                    )


def _in_block(sweep: SweepResults, block: str) -> str:
    return f" in {block}" if len(sweep.design.blocks) > 1 else ""


def _unscored_runs(sweep: SweepResults) -> Iterator[str]:
    """Runs that diverged, failed or were pruned."""
    plan, runs = sweep.design, sweep.runs
    states = runs.groupby(["stage", "arm", "state"]).size().to_dict()
    totals = runs.groupby(["stage", "arm"]).size().to_dict()
    for stage, word in (("tune", "tuning"), ("confirm", "confirm")):
        for arm in plan.arms:
            diverged, failed, pruned = (states.get((stage, arm, state), 0) for state in ("diverged", "failed", "pruned"))
            total = formatting.count_noun(totals.get((stage, arm), 0), f"{word} run")
            if diverged:
                counted = "count as the worst outcome" if plan.metric.endswith("accuracy") else "have no score"
                yield f"{arm}: {diverged} of {total} diverged; they {counted if stage == 'tune' else 'are compared as failures'}."
            if failed:
                yield f"{arm}: {failed} of {total} failed; they {'have no score' if stage == 'tune' else 'are compared as failures'}."
            if pruned:
                yield f"{arm}: {pruned} of {total} were stopped early by pruner {plan.pruner}."


def _tuning(sweep: SweepResults) -> Iterator[str]:
    """Wrongly pruned runs, arms that never trained, and unequal budgets."""
    plan, runs = sweep.design, sweep.runs
    if sweep.pruning_audit is not None:
        audited, wrong = sweep.pruning_audit
        yield f"Of {formatting.count_noun(audited, 'pruned run')} run to their end, {wrong} would have been chosen."
    for planned in plan.planned_arms:
        if not sweep.never_trained(planned.arm, planned.block):
            continue
        where = _in_block(sweep, planned.block)
        yield f"{planned.arm}: no tuning run trained to its end{where}, so there was nothing to confirm."
    counts = runs[(runs["stage"] == "tune") & runs["state"].isin(ENDED)].groupby(["arm", "block"]).size()
    budgets = [int(counts.get((planned.arm, planned.block), 0)) for planned in plan.planned_arms]
    if len(set(budgets)) > 1:
        yield f"Tuning budgets are not equal: between {min(budgets)} and {max(budgets)} runs per arm and block."


def _scores(sweep: SweepResults) -> Iterator[str]:
    """What the number of scores, studies and blocks leaves open."""
    plan, scores = sweep.design, sweep.scores()
    unscored = [arm for arm in plan.arms if not any(scores[block][arm] for block in plan.blocks)]
    if len(sweep.stage_runs("confirm")) and unscored:
        yield f"{formatting.join_names(unscored)}: no confirm run has a score."
    shared = min((len(seeds) for block in scores.values() for seeds in block.values() if seeds), default=0)
    confirmed = set(sweep.stage_runs("confirm")["seed"])
    studies = {plan.sequential.study_at(position) for position, seed in enumerate(sweep.seed_order) if seed in confirmed}
    units = len(studies) if plan.studies > 1 else shared
    if plan.studies > 1 and shared:
        yield (
            f"Each arm was tuned {units} times: everywhere a study counts once, by the mean of its seeds, and in the log-rank test by its "
            "first seed."
        )
    if shared and units < FEW_SEEDS:
        unit = "studies" if plan.studies > 1 else "seeds"
        yield f"Few {unit} (n = {units}): intervals assume normally distributed scores, which cannot be checked with so few."
    if len(plan.blocks) > 1:
        yield f"The mean is over these {len(plan.blocks)} blocks and says nothing about others."


def _origin(sweep: SweepResults) -> Iterator[str]:
    """Where the runs come from, and which were left out."""
    plan = sweep.design
    commits = sweep.origin.get("git.commit", ())
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} commits of the code."
    for text in plan.allowed_differences:
        yield f"Arms differ in what the sweep file allows: {text}."
    if sweep.unplanned_runs and not plan.declared:
        runs = formatting.count_noun(sweep.unplanned_runs, "run")
        yield f"{runs} more left out: tuning runs, older repeats of a run with the same settings and seed, or runs outside a plan."
    if sweep.unplanned_runs and plan.declared:
        verb = "is no part of the plan and is" if sweep.unplanned_runs == 1 else "are no part of the plan and are"
        yield f"{formatting.count_noun(sweep.unplanned_runs, 'run')} of this experiment {verb} left out as exploratory."
    if sweep.score_metric == plan.metric and len(sweep.stage_runs("confirm")):
        yield f"No confirm run has a test score: the verdict rests on {formatting.metric_name(plan.metric)}."
