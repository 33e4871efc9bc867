"""One or two sentences for each section of a report, made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bakeoff.report import formatting
from bakeoff.report.analysis import Analysis
from bakeoff.report.importance import MIN_TRIALS
from bakeoff.stats.aggregates import N_RESAMPLES
from bakeoff.stats.intervals import ALPHA, LEVEL
from bakeoff.stats.multiple_comparisons import MAX_ARMS
from bakeoff.stats.scores import ALL_BLOCKS

#: Most statements of one kind that are put into words; the tables have all of them.
MAX_STATEMENTS = 6


def section_sentences(analysis: Analysis) -> Mapping[str, tuple[str, ...]]:
    """Put the numbers of every section into words.

    Args:
        analysis: the analysis of a sweep.

    Returns:
        Section key -> sentences; those of a section without numbers say why it has none.
    """
    writers = {
        "aggregate": aggregate,
        "families": families,
        "ranks": ranks,
        "effects": effects,
        "importance": importance,
        "budget": budget,
        "target": target,
        "region": region,
        "tuning": tuning,
    }
    return {section: tuple(write(analysis)) for section, write in writers.items()}


def aggregate(analysis: Analysis) -> Iterator[str]:
    """How good bootstrap intervals are at this size."""
    if not analysis.aggregates:
        yield "No arm has scores in every block, so there is no interquartile mean."
        return
    coverages = sorted({iqm.coverage for iqm in analysis.aggregates if iqm.coverage is not None})
    if coverages:
        span = " to ".join(formatting.percent(coverage) for coverage in dict.fromkeys((coverages[0], coverages[-1])))
        yield (
            f"Interquartile mean of all studies or runs, with a stratified bootstrap of {N_RESAMPLES:,} resamples. "
            f"Intervals of this kind and size contained the true value in {span} of simulated sweeps; their nominal level is "
            f"{formatting.percent(LEVEL)}. They are shown for orientation and decide nothing."
        )
    else:
        yield "Interquartile mean of all studies or runs; fewer than three in a block are too few for a bootstrap interval."


def families(analysis: Analysis) -> Iterator[str]:
    """How many pairs the procedures for independent samples tell apart."""
    if not analysis.simultaneous:
        yield f"Tukey's procedure needs 2 to {MAX_ARMS} arms with at least two scores each."
    for procedure, name in (("tukey", "Tukey's HSD"), ("dunnett", "Dunnett's test against the baseline")):
        comparisons = [comparison for comparison in analysis.simultaneous if comparison.procedure == procedure]
        if comparisons:
            significant = sum(comparison.p < ALPHA for comparison in comparisons)
            pairs = formatting.count_noun(len(comparisons), "pair")
            yield f"{name} finds a difference at 5 % in {significant} of {pairs}, without using the shared seeds."


def ranks(analysis: Analysis) -> Iterator[str]:
    """What Friedman's and Nemenyi's tests show."""
    mean_ranks = analysis.ranks
    if mean_ranks is None:
        yield "Ranks need at least three arms with scores in every block, and at least three blocks or seeds."
        return
    by_study = mean_ranks.unit == "seed" and analysis.sweep.design.studies > 1
    rankings = formatting.count_noun(mean_ranks.rankings, mean_ranks.unit)
    if by_study:
        rankings = "one study" if mean_ranks.rankings == 1 else f"{mean_ranks.rankings} studies"
    if mean_ranks.unit == "seed" and len(analysis.sweep.design.blocks) > 1:
        rankings += " and block pairs"
    best = f"{mean_ranks.arms[0]} has the best mean rank, {mean_ranks.ranks[0]:.2f}, over {rankings}"
    if mean_ranks.p >= ALPHA:
        yield f"{best}, but Friedman's test finds no difference between the arms ({formatting.p_value(mean_ranks.p)})."
        return
    clique = next((arms for arms in mean_ranks.cliques if mean_ranks.arms[0] in arms), (mean_ranks.arms[0],))
    rest = [arm for arm in clique if arm != mean_ranks.arms[0]]
    tail = (
        f"it cannot be distinguished from {formatting.join_names(rest, last='or')}"
        if rest
        else "no other arm is within the critical difference"
    )
    yield f"{best} (Friedman {formatting.p_value(mean_ranks.p)}); {tail} (critical difference {mean_ranks.critical_difference:.2f})."


def effects(analysis: Analysis) -> Iterator[str]:
    """Which factors, and which combinations, make a difference."""
    family = ALL_BLOCKS if len(analysis.sweep.design.blocks) > 1 else analysis.sweep.design.blocks[0]
    for anova in analysis.factorials:
        if anova.block != family:
            continue
        significant = [
            f"{effect.name} ({formatting.p_value(effect.p)}, partial eta squared {effect.share:.2f})"
            for effect in anova.effects
            if effect.p < ALPHA
        ]
        others = [effect.name for effect in anova.effects if effect.p >= ALPHA]
        if significant:
            yield f"Significant at 5 %: {formatting.join_names(significant)}."
        if others:
            yield f"Not significant at 5 %: {formatting.join_names(others)}; this does not prove that there is no effect."
        if anova.interactions:
            names = formatting.join_names([effect.name for effect in anova.interactions])
            yield f"Because of {names}, a factor's mean over the other's values does not hold for each of them."


def importance(analysis: Analysis) -> Iterator[str]:
    """The key that mattered most, arm by arm."""
    if not analysis.importances:
        keys = len(analysis.sweep.design.numeric_keys) + len(analysis.sweep.design.categorical_keys)
        too_few = f"Importances need at least {MIN_TRIALS} tuning runs of an arm."
        yield too_few if keys > 1 else "Importances need at least two tuned keys."
    for result in analysis.importances[:MAX_STATEMENTS]:
        key, share = max(result.shares, key=lambda item: item[1])
        where = f" in {result.block}" if len(analysis.sweep.design.blocks) > 1 else ""
        yield (
            f"{result.arm}{where}: {key} accounts for {formatting.percent(share)} of the difference between good trials and the rest "
            f"(PED-ANOVA, {result.n} trials)."
        )


def budget(analysis: Analysis) -> Iterator[str]:
    """From how many tuning runs on one arm is ahead."""
    if analysis.budgets.missing:
        yield analysis.budgets.missing
        return
    several = len(analysis.sweep.design.blocks) > 1
    for overtake in analysis.budgets.overtakes[:MAX_STATEMENTS]:
        where = f" in {overtake.block}" if several else ""
        yield (
            f"With {overtake.budget} to {overtake.until} tuning runs {overtake.better} is ahead of {overtake.worse}{where} "
            "in median best score."
        )
    if not analysis.budgets.overtakes:
        yield "The bands of the arms overlap at every budget that was tried."


def target(analysis: Analysis) -> Iterator[str]:
    """Who reaches the target, and how soon."""
    steps = [result for result in analysis.targets if result.unit == "steps"]
    if not steps:
        yield "Time to target needs the validation curves of at least two confirm runs in each of two arms."
    for result in steps:
        where = f" in {result.block}" if len(analysis.sweep.design.blocks) > 1 else ""
        counts = []
        for arm in result.arms:
            median = f" (median {arm.median:,.0f} steps)" if arm.median is not None else ""
            counts.append(f"{arm.arm} {arm.reached} of {arm.n}{median}")
        goal = f"{formatting.metric_name(result.metric)} {formatting.score(result.target, result.metric)}"
        yield f"Runs that reach {goal}{where}: {formatting.join_names(counts)}. {result.origin}"
        if not result.fixed_before:
            continue
        significant = [f"{pair.faster} before {pair.slower}" for pair in result.pairs if pair.p_holm < ALPHA]
        yield (
            f"Log-rank at 5 %, corrected: {formatting.join_names(significant)}."
            if significant
            else "No pair differs by the log-rank test at 5 %, corrected."
        )


def region(analysis: Analysis) -> Iterator[str]:
    """How sensitive each arm is to its learning rate."""
    if not analysis.regions:
        yield "The width of the good region needs a tuned learning rate and at least four tuning runs."
    metric, several_blocks = analysis.sweep.design.metric, len(analysis.sweep.design.blocks) > 1
    for result in analysis.regions[:MAX_STATEMENTS]:
        where = f" in {result.block}" if several_blocks else ""
        least = "at least " if result.open_low or result.open_high else ""
        costs = [(result.third, "a third of it"), (result.triple, "three times it")]
        losses = [f"{formatting.difference(value, metric)} at {factor}" for value, factor in costs if value is not None]
        worse = f"; the score is worse by {formatting.join_names(losses)}" if losses else ""
        yield (
            f"{result.arm}{where}: within {formatting.difference(result.margin, metric)} of its best over "
            f"{least}{result.width:.1f} decades of {result.key}, best at {formatting.significant(result.best)}{worse}."
        )


def tuning(analysis: Analysis) -> Iterator[str]:
    """How much a new tuning changes the score, compared with a new seed."""
    if not analysis.tuning_variances:
        repeated = analysis.sweep.design.studies > 1
        reason = "no arm has two studies, one of them with two confirm seeds" if repeated else "each arm was tuned once"
        yield f"The variance of tuning is not known: {reason} (budget.studies)."
    if analysis.verdict.lucks:
        yield (
            "What another tuning would change is estimated from a Gaussian process that was fitted to each arm's trials, by tuning again "
            "on its curve. It depends on that fit, so it decides nothing."
        )
    metric, several_blocks = analysis.sweep.score_metric, len(analysis.sweep.design.blocks) > 1
    for variance in analysis.tuning_variances[:MAX_STATEMENTS]:
        where = f" in {variance.block}" if several_blocks else ""
        span = f"{formatting.percent(variance.share_low)} to {formatting.percent(variance.share_high)}"
        yield (
            f"{variance.arm}{where}: tuning again moves {formatting.metric_name(metric)} by "
            f"{formatting.difference(variance.tuning_sd, metric)} (standard deviation over {variance.studies} studies), a new seed by "
            f"{formatting.difference(variance.seed_sd, metric)}; tuning's share of the variance is {formatting.percent(variance.share)} "
            f"({formatting.percent(LEVEL)} interval {span}; {formatting.p_value(variance.p)})."
        )
