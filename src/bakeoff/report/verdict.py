"""The verdict: sentences made from the numbers, which never say more than those carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bakeoff.report import wording
from bakeoff.report.statistics import LEVEL, MOST_SEEDS, OVERALL, POWER, Difference, Interval, averaged, compare, mean_interval
from bakeoff.report.tidy import Sweep, counted

Kind = Literal["supported", "tie", "under-powered", "unknown", "interim", "exploratory"]
ENDED = ("finished", "diverged", "failed")
SMALL = 6  # below this many pairs the t interval leans on the differences being normal, which so few cannot show


@dataclass(frozen=True)
class Verdict:
    """`winner` is None unless the grade is supported. `differences` has every pair over the blocks and in each."""

    kind: Kind
    winner: str | None
    headline: str
    details: tuple[str, ...]
    caveats: tuple[str, ...]
    differences: tuple[Difference, ...]


def judge(sweep: Sweep) -> Verdict:
    """What the confirm runs carry; a sweep without them, or with a part of them, gets no winner."""
    plan, scores = sweep.design, sweep.scores()
    caveats = tuple(_caveats(sweep))
    if not any(seeds for block in scores.values() for seeds in block.values()):
        return _exploratory(sweep, caveats)
    differences = compare(scores, plan.arms, goal=plan.goal, margin=plan.margin)
    family = OVERALL if len(plan.blocks) > 1 else plan.blocks[0]
    kind, winner, headline, details = conclude(sweep, family, differences)
    if len(plan.blocks) > 1:
        details += [f"In {block}: {conclude(sweep, block, differences)[2]}" for block in plan.blocks]
    lost = sweep.stage("confirm").query("state == 'diverged' and score != score")
    if winner is not None and (lost["arm"] == winner).any():
        # Without its diverged runs an arm would look better than it is.
        headline = f"No winner: {winner} leads where it trains, but some of its confirm runs diverged and cannot be counted in a mean."
        kind, winner = "unknown", None
    missing = unfinished(sweep)
    if missing:
        planned = plan.confirms
        headline = (
            f"No verdict yet: {planned - missing} of {wording.count(planned, 'confirm run')} are done. "
            "Looking early and often would turn chance into claims, so no winner is named before the planned seeds are in."
        )
        return Verdict("interim", None, headline, (), caveats, tuple(replace(d, grade="interim") for d in differences))
    return Verdict(kind, winner, headline, tuple(details), caveats, tuple(differences))


def unfinished(sweep: Sweep) -> int:
    """How many planned confirm runs have not ended."""
    rows = sweep.stage("confirm")
    done = rows[rows["state"].isin(ENDED)].groupby(["arm", "block"])["seed"].nunique()
    return sum(max(0, sweep.design.seeds - int(done.get((cell.arm, cell.block), 0))) for cell in sweep.design.cells)


def standing(sweep: Sweep, block: str) -> dict[str, Interval]:
    """arm -> mean and interval in a block, or over the blocks, best first; arms without a score are left out."""
    scores = sweep.scores()
    table: Mapping[str, Mapping[int, float]] = averaged(scores, sweep.design.arms) if block == OVERALL else scores[block]
    found = {arm: mean_interval(list(seeds.values())) for arm, seeds in table.items() if seeds}
    return dict(sorted(found.items(), key=lambda item: item[1].mean, reverse=sweep.design.goal == "maximize"))


def conclude(sweep: Sweep, block: str, differences: Sequence[Difference]) -> tuple[Kind, str | None, str, list[str]]:
    """(grade, winner, headline, details) of one family of comparisons."""
    means, metric = standing(sweep, block), sweep.scored
    if len(means) < 2:
        only = f"{wording.joined(list(means))} alone has" if means else "no arm has"
        return "unknown", None, f"Nothing to compare: {only} a confirm score.", []
    leader, *rest = means
    pairs = {(d.better, d.worse): d for d in differences if d.block == block}
    against = {arm: pairs.get((leader, arm)) or pairs.get((arm, leader)) for arm in rest}
    beaten = [arm for arm in rest if (d := against[arm]) is not None and d.grade == "supported" and d.better == leader]
    level = [arm for arm in rest if arm not in beaten]
    told = wording.metric_name(metric)
    if not level:
        nearest = min((d for d in against.values() if d is not None), key=lambda d: d.advantage)
        head = f"{leader} beats {rest[0]}" if len(rest) == 1 else f"{leader} is the best of the {len(means)} arms"
        runner = f"{leader} reaches {wording.score(means[leader].mean, metric)} mean {told}, "
        runner += f"{nearest.worse} {wording.score(means[nearest.worse].mean, metric)}"
        return (
            "supported",
            leader,
            f"{head} by {wording.gap(nearest.advantage, metric)} of {told}{_rival(rest, nearest)}.",
            [f"{runner}. {evidence(nearest, metric, pairs=len(pairs))}"],
        )
    details = [_behind(leader, beaten, against)] if beaten else []
    open_pairs = [d for arm in level if (d := against[arm]) is not None]
    details += [f"{leader} against {_other(d, leader)}: {evidence(d, metric, pairs=len(pairs))}" for d in open_pairs[:4]]
    if len(open_pairs) < len(level) and any(against[arm] is None for arm in level):
        details.append(f"{wording.joined([arm for arm in level if against[arm] is None])}: no seed in common with {leader}.")
    if open_pairs and all(d.grade == "tie" for d in open_pairs) and len(open_pairs) == len(level):
        margin = wording.gap(sweep.design.margin, metric)
        return "tie", None, f"A tie: {wording.joined([leader, *level])} differ by less than the margin of {margin} of {told}.", details
    kind: Kind = "under-powered" if any(d.grade == "under-powered" for d in open_pairs) else "unknown"
    head = f"No winner: these runs cannot tell {leader} from {wording.joined(level, last='or')} in {told}."
    return kind, None, head, details + _more(open_pairs, sweep)


def evidence(d: Difference, metric: str, *, pairs: int) -> str:
    """One comparison with everything that it rests on."""
    start = f"{d.better} is ahead by {wording.gap(d.advantage, metric)}" if d.advantage > 0 else "no difference"
    if d.low is None:
        return f"{start}; a single shared seed gives no interval."
    if d.p is None:
        return f"{start} on each of {wording.count(d.n, 'seed')}: without any spread there is nothing to test against."
    corrected = f", corrected over {pairs} pairs" if pairs > 1 else ""
    low, high = wording.gap(d.low, metric, unit=False), wording.gap(d.high, metric, unit=False)
    interval = f"{wording.percent(LEVEL)} interval of the paired difference {low} to {high}"
    return f"{start} ({interval}; n = {d.n} seeds; {wording.p_value(d.p_holm)}{corrected})."


def _rival(rest: Sequence[str], nearest: Difference) -> str:
    return "" if len(rest) == 1 else f" over its closest rival, {nearest.worse}"


def _other(d: Difference, leader: str) -> str:
    return d.worse if d.better == leader else d.better


def _behind(leader: str, beaten: Sequence[str], against: Mapping[str, Difference | None]) -> str:
    least = min(d.n for arm in beaten if (d := against[arm]) is not None)
    verb = "is" if len(beaten) == 1 else "are each"
    return f"{wording.joined(beaten)} {verb} behind {leader} (p < {1 - LEVEL:.2f} after correction for all pairs; n >= {least} seeds)."


def _more(open_pairs: Sequence[Difference], sweep: Sweep) -> list[str]:
    weak = [d for d in open_pairs if d.grade == "under-powered"]
    if not weak:
        return []
    closest = min(weak, key=lambda d: d.advantage)
    size = wording.gap(max(closest.advantage, sweep.design.margin), sweep.scored)
    chance = f"a chance of {wording.percent(POWER)} to find a true difference of"
    between = f"between {closest.better} and {closest.worse}"
    if closest.more is None:
        return [f"More than {MOST_SEEDS} seeds would be needed for {chance} {size} {between}."]
    return [f"About {wording.count(closest.more, 'more seed')} would give {chance} {size} {between}."]


def _exploratory(sweep: Sweep, caveats: tuple[str, ...]) -> Verdict:
    """Nothing but tuning runs: scores were chosen as the best of many, so they flatter."""
    done = counted(sweep.stage("tune"), ENDED)
    planned = sweep.design.trials
    headline = f"Exploratory: {done} of {wording.count(planned, 'tuning run')} done and no confirm run has a score, so no winner is named."
    details = ["Tuned scores are optimistic: each is the best of several tries on the same validation data and the same seed."]
    for block in sweep.design.blocks:
        best = {arm: row for arm in sweep.design.arms if (row := sweep.best(arm, block)) is not None}
        words = [f"{arm} {wording.score(float(row['score']), sweep.design.metric)}" for arm, row in best.items()]
        if words:
            where = f" in {block}" if len(sweep.design.blocks) > 1 else ""
            details.append(f"Best {wording.metric_name(sweep.design.metric)} seen{where}: {', '.join(words)}.")
    return Verdict("exploratory", None, headline, tuple(details), caveats, ())


def _caveats(sweep: Sweep) -> list[str]:
    """What a reader must know before using the verdict."""
    plan, runs, found = sweep.design, sweep.runs, []
    for cell in plan.cells:
        best = sweep.best(cell.arm, cell.block)
        for key, space in cell.spaces.items():
            side = space.edge(float(best[key])) if best is not None else None
            if best is not None and side is not None:
                where = f" in {cell.block}" if len(plan.blocks) > 1 else ""
                low, high = wording.plain(space.low), wording.plain(space.high)
                found.append(
                    f"Edge of the space: {cell.arm}'s best {key}{where} is {wording.plain(float(best[key]))}, at the {side} end of "
                    f"{low} to {high}; a better value may lie outside."
                )
    for stage, word in (("tune", "tuning"), ("confirm", "confirm")):
        for arm in plan.arms:
            rows = runs[(runs["stage"] == stage) & (runs["arm"] == arm)]
            diverged, failed = counted(rows, ["diverged"]), counted(rows, ["failed"])
            if diverged:
                worst = plan.metric.endswith("accuracy")
                counts = "count as the worst outcome" if worst else "have no score, since a loss has no worst value"
                found.append(f"{arm}: {diverged} of {wording.count(len(rows), f'{word} run')} diverged and {counts}.")
            if failed:
                found.append(f"{arm}: {failed} of {wording.count(len(rows), f'{word} run')} failed and have no score.")
    tried = runs[(runs["stage"] == "tune") & runs["state"].isin(ENDED)].groupby(["arm", "block"]).size()
    budgets = [int(tried.get((cell.arm, cell.block), 0)) for cell in plan.cells]
    if len(set(budgets)) > 1:
        found.append(f"Tuning budgets are not equal: between {min(budgets)} and {max(budgets)} runs an arm and block.")
    lacking = [a for a in plan.arms if not any(sweep.scores()[b][a] for b in plan.blocks)]
    if len(sweep.stage("confirm")) and lacking:
        found.append(f"{wording.joined(lacking)}: no confirm run has a score, so the verdict says nothing about it.")
    shared = min((len(seeds) for block in sweep.scores().values() for seeds in block.values() if seeds), default=0)
    if 0 < shared < SMALL:
        found.append(f"Few seeds (n = {shared}): intervals lean on scores being normally distributed, which so few cannot show.")
    if len(plan.blocks) > 1:
        found.append(f"The mean is over these {len(plan.blocks)} blocks and says nothing about others.")
    commits = sweep.origin.get("git.commit", ())
    if len(commits) > 1:
        found.append(f"The runs come from {len(commits)} commits of the code.")
    if sweep.scored == plan.metric and len(sweep.stage("confirm")):
        found.append(f"No confirm run has a test score: the verdict rests on {wording.metric_name(plan.metric)}.")
    return found
