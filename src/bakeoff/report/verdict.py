"""The verdict: sentences made from the numbers, which never say more than those carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bakeoff.report import formatting
from bakeoff.report.caveats import caveats
from bakeoff.report.results import ENDED, SweepResults, count_states
from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.intervals import ALPHA, LEVEL, MeanInterval, clustered_mean_interval
from bakeoff.stats.paired import Grade, PairedDifference, compare_pairs
from bakeoff.stats.power import MAX_SEEDS, POWER, seeds_needed
from bakeoff.stats.scores import ALL_BLOCKS, mean_over_blocks


@dataclass(frozen=True)
class Verdict:
    """What the runs of a sweep support.

    Attributes:
        grade: the grade of the family that the verdict rests on.
        winner: the best arm; None unless the grade is supported.
        headline: the verdict in one sentence.
        details: sentences with the evidence.
        caveats: what a reader must know before using the verdict.
        differences: every pair of arms, over the blocks and in each.
        analyses: how many of the plan's analyses the verdict rests on; 0 where there is no verdict yet.
        seeds: how many seeds those are.
    """

    grade: Grade
    winner: str | None
    headline: str
    details: tuple[str, ...]
    caveats: tuple[str, ...]
    differences: tuple[PairedDifference, ...]
    analyses: int = 0
    seeds: int = 0


def compute_verdict(sweep: SweepResults) -> Verdict:
    """Conclude from the confirm runs of the last complete analysis.

    Before the first analysis, and without a plan, no winner is named.

    Args:
        sweep: the results with every run.

    Returns:
        The verdict.
    """
    plan = sweep.design
    if not plan.declared:
        return _pooled(sweep)
    if not any(seeds for block in sweep.scores().values() for seeds in block.values()):
        return _exploratory(sweep, tuple(caveats(sweep)))
    analyses = plan.sequential.completed_analyses(sweep.complete_seeds())
    if analyses == 0:
        return _interim(sweep)
    size = plan.sequential.sizes[analyses - 1]
    seen = sweep.first_seeds(size)
    flags = tuple(caveats(seen))
    differences = compare_pairs(
        seen.scores(), plan.arms, goal=plan.goal, margin=plan.margin, design=plan.sequential, seed_order=seen.seed_order
    )
    family = ALL_BLOCKS if len(plan.blocks) > 1 else plan.blocks[0]
    grade, winner, headline, details = conclude_family(seen, family, differences)
    if len(plan.blocks) > 1:
        details += [f"In {block}: {conclude_family(seen, block, differences)[2]}" for block in plan.blocks]
    rows = seen.stage_runs("confirm")
    if winner is not None and ((rows["arm"] == winner) & (rows["state"] == "diverged") & rows["score"].isna()).any():
        # Without its diverged runs an arm would look better than it is.
        headline = f"No winner: {winner} leads where it trains, but some of its confirm runs diverged and cannot be counted in a mean."
        grade, winner = "unknown", None
    details += _pending(sweep, size)
    return Verdict(grade, winner, headline, tuple(details), flags, tuple(differences), analyses, size)


def missing_confirm_runs(sweep: SweepResults) -> int:
    """How many confirm runs of the first look have not ended; arms that never trained have none."""
    rows, pool = sweep.stage_runs("confirm"), set(sweep.seed_order[: sweep.design.seeds])
    done = rows[rows["state"].isin(ENDED) & rows["seed"].isin(pool)].groupby(["arm", "block"])["seed"].nunique()
    cells = [cell for cell in sweep.design.planned_arms if not sweep.never_trained(cell.arm, cell.block)]
    return sum(max(0, sweep.design.seeds - int(done.get((cell.arm, cell.block), 0))) for cell in cells)


def arm_means(sweep: SweepResults, block: str) -> dict[str, MeanInterval]:
    """The mean of each arm that has a score, with its interval.

    Args:
        sweep: the results.
        block: a block, or `ALL_BLOCKS`.

    Returns:
        Arm -> mean and interval, best first.
    """
    scores = sweep.scores()
    scores_by_arm: Mapping[str, Mapping[int, float]] = mean_over_blocks(scores, sweep.design.arms) if block == ALL_BLOCKS else scores[block]
    study_of_seed = sweep.design.study_of_seed(set(sweep.seed_order))
    means = {arm: clustered_mean_interval(by_seed, study_of_seed) for arm, by_seed in scores_by_arm.items() if by_seed}
    return dict(sorted(means.items(), key=lambda item: item[1].mean, reverse=sweep.design.goal == "maximize"))


def conclude_family(sweep: SweepResults, block: str, differences: Sequence[PairedDifference]) -> tuple[Grade, str | None, str, list[str]]:
    """(grade, winner, headline, details) of one family of comparisons."""
    means, metric = arm_means(sweep, block), sweep.score_metric
    if len(means) < 2:
        only = f"{formatting.join_names(list(means))} alone has" if means else "no arm has"
        return "unknown", None, f"Nothing to compare: {only} a confirm score.", []
    leader, *rest = means
    pairs = {(d.better, d.worse): d for d in differences if d.block == block}
    against = {arm: pairs.get((leader, arm)) or pairs.get((arm, leader)) for arm in rest}
    beaten = [arm for arm in rest if (d := against[arm]) is not None and d.grade == "supported" and d.better == leader]
    level = [arm for arm in rest if arm not in beaten]
    metric_name, analyses = formatting.metric_name(metric), len(sweep.design.sequential.sizes)
    if not level:
        nearest = min((d for d in against.values() if d is not None), key=lambda d: d.advantage)
        head = f"{leader} beats {rest[0]}" if len(rest) == 1 else f"{leader} is the best of the {len(means)} arms"
        runner = f"{leader} reaches {formatting.score(means[leader].mean, metric)} mean {metric_name}, "
        runner += f"{nearest.worse} {formatting.score(means[nearest.worse].mean, metric)}"
        size = f"by {formatting.difference(nearest.advantage, metric)} of {metric_name}{_rival(rest, nearest)}"
        proof = [f"{runner}. {evidence(nearest, metric, pairs=len(pairs), analyses=analyses)}", *_small(nearest, sweep)]
        return "supported", leader, f"{head} {size}.", proof
    details = [_behind(leader, beaten, against)] if beaten else []
    open_pairs = [d for arm in level if (d := against[arm]) is not None]
    details += [f"{leader} against {_other(d, leader)}: {evidence(d, metric, pairs=len(pairs), analyses=analyses)}" for d in open_pairs[:4]]
    if len(open_pairs) < len(level) and any(against[arm] is None for arm in level):
        details.append(f"{formatting.join_names([arm for arm in level if against[arm] is None])}: no seed in common with {leader}.")
    if open_pairs and all(d.grade == "tie" for d in open_pairs) and len(open_pairs) == len(level):
        margin = formatting.difference(sweep.design.margin, metric)
        return (
            "tie",
            None,
            f"A tie: {formatting.join_names([leader, *level])} differ by less than the margin of {margin} of {metric_name}.",
            details,
        )
    grade: Grade = "under-powered" if any(d.grade == "under-powered" for d in open_pairs) else "unknown"
    head = f"No winner: these runs cannot tell {leader} from {formatting.join_names(level, last='or')} in {metric_name}."
    return grade, None, head, details + _more(open_pairs, sweep, len(pairs))


def evidence(d: PairedDifference, metric: str, *, pairs: int, analyses: int = 1) -> str:
    """Put one comparison into words, with everything that it rests on.

    Args:
        d: the comparison.
        metric: the metric of the scores.
        pairs: pairs in the family, over which p values are corrected.
        analyses: analyses that the plan declares.

    Returns:
        A sentence.
    """
    start = f"{d.better} is ahead by {formatting.difference(d.advantage, metric)}" if d.advantage > 0 else "no difference"
    if d.n < 2:
        return f"{start}; a single shared seed gives no interval."
    if d.studies is not None and d.studies < 2:
        return f"{start}; the seeds of a single study give no interval for an arm as it is tuned."
    if d.low is None or d.high is None:
        return f"{start} after {formatting.count_noun(d.n, 'seed')}, but the looks at the fewer seeds before contradict that; nothing can be told."  # noqa: E501
    if d.low == d.high and d.advantage > 0:
        each = formatting.count_noun(d.n, "seed") if d.studies is None else f"{d.studies} studies"
        return f"{start} on each of {each}, without any spread to test against ({formatting.p_value(d.p_holm)})."
    corrected = f", corrected over {pairs} pairs" if pairs > 1 else ""
    low, high = formatting.difference(d.low, metric, unit=False), formatting.difference(d.high, metric, unit=False)
    over = f", good for all {analyses} looks" if analyses > 1 else ""
    interval = f"{formatting.percent(LEVEL)} interval of the paired difference {low} to {high}{over}"
    votes, rests = (d.n, f"n = {d.n} seeds") if d.studies is None else (d.studies, f"n = {d.studies} studies of {d.n} seeds in all")
    on = f"; ahead on {d.ahead * votes:.3g} of them" if d.ahead is not None and d.advantage > 0 else ""
    return f"{start} ({interval}; {rests}{on}; {formatting.p_value(d.p_holm)}{corrected})."


def _small(d: PairedDifference, sweep: SweepResults) -> list[str]:
    """What a supported difference is worth, where it is not clearly more than the margin."""
    margin, margin_text = sweep.design.margin, formatting.difference(sweep.design.margin, sweep.score_metric)
    if d.low is None or d.high is None or d.low >= margin:
        return []
    small = "is smaller than" if d.high <= margin else "may be smaller than"
    return [f"The difference {small} the margin of {margin_text}, below which the sweep file says that none matters."]


def _rival(rest: Sequence[str], nearest: PairedDifference) -> str:
    return "" if len(rest) == 1 else f" over its closest rival, {nearest.worse}"


def _other(d: PairedDifference, leader: str) -> str:
    return d.worse if d.better == leader else d.better


def _behind(leader: str, beaten: Sequence[str], against: Mapping[str, PairedDifference | None]) -> str:
    least = min(d.n for arm in beaten if (d := against[arm]) is not None)
    verb = "is" if len(beaten) == 1 else "are each"
    return (
        f"{formatting.join_names(beaten)} {verb} behind {leader} (p < {1 - LEVEL:.2f} after correction for all pairs; n >= {least} seeds)."
    )


def _more(open_pairs: Sequence[PairedDifference], sweep: SweepResults, pairs: int) -> list[str]:
    weak = [d for d in open_pairs if d.grade == "under-powered"]
    if not weak:
        return []
    plan, closest = sweep.design, min(weak, key=lambda d: d.advantage)
    delta = max(closest.advantage, plan.margin)
    chance = f"a chance of {formatting.percent(POWER)} to find a true difference of {formatting.difference(delta, sweep.score_metric)}"
    between = f"between {closest.better} and {closest.worse}"
    if closest.more_seeds is not None:
        return [f"{formatting.count_noun(closest.more_seeds, 'more seed')} would give {chance} {between}: {plan.extend_command}"]
    most = plan.sequential.sizes[-1]
    needed = seeds_needed(delta, sd=closest.sd, alpha=ALPHA / pairs) if closest.sd else None
    fresh = f"about {formatting.count_noun(needed, 'seed')}" if needed is not None else f"more than {MAX_SEEDS} seeds"
    if plan.studies > 1:
        # Of what tuning arrives at, more seeds say no more.
        fresh = f"budget.studies={needed} and as many seeds for each" if needed is not None else f"more than {MAX_SEEDS} studies"
    end = (
        "The plan has no more seeds"
        if closest.analyses >= len(plan.sequential.sizes)
        else f"The plan's last look, at {most} seeds, is too early"
    )
    return [f"{end}: a plan of its own with {fresh} would give {chance} {between}."]


def _pending(sweep: SweepResults, size: int) -> list[str]:
    """What is under way beyond the look that the verdict rests on."""
    later = set(sweep.seed_order[size:])
    rows = sweep.stage_runs("confirm")
    done = count_states(rows[rows["seed"].isin(later)], ENDED)
    asked = (sweep.queued_seeds or 0) > size
    if not done and not asked:
        return []
    total = f" of {(sweep.queued_seeds - size) * len(sweep.design.planned_arms)}" if asked and sweep.queued_seeds is not None else ""
    return [f"This is the verdict on the first {size} seeds; {done}{total} runs of a later look are done and wait for the others."]


def _interim(sweep: SweepResults) -> Verdict:
    """Seeds are still missing from the first look: the numbers are shown, and nothing is claimed."""
    plan, missing = sweep.design, missing_confirm_runs(sweep)
    planned = plan.seeds * sum(not sweep.never_trained(cell.arm, cell.block) for cell in plan.planned_arms)
    so_far = SequentialDesign((max(1, len(sweep.seed_order)),), plan.studies)
    differences = compare_pairs(
        sweep.scores(), plan.arms, goal=plan.goal, margin=plan.margin, design=so_far, seed_order=sweep.seed_order, permutation_tests=False
    )
    headline = (
        f"No verdict yet: {planned - missing} of {formatting.count_noun(planned, 'confirm run')} are done. "
        "Looking early and often would turn chance into claims, so no winner is named before the planned seeds are in."
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
