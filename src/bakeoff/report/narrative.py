"""One or two sentences for each section, made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bakeoff.report import formatting
from bakeoff.report.importance import MIN_TRIALS as LEAST_TRIALS
from bakeoff.stats.aggregates import N_RESAMPLES
from bakeoff.stats.intervals import ALPHA, LEVEL
from bakeoff.stats.multiple_comparisons import MAX_ARMS
from bakeoff.stats.scores import ALL_BLOCKS

if TYPE_CHECKING:
    from bakeoff.report.analysis import Analysis

#: Statements of one kind that are told in words; the table has all of them.
MOST = 6


def all_of(found: Analysis) -> Mapping[str, tuple[str, ...]]:
    """Section -> its sentences."""
    makers = {
        "aggregate": aggregate, "families": families, "ranks": ranks, "effects": effects, "importance": importance, "budget": budget,
        "target": target, "region": region, "tuning": tuning,
    }  # fmt: skip
    return {name: tuple(make(found)) for name, make in makers.items()}


def aggregate(found: Analysis) -> Iterator[str]:
    """How good bootstrap intervals are at this size."""
    if not found.aggregates:
        yield "No arm has scores in every block, so there is no interquartile mean."
        return
    covers = sorted({one.coverage for one in found.aggregates if one.coverage is not None})
    if covers:
        span = " to ".join(formatting.percent(one) for one in dict.fromkeys((covers[0], covers[-1])))
        yield (
            f"Interquartile mean of all runs, with a stratified bootstrap of {N_RESAMPLES:,} resamples. Intervals of this kind and size held "  # noqa: E501
            f"the truth in {span} of simulated sweeps, not in {formatting.percent(LEVEL)}: they are shown, and decide nothing."
        )
    else:
        yield "Interquartile mean of all runs; with fewer than three seeds in a block a bootstrap tells nothing about its spread."


def families(found: Analysis) -> Iterator[str]:
    """How many pairs the procedures for independent samples tell apart."""
    if not found.simultaneous:
        yield f"Tukey's procedure is made for 2 to {MAX_ARMS} arms with two scores each."
    for procedure, name in (("tukey", "Tukey's HSD"), ("dunnett", "Dunnett's test against the baseline")):
        rows = [one for one in found.simultaneous if one.procedure == procedure]
        if rows:
            apart = sum(one.p < ALPHA for one in rows)
            yield f"{name} tells {apart} of {formatting.count_noun(len(rows), 'pair')} apart at 5 %, without use of the shared seeds."


def ranks(found: Analysis) -> Iterator[str]:
    """What Friedman's and Nemenyi's tests carry."""
    told = found.ranks
    if told is None:
        yield "Ranks need three arms with scores in every block, and three blocks or seeds."
        return
    what = (
        formatting.count_noun(told.rankings, "block")
        if told.unit == "block"
        else f"{formatting.count_noun(told.rankings, 'seed')} and block pairs"
    )
    what = formatting.count_noun(told.rankings, "seed") if told.unit == "seed" and len(found.sweep.design.blocks) == 1 else what
    best = f"{told.arms[0]} has the best mean rank, {told.ranks[0]:.2f}, over {what}"
    if told.p >= ALPHA:
        yield f"{best}, but Friedman's test finds no difference between the arms ({formatting.p_value(told.p)})."
        return
    level = next((clique for clique in told.cliques if told.arms[0] in clique), (told.arms[0],))
    rest = [arm for arm in level if arm != told.arms[0]]
    tail = f"it cannot be told from {formatting.join_names(rest, last='or')}" if rest else "no other arm is within the critical difference"
    yield f"{best} (Friedman {formatting.p_value(told.p)}); {tail} (critical difference {told.critical_difference:.2f})."


def effects(found: Analysis) -> Iterator[str]:
    """Which factors, and which combinations, make a difference."""
    family = ALL_BLOCKS if len(found.sweep.design.blocks) > 1 else found.sweep.design.blocks[0]
    for one in found.factorials:
        if one.block != family:
            continue
        known = [f"{e.name} ({formatting.p_value(e.p)}, partial eta squared {e.share:.2f})" for e in one.effects if e.p < ALPHA]
        rest = [e.name for e in one.effects if e.p >= ALPHA]
        if known:
            yield f"Found at 5 %: {formatting.join_names(known)}."
        if rest:
            yield f"Not found at 5 %: {formatting.join_names(rest)}; that is no proof of absence."
        if one.interactions:
            names = formatting.join_names([e.name for e in one.interactions])
            yield f"Because of {names}, a factor's mean over the other's values does not hold for each of them."


def importance(found: Analysis) -> Iterator[str]:
    """The key that mattered most, arm by arm."""
    if not found.importances:
        keys = len(found.sweep.design.numeric_keys) + len(found.sweep.design.categorical_keys)
        few = f"Importances need {LEAST_TRIALS} tuning runs of an arm."
        yield few if keys > 1 else "Importances need two or more tuned keys."
    for one in found.importances[:MOST]:
        key, share = max(one.shares, key=lambda item: item[1])
        where = f" in {one.block}" if len(found.sweep.design.blocks) > 1 else ""
        yield f"{one.arm}{where}: {key} makes up {formatting.percent(share)} of what sets good trials apart (PED-ANOVA, {one.n} trials)."


def budget(found: Analysis) -> Iterator[str]:
    """From how many tuning runs on one arm is ahead."""
    if found.budgets.missing:
        yield found.budgets.missing
        return
    several = len(found.sweep.design.blocks) > 1
    for one in found.budgets.overtakes[:MOST]:
        where = f" in {one.block}" if several else ""
        yield f"With {one.budget} to {one.until} tuning runs {one.better} is ahead of {one.worse}{where} in median best score."
    if not found.budgets.overtakes:
        yield "At no budget that was tried can the bands of two arms be told apart."


def target(found: Analysis) -> Iterator[str]:
    """Who reaches the target, and how soon."""
    steps = [one for one in found.targets if one.unit == "steps"]
    if not steps:
        yield "Time to target needs validation curves of two confirm runs in two arms."
    for one in steps:
        where = f" in {one.block}" if len(found.sweep.design.blocks) > 1 else ""
        met = [f"{r.arm} {r.reached} of {r.n}{f' (median {r.median:,.0f} steps)' if r.median is not None else ''}" for r in one.arms]
        goal = f"{formatting.metric_name(one.metric)} {formatting.score(one.target, one.metric)}"
        yield f"Runs that reach {goal}{where}: {formatting.join_names(met)}. The target was taken from these runs."
        sure = [f"{pair.faster} before {pair.slower}" for pair in one.pairs if pair.p_holm < ALPHA]
        yield (
            f"Log-rank at 5 %, corrected: {formatting.join_names(sure)}."
            if sure
            else "No pair differs by the log-rank test at 5 %, corrected."
        )


def region(found: Analysis) -> Iterator[str]:
    """How much care each arm's learning rate asks for."""
    if not found.regions:
        yield "The width of the good region needs a tuned learning rate and four tuning runs."
    metric, several = found.sweep.design.metric, len(found.sweep.design.blocks) > 1
    for one in found.regions[:MOST]:
        where = f" in {one.block}" if several else ""
        least = "at least " if one.open_low or one.open_high else ""
        cost = [(one.third, "a third of it"), (one.triple, "three times it")]
        told = [f"{formatting.difference(value, metric)} at {word}" for value, word in cost if value is not None]
        worse = f"; the score is worse by {formatting.join_names(told)}" if told else ""
        yield (
            f"{one.arm}{where}: within {formatting.difference(one.margin, metric)} of its best over {least}{one.width:.1f} decades of {one.key}, "  # noqa: E501
            f"best at {formatting.significant(one.best)}{worse}."
        )


def tuning(found: Analysis) -> Iterator[str]:
    """How much of what a fresh tuning would give is luck of the tuning, beside that of the seed."""
    if not found.tuning_variances:
        few = "no arm has two studies, one of them with two confirm seeds" if found.sweep.design.studies > 1 else "each arm was tuned once"
        yield f"The variance of tuning is not known: {few} (budget.studies)."
    metric, several = found.sweep.score_metric, len(found.sweep.design.blocks) > 1
    for one in found.tuning_variances[:MOST]:
        where = f" in {one.block}" if several else ""
        span = f"{formatting.percent(one.share_low)} to {formatting.percent(one.share_high)}"
        yield (
            f"{one.arm}{where}: tuning again moves {formatting.metric_name(metric)} by {formatting.difference(one.tuning_sd, metric)} (standard "  # noqa: E501
            f"deviation over {one.studies} studies), a new seed by {formatting.difference(one.seed_sd, metric)}; tuning's share of the variance is "  # noqa: E501
            f"{formatting.percent(one.share)} ({formatting.percent(LEVEL)} interval {span}; {formatting.p_value(one.p)})."
        )
