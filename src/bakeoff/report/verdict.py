"""The verdict: sentences made from the numbers, which never say more than those carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bakeoff.report import formatting
from bakeoff.report.caveats import caveats
from bakeoff.report.conclusion import Conclusion, FamilyEvidence, conclude_family
from bakeoff.report.luck import tuning_lucks
from bakeoff.report.outcomes import (
    Failures,
    arms_that_never_learned,
    best_accuracy,
    compared_scores,
    failed_in_any_block,
    failures,
    guessing_level,
    learned_scores,
    nothing_learned,
)
from bakeoff.report.results import ENDED, SweepResults, count_states
from bakeoff.report.scope import scope_sentence
from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.failures import FailureDifference, FailureRate, compare_failures, failure_rates
from bakeoff.stats.image_sampling import CorrectImages
from bakeoff.stats.intervals import MeanInterval, clustered_mean_interval
from bakeoff.stats.paired import Grade, PairedDifference, compare_pairs
from bakeoff.stats.scores import ALL_BLOCKS, Scores, mean_over_blocks
from bakeoff.stats.tuning_luck import TuningLuck


@dataclass(frozen=True)
class Verdict:
    """What the runs of a sweep support.

    Attributes:
        grade: the grade of the family that the verdict rests on. Grades "as tuned" are about settings that were tuned once.
        winner: the best arm, tuned with the plan's budget; None unless the grade is supported.
        headline: the verdict in one sentence.
        details: sentences with the evidence.
        caveats: what a reader must know before using the verdict.
        differences: every pair of arms, over the blocks and in each.
        analyses: how many of the plan's analyses the verdict rests on; 0 where there is no verdict yet.
        seeds: how many seeds those are.
        failure_rates: block, or all blocks -> how often the units of each arm failed.
        failure_differences: block, or all blocks -> the pairs of arms compared by that.
        lucks: (arm, block) -> what a single tuning leaves to luck, where each arm was tuned once.
    """

    grade: Grade
    winner: str | None
    headline: str
    details: tuple[str, ...]
    caveats: tuple[str, ...]
    differences: tuple[PairedDifference, ...]
    analyses: int = 0
    seeds: int = 0
    failure_rates: Mapping[str, Sequence[FailureRate]] = field(default_factory=dict)
    failure_differences: Mapping[str, Sequence[FailureDifference]] = field(default_factory=dict)
    lucks: Mapping[tuple[str, str], TuningLuck] = field(default_factory=dict)


def compute_verdict(sweep: SweepResults) -> Verdict:
    """Conclude from the confirm runs of the last complete analysis.

    Before the first analysis, and without a plan, no winner is named. A winner is an arm tuned with the plan's budget; where each arm was
    tuned once, the differences are about the tuned settings alone and are graded so.

    Args:
        sweep: the results with every run.

    Returns:
        The verdict.
    """
    plan = sweep.design
    if not plan.declared:
        return _pooled(sweep)
    analyses = plan.sequential.completed_analyses(sweep.complete_seeds())
    if analyses == 0:
        has_scores = any(seeds for block in sweep.scores().values() for seeds in block.values())
        return _interim(sweep) if has_scores else _exploratory(sweep, tuple(caveats(sweep)))
    size = plan.sequential.sizes[analyses - 1]
    seen = sweep.first_seeds(size)
    flags = tuple(caveats(seen))
    failed = failures(seen)
    differences = _compare(seen, failed)
    families = [ALL_BLOCKS, *plan.blocks] if len(plan.blocks) > 1 else list(plan.blocks)
    evidence = {block: _family_evidence(seen, block, differences, failed) for block in families}
    rates = {block: tuple(known.rates.values()) for block, known in evidence.items()}
    tests = {block: tuple(known.failure_differences) for block, known in evidence.items()}
    if nothing_learned(failed, plan.blocks):
        headline = _nothing_learned(seen, plan.blocks)
        return Verdict("nothing learned", None, headline, (), flags, tuple(differences), analyses, size, rates, tests)
    main = conclude_family(seen, evidence[families[0]])
    details = list(main.details)
    if len(families) > 1:
        details.append("Block by block, each tested alone:")
    for block in plan.blocks if len(families) > 1 else ():
        empty = nothing_learned(failed, [block])
        headline = _nothing_learned(seen, [block]) if empty else conclude_family(seen, evidence[block]).headline
        details.append(f"In {block}: {headline}")
    lucks = tuning_lucks(seen) if plan.is_conditional else {}
    about = scope_sentence(sweep.scope)
    details += [*([about] if about else []), *_conditional(seen, main, lucks), *_pending(sweep, size)]
    return Verdict(main.grade, main.winner, main.headline, tuple(details), flags, tuple(differences), analyses, size, rates, tests, lucks)


def _compare(sweep: SweepResults, failed: Failures) -> list[PairedDifference]:
    """All pairs, among the runs that learned; graded as tuned where the luck of tuning is not in the interval."""
    plan = sweep.design
    scores = learned_scores(sweep, failed)
    differences = compare_pairs(
        scores,
        plan.arms,
        goal=plan.goal,
        margin=plan.margin,
        design=plan.sequential,
        seed_order=sweep.seed_order,
        correct=_correct_images(sweep, scores) if sweep.score_metric == "test/accuracy" else None,
    )
    differences = [d if d.grade != "identical" or _are_twins(sweep, failed, d) else replace(d, grade="tie") for d in differences]
    if not plan.is_conditional:
        return differences
    conditional: dict[Grade, Grade] = {"supported": "as tuned", "tie": "tie as tuned"}
    return [replace(d, grade=conditional.get(d.grade, d.grade)) for d in differences]


def _are_twins(sweep: SweepResults, failed: Failures, difference: PairedDifference) -> bool:
    """Whether two arms of equal scores also failed on the same seeds, and classified the same images correctly."""
    first, second = difference.better, difference.worse
    for block in sweep.design.blocks if difference.block == ALL_BLOCKS else (difference.block,):
        correct = sweep.test_correct.get(block, {})
        runs, others = correct.get(first, {}), correct.get(second, {})
        if failed[block][first] != failed[block][second] or runs.keys() != others.keys():
            return False
        if any((runs[seed] != others[seed]).any() for seed in runs):
            return False
    return True


def _correct_images(sweep: SweepResults, scores: Scores) -> CorrectImages:
    """Which test images the runs with a score classified correctly."""
    return {
        block: {arm: {seed: correct for seed, correct in runs.items() if seed in scores[block][arm]} for arm, runs in by_arm.items()}
        for block, by_arm in sweep.test_correct.items()
    }


def _family_evidence(sweep: SweepResults, block: str, differences: Sequence[PairedDifference], failed: Failures) -> FamilyEvidence:
    """The numbers of one family."""
    plan = sweep.design
    in_family = failed_in_any_block(failed) if block == ALL_BLOCKS else failed[block]
    with_runs = {arm: by_seed for arm, by_seed in in_family.items() if by_seed}
    blocks = plan.blocks if block == ALL_BLOCKS else (block,)
    return FamilyEvidence(
        block=block,
        means=arm_means(sweep, block),
        differences=[d for d in differences if d.block == block],
        rates={rate.arm: rate for rate in failure_rates(with_runs, plan.sequential, sweep.seed_order)},
        failure_differences=compare_failures(with_runs, plan.sequential, sweep.seed_order),
        never_learned=[arm for arm in plan.arms if any(arm in arms_that_never_learned(sweep, failed, in_block) for in_block in blocks)],
        untrained=[arm for arm in plan.arms if all(sweep.never_trained(arm, in_block) for in_block in blocks)],
    )


def _nothing_learned(sweep: SweepResults, blocks: Sequence[str]) -> str:
    """That no run is better than guessing, or that all of them diverged or failed."""
    arms = formatting.join_names(list(sweep.design.arms))
    levels = [level for block in blocks if (level := guessing_level(sweep, block)) is not None]
    best = best_accuracy(sweep, blocks)
    if best is None or not levels:
        return f"Nothing learned: every confirm run of {arms} diverged or failed, so there is nothing to compare."
    rows = sweep.stage_runs("confirm")
    lost = rows["block"].isin(blocks) & rows["state"].isin(ENDED) & ~rows["state"].eq("finished")
    others = " that trained to its end" if lost.any() else ""
    best_text, guess = (formatting.score(accuracy, "test/accuracy") for accuracy in (best, max(levels)))
    return (
        f"Nothing learned: no run of {arms}{others} is better than guessing. The best reaches {best_text}; naming the most frequent "
        f"class every time gives {guess}. So there is nothing to compare."
    )


def _conditional(sweep: SweepResults, conclusion: Conclusion, lucks: Mapping[tuple[str, str], TuningLuck]) -> list[str]:
    """What a verdict about settings that were tuned once leaves to luck, and how to have it settled."""
    plan = sweep.design
    if not plan.is_conditional or conclusion.grade not in ("as tuned", "tie as tuned"):
        return []
    lines = [
        "Each arm was tuned once, so this is about the settings that were chosen, not about the arms: the luck of tuning is not included."
    ]
    if any(luck.sd > 0 for luck in lucks.values()):
        (arm, _), largest = max(lucks.items(), key=lambda item: item[1].sd)
        sd = formatting.difference(largest.sd, plan.metric)
        lines[0] += (
            f" According to curves fitted to the trials, another tuning would move an arm by up to {sd} (standard deviation, {arm})."
        )
    return [*lines, f"More studies, each with its own tuning, would settle it: {plan.extend_command} studies"]


def missing_confirm_runs(sweep: SweepResults) -> int:
    """How many confirm runs of the first look have not ended; arms that never trained have none."""
    rows, pool = sweep.stage_runs("confirm"), set(sweep.seed_order[: sweep.design.seeds])
    done = rows[rows["state"].isin(ENDED) & rows["seed"].isin(pool)].groupby(["arm", "block"])["seed"].nunique()
    missing = 0
    for cell in sweep.design.planned_arms:
        if not sweep.never_trained(cell.arm, cell.block):
            unconfirmed = sum(sweep.never_confirmed(cell.arm, cell.block, seed) for seed in pool)
            missing += max(0, sweep.design.seeds - unconfirmed - int(done.get((cell.arm, cell.block), 0)))
    return missing


def arm_means(sweep: SweepResults, block: str) -> dict[str, MeanInterval]:
    """The mean of each arm that has a score, with its interval, over the runs that are compared (see `compared_scores`).

    Args:
        sweep: the results.
        block: a block, or `ALL_BLOCKS`.

    Returns:
        Arm -> mean and interval, best first.
    """
    scores = compared_scores(sweep)
    scores_by_arm: Mapping[str, Mapping[int, float]] = mean_over_blocks(scores, sweep.design.arms) if block == ALL_BLOCKS else scores[block]
    study_of_seed = sweep.design.study_of_seed(set(sweep.seed_order))
    means = {arm: clustered_mean_interval(by_seed, study_of_seed) for arm, by_seed in scores_by_arm.items() if by_seed}
    return dict(sorted(means.items(), key=lambda item: item[1].mean, reverse=sweep.design.goal == "maximize"))


def _pending(sweep: SweepResults, size: int) -> list[str]:
    """What is under way beyond the look that the verdict rests on."""
    later = set(sweep.seed_order[size:])
    rows = sweep.stage_runs("confirm")
    done = count_states(rows[rows["seed"].isin(later)], ENDED)
    asked = (sweep.queued_seeds or 0) > size
    if not done and not asked:
        return []
    total = f" of {(sweep.queued_seeds - size) * len(sweep.design.planned_arms)}" if asked and sweep.queued_seeds is not None else ""
    return [
        f"This is the verdict on the first {size} seeds; {done}{total} runs of a later analysis are done; the others are still to come."
    ]


def _interim(sweep: SweepResults) -> Verdict:
    """Seeds are still missing from the first look: the numbers are shown, and nothing is claimed."""
    plan, missing = sweep.design, missing_confirm_runs(sweep)
    planned = plan.seeds * sum(not sweep.never_trained(cell.arm, cell.block) for cell in plan.planned_arms)
    seen = max(1, len(sweep.seed_order))
    so_far = SequentialDesign((seen,), plan.studies, tuple(plan.sequential.study_at(position) for position in range(seen)))
    if not plan.sequential.has_studies:
        so_far = SequentialDesign((seen,))
    scores = compared_scores(sweep)
    differences = compare_pairs(scores, plan.arms, goal=plan.goal, margin=plan.margin, design=so_far, seed_order=sweep.seed_order)
    headline = (
        f"No verdict yet: {planned - missing} of {formatting.count_noun(planned, 'confirm run')} are done. "
        "Looking early and often would turn chance into claims, so no winner is named before all planned seeds are done."
    )
    return Verdict(
        "interim", None, headline, (), tuple(caveats(sweep)), tuple(replace(d, grade="interim", more_seeds=None) for d in differences)
    )


def _pooled(sweep: SweepResults) -> Verdict:
    """Runs that were put together afterwards: differences with plain intervals, and no winner however clear they look."""
    plan, scores = sweep.design, sweep.scores()
    differences = compare_pairs(scores, plan.arms, goal=plan.goal, margin=plan.margin)
    scored = sum(len(seeds) for block in scores.values() for seeds in block.values())
    headline = (
        f"Exploratory: {formatting.count_noun(scored, 'run')} with a score in {formatting.count_noun(len(plan.arms), 'group')}, put together after they "  # noqa: E501
        "were run. No plan said what would be compared, so no winner is named."
    )
    details: list[str] = []
    for block in plan.blocks:
        means = arm_means(sweep, block)
        words = [
            f"{arm} {formatting.score(mean.mean, sweep.score_metric)} (n = {mean.n})"
            for arm, mean in list(means.items())[: formatting.LISTED]
        ]
        if words:
            where = f" in {block}" if len(plan.blocks) > 1 else ""
            details.append(f"Mean {formatting.metric_name(sweep.score_metric)}{where}: {', '.join(words)}.")
    graded = tuple(replace(d, grade="exploratory", more_seeds=None) for d in differences)
    return Verdict("exploratory", None, headline, tuple(details), tuple(caveats(sweep)), graded)


def _exploratory(sweep: SweepResults, flags: tuple[str, ...]) -> Verdict:
    """Nothing but tuning runs: scores were chosen as the best of many, so they flatter."""
    done = count_states(sweep.stage_runs("tune"), ENDED)
    planned = sweep.design.trials
    headline = (
        f"Exploratory: {done} of {formatting.count_noun(planned, 'tuning run')} done and no confirm run has a score, so no winner is named."
    )
    details = ["Tuned scores are optimistic: each is the best of several tries on the same validation data and the same seed."]
    for block in sweep.design.blocks:
        best = {arm: row for arm in sweep.design.arms if (row := sweep.best_trial(arm, block)) is not None}
        words = [f"{arm} {formatting.score(float(row['score']), sweep.design.metric)}" for arm, row in best.items()]
        if words:
            where = f" in {block}" if len(sweep.design.blocks) > 1 else ""
            details.append(f"Best {formatting.metric_name(sweep.design.metric)} seen{where}: {', '.join(words)}.")
    return Verdict("exploratory", None, headline, tuple(details), flags, ())
