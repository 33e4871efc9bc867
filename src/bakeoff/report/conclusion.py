"""What one family of comparisons supports, in sentences: the rules that name a winner, a tie, or neither.

The rules are fixed before any run. Scores decide, among the runs that learned. The share of runs that fail is compared by an exact test
of its own: an arm whose tuning never trained loses; an arm that leads by score but fails more often than a rival is no winner, because
which of the two is better depends on what a failure costs; and among arms that tie in score the one that fails significantly less wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bakeoff.report import formatting, outcomes
from bakeoff.report.results import SweepResults
from bakeoff.stats.failures import FailureDifference, FailureRate
from bakeoff.stats.intervals import ALPHA, LEVEL, MeanInterval
from bakeoff.stats.paired import Grade, PairedDifference
from bakeoff.stats.power import MAX_SEEDS, POWER, seeds_needed
from bakeoff.stats.scores import ALL_BLOCKS

#: Grades of a difference that rank two arms, and those that call them equal; the second of each is about the tuned settings alone.
AHEAD_GRADES: tuple[Grade, ...] = ("supported", "as tuned")
LEVEL_GRADES: tuple[Grade, ...] = ("tie", "tie as tuned", "identical")
#: Of a normal estimate, the standard deviations at which a test at 5 % has a power of 80 %.
POWER_QUANTILES = 2.8
#: Pairs whose evidence is put into words.
MAX_EVIDENCE = 4


@dataclass(frozen=True)
class FamilyEvidence:
    """Everything that is known about one family of comparisons: a block, or all blocks together.

    Attributes:
        block: the block, or `ALL_BLOCKS`.
        means: arm -> mean score of the runs that learned, best first.
        differences: the pairs of the family.
        rates: how often each arm failed.
        failure_differences: the pairs of arms compared by how often they failed.
        untrained: arms of which no tuning run trained to its end.
        never_learned: arms whose runs all failed in some block but have scores: there, all runs of all arms are compared.
    """

    block: str
    means: Mapping[str, MeanInterval]
    differences: Sequence[PairedDifference]
    rates: Mapping[str, FailureRate] = field(default_factory=dict)
    failure_differences: Sequence[FailureDifference] = ()
    untrained: Sequence[str] = ()
    never_learned: Sequence[str] = ()

    def difference(self, first: str, second: str) -> PairedDifference | None:
        """The comparison of two arms, whichever is ahead."""
        return next((d for d in self.differences if {d.better, d.worse} == {first, second}), None)

    def fails_less(self, steadier: str, other: str) -> FailureDifference | None:
        """The comparison of failures, where the first arm fails significantly less often."""
        pairs = (d for d in self.failure_differences if (d.steadier, d.other) == (steadier, other))
        return next((d for d in pairs if d.p_holm < ALPHA), None)

    def fails_more(self, arm: str, rival: str) -> bool:
        """Whether an arm has failed on more units than a rival."""
        mine, other = self.rates.get(arm), self.rates.get(rival)
        return mine is not None and other is not None and mine.failed / mine.n > other.failed / other.n


@dataclass(frozen=True)
class Conclusion:
    """What a family supports: `winner` is None unless the grade is supported."""

    grade: Grade
    winner: str | None
    headline: str
    details: tuple[str, ...] = ()


def conclude_family(sweep: SweepResults, evidence: FamilyEvidence) -> Conclusion:
    """Apply the rules to one family.

    Args:
        sweep: the results that the family was computed from.
        evidence: its numbers.

    Returns:
        Grade, winner, headline and further sentences.
    """
    if not evidence.means:
        lines = tuple(_untrained(sweep, evidence, None))
        return Conclusion("unknown", None, f"Nothing to compare: no arm has a confirm score{_where(sweep, evidence)}.", lines)
    leader = _leader(evidence)
    rest = [arm for arm in evidence.means if arm != leader]
    if not rest:
        return _only_one_trained(sweep, evidence, leader)
    details = _untrained(sweep, evidence, leader)
    pairs = {arm: evidence.difference(leader, arm) for arm in rest}
    by_score = [arm for arm, d in pairs.items() if d is not None and d.grade in AHEAD_GRADES and d.better == leader]
    by_failures = [
        arm for arm, d in pairs.items() if d is not None and d.grade in LEVEL_GRADES and evidence.fails_less(leader, arm) is not None
    ]
    level = [arm for arm in rest if arm not in by_score and arm not in by_failures]
    if not level:
        return _winner(sweep, evidence, leader, by_failures, details)
    twins = [arm for arm in level if (d := pairs[arm]) is not None and d.grade == "identical"]
    if len(twins) == len(level):
        return _twins(sweep, evidence, [leader, *twins], [*by_score, *by_failures])
    return _no_winner(sweep, evidence, leader, level, details)


def _leader(evidence: FamilyEvidence) -> str:
    """The first arm by its mean that no other arm is ahead of, seed by seed or at level scores by fewer failures."""

    def is_beaten(arm: str) -> bool:
        for rival in evidence.means:
            d = evidence.difference(arm, rival) if rival != arm else None
            if d is not None and d.grade in AHEAD_GRADES and d.better == rival:
                return True
            if d is not None and d.grade in LEVEL_GRADES and evidence.fails_less(rival, arm) is not None:
                return True
        return False

    return next((arm for arm in evidence.means if not is_beaten(arm)), next(iter(evidence.means)))


def _winner(sweep: SweepResults, evidence: FamilyEvidence, leader: str, by_failures: Sequence[str], details: list[str]) -> Conclusion:
    """The leader is ahead of every other arm."""
    metric, rest = sweep.score_metric, [arm for arm in evidence.means if arm != leader]
    by_score = [arm for arm in rest if arm not in by_failures]
    nearest = min((d for arm in by_score or rest if (d := evidence.difference(leader, arm)) is not None), key=lambda d: d.advantage)
    rival = _other(nearest, leader)
    metric_name, means = formatting.metric_name(metric), evidence.means
    runner = f"{leader} reaches {formatting.score(means[leader].mean, metric)} mean {metric_name}, "
    runner += f"{rival} {formatting.score(means[rival].mean, metric)}"
    proof = [f"{runner}. {evidence_sentence(nearest, metric, pairs=len(evidence.differences), analyses=_analyses(sweep))}"]
    proof += _small(nearest, sweep) if by_score else []
    proof += [*_failure_sentences(evidence, leader, rest), *_unseen_failures(sweep, evidence), *details]
    if by_score and by_failures:
        proof.append(
            f"{leader} is ahead of {formatting.join_names(by_score)} by score, of {formatting.join_names(by_failures)} by failures."
        )
    steadier = [arm for arm in rest if evidence.fails_more(leader, arm)]
    if steadier:
        significant = any(evidence.fails_less(arm, leader) is not None for arm in steadier)
        mine, others = evidence.rates[leader], [f"{_count(evidence.rates[arm])} of {arm}" for arm in steadier]
        headline = (
            f"No winner: {leader} scores best where it learns, but {_count(mine)} of its {_units(sweep)} failed, against "
            f"{formatting.join_names(others)}."
        )
        if not significant and nearest.analyses < len(sweep.design.sequential.sizes):
            proof.append(f"More {_units(sweep)} would tell whether it fails more often: {sweep.design.extend_command}")
        return Conclusion("unknown" if significant else "under-powered", None, headline, tuple(proof))
    size = f"by {formatting.difference(nearest.advantage, metric)} of {metric_name}"
    size += "" if len(rest) == 1 else f" over its closest rival, {rival}"
    if not by_score:
        size = "by its fewer failures, at scores that are alike"
    head = f"{leader} beats {rest[0]}" if len(rest) == 1 else f"{leader} is the best of the {len(means)} arms"
    if sweep.design.is_conditional:
        return Conclusion("as tuned", None, f"As tuned here, {head} {size}; another tuning may turn that around.", tuple(proof))
    return Conclusion("supported", leader, f"{head} {size}.", tuple(proof))


def _twins(sweep: SweepResults, evidence: FamilyEvidence, twins: Sequence[str], beaten: Sequence[str]) -> Conclusion:
    """The arms in the lead gave the same numbers seed by seed."""
    d = evidence.difference(twins[0], twins[1])
    runs = formatting.count_noun(d.n if d is not None else 0, "run")
    details = (f"They are ahead of {formatting.join_names(beaten)}.",) if beaten else ()
    names = formatting.join_names(list(twins))
    headline = f"{names} are twins: their scores are identical in each of {runs}, so what sets them apart changes nothing here."
    return Conclusion("identical", None, headline, (*details, *_untrained(sweep, evidence, twins[0])))


def _no_winner(sweep: SweepResults, evidence: FamilyEvidence, leader: str, level: Sequence[str], details: list[str]) -> Conclusion:
    """Some arms cannot be distinguished from the leader."""
    metric, metric_name = sweep.score_metric, formatting.metric_name(sweep.score_metric)
    beaten = [arm for arm in evidence.means if arm != leader and arm not in level]
    pairs = {arm: evidence.difference(leader, arm) for arm in level}
    open_pairs = [d for d in pairs.values() if d is not None]
    behind = [arm for arm in beaten if (d := evidence.difference(leader, arm)) is not None and d.grade in AHEAD_GRADES]
    lines = [_behind(leader, behind, evidence)] if behind else []
    n_pairs, analyses = len(evidence.differences), _analyses(sweep)
    lines += [
        f"{leader} against {_other(d, leader)}: {evidence_sentence(d, metric, pairs=n_pairs, analyses=analyses)}"
        for d in open_pairs[:MAX_EVIDENCE]
    ]
    apart = [arm for arm, d in pairs.items() if d is None]
    if apart:
        lines.append(f"{formatting.join_names(apart)}: no seed in common with {leader}.")
    lines += [*_failure_sentences(evidence, leader, [*level, *beaten]), *_twin_sentences(evidence, leader), *details]
    if not apart and all(d.grade in LEVEL_GRADES for d in open_pairs):
        margin = formatting.difference(sweep.design.margin, metric)
        conditional = any(d.grade == "tie as tuned" for d in open_pairs)
        start = "A tie as tuned here" if conditional else "A tie"
        headline = f"{start}: {formatting.join_names([leader, *level])} differ by less than the margin of {margin} of {metric_name}."
        return Conclusion("tie as tuned" if conditional else "tie", None, headline, tuple(lines))
    grade: Grade = "under-powered" if any(d.grade == "under-powered" for d in open_pairs) else "unknown"
    head = f"No winner: these runs cannot tell {leader} from {formatting.join_names(level, last='or')} in {metric_name}."
    return Conclusion(grade, None, head, (*lines, *_more(open_pairs, sweep, n_pairs)))


def _twin_sentences(evidence: FamilyEvidence, leader: str) -> list[str]:
    """Pairs of arms behind the leader that gave the same numbers."""
    twins = [d for d in evidence.differences if d.grade == "identical" and leader not in (d.better, d.worse)]
    return [f"{d.better} and {d.worse} are twins: identical in each of {d.n} runs." for d in twins]


def _only_one_trained(sweep: SweepResults, evidence: FamilyEvidence, leader: str) -> Conclusion:
    """One arm has scores; it wins where the failures of the others cannot be chance."""
    others = [arm for arm in sweep.design.arms if arm != leader]
    lines = [*_failure_sentences(evidence, leader, others), *_untrained(sweep, evidence, leader)]
    certain = [_fails_certainly(sweep, evidence, arm, leader, arms=len(others)) for arm in others]
    score, seeds = (
        formatting.score(evidence.means[leader].mean, sweep.score_metric),
        formatting.count_noun(evidence.means[leader].n, "seed"),
    )
    mean = f"{leader} reaches {score} mean {formatting.metric_name(sweep.score_metric)} over {seeds}."
    if others and all(certain) and not any(evidence.fails_more(leader, arm) for arm in others):
        if set(others) <= set(evidence.untrained):
            headline = f"{leader} wins: it trains, and {formatting.join_names(others)} never did."
            return Conclusion("supported", leader, headline, (mean, *lines))
        lacks = f"{_units(sweep)} of {formatting.join_names(others)} have no score{_where(sweep, evidence)}"
        if sweep.design.is_conditional:
            headline = f"As tuned here, {leader} trains and the {lacks}; another tuning may turn that around."
            return Conclusion("as tuned", None, headline, (mean, *lines))
        return Conclusion("supported", leader, f"{leader} wins: it trains, and the {lacks}.", (mean, *lines))
    headline = f"Nothing to compare: {leader} alone has a confirm score{_where(sweep, evidence)}."
    return Conclusion("unknown", None, headline, (mean, *lines))


def _fails_certainly(sweep: SweepResults, evidence: FamilyEvidence, arm: str, leader: str, *, arms: int) -> bool:
    """Whether an arm fails more often than the leader beyond chance: all its tuning by Fisher's test, or its confirm runs by McNemar's."""
    block = None if evidence.block == ALL_BLOCKS else evidence.block
    if arm in evidence.untrained:
        return outcomes.never_trained_p(sweep, arm, leader, block) < ALPHA / max(1, arms)
    return evidence.fails_less(leader, arm) is not None


def _where(sweep: SweepResults, evidence: FamilyEvidence) -> str:
    return " in every block" if evidence.block == ALL_BLOCKS and len(sweep.design.blocks) > 1 else ""


def _untrained(sweep: SweepResults, evidence: FamilyEvidence, leader: str | None) -> list[str]:
    """What becomes of arms without a score: they lose where none of their tuning trained, beyond chance; otherwise they are left out."""
    block = None if evidence.block == ALL_BLOCKS else evidence.block
    lines, arms = [], len(sweep.design.arms) - 1
    for arm in sweep.design.arms:
        if arm in evidence.means:
            continue
        failed, _ = outcomes.failed_tuning_runs(sweep, arm, block)
        if arm in evidence.untrained:
            share = f"all {failed} of its tuning runs" if failed > 1 else "its one tuning run"
            loses = leader is not None and _fails_certainly(sweep, evidence, arm, leader, arms=arms)
            start = f"{arm} loses to {leader}" if loses else f"{arm} is left out"
            lines.append(f"{start}: {share} diverged or failed, so it has no setting to confirm.")
        else:
            lines.append(f"{arm} is left out: it has no confirm score{_where(sweep, evidence)}.")
    return lines


def _unseen_failures(sweep: SweepResults, evidence: FamilyEvidence) -> list[str]:
    """What a winner's clean record still leaves possible."""
    rates = list(evidence.rates.values())
    if not rates or any(rate.failed for rate in rates):
        return []
    most = max(rate.high for rate in rates)
    return [
        f"None of the {_units(sweep)} failed. With {rates[0].n} of each arm, a failure rate of up to {100 * most:.0f} % is not ruled out."
    ]


def _failure_sentences(evidence: FamilyEvidence, leader: str, rivals: Sequence[str]) -> list[str]:
    """How often the arms failed, where any did, and which differences of that are significant."""
    arms = [arm for arm in (leader, *rivals) if arm in evidence.rates]
    lines = []
    if any(evidence.rates[arm].failed for arm in arms):
        shares = [f"{_share(evidence.rates[arm])} of {arm}" for arm in arms][: formatting.LISTED]
        compared = " Scores are compared among the others." if len(evidence.means) > 1 else ""
        if evidence.never_learned:
            compared = f" All scores are compared, because {formatting.join_names(list(evidence.never_learned))} never learned"
            compared += " in some block." if evidence.block == ALL_BLOCKS else "."
        lines.append(f"Diverged, failed, collapsed or no better than guessing: {', '.join(shares)}.{compared}")
        for rival in rivals:
            for steadier, other in ((leader, rival), (rival, leader)):
                test = evidence.fails_less(steadier, other)
                if test is not None:
                    lines.append(f"{steadier} fails less often than {other} (exact paired test, {formatting.p_value(test.p_holm)}).")
    return lines


def _count(rate: FailureRate) -> str:
    return f"{rate.failed} of {rate.n}"


def _units(sweep: SweepResults) -> str:
    return "studies" if sweep.design.sequential.has_studies else "runs"


def _share(rate: FailureRate) -> str:
    return f"{_count(rate)} ({formatting.percent(LEVEL)} interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %)"


def evidence_sentence(d: PairedDifference, metric: str, *, pairs: int, analyses: int = 1) -> str:
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
    if d.grade == "identical":
        return f"identical in each of {formatting.count_noun(d.n, 'run')}."
    if d.n < 2:
        return f"{start}; a single shared seed gives no interval."
    if d.studies is not None and d.studies < 2:
        return f"{start}; the seeds of a single study give no interval for an arm as it is tuned."
    if d.low is None or d.high is None:
        seeds = formatting.count_noun(d.n, "seed")
        return f"{start} after {seeds}, but the analyses at fewer seeds contradict that, so nothing can be concluded."
    if d.low == d.high and d.advantage > 0:
        each = formatting.count_noun(d.n, "seed") if d.studies is None else f"{d.studies} studies"
        return f"{start} on each of {each}, without any spread to test against ({formatting.p_value(d.p_holm)})."
    corrected = f", corrected over {pairs} pairs" if pairs > 1 else ""
    low, high = formatting.difference(d.low, metric, unit=False), formatting.difference(d.high, metric, unit=False)
    over = f", valid at all {analyses} planned analyses" if analyses > 1 else ""
    interval = f"{formatting.percent(LEVEL)} interval of the paired difference {low} to {high}{over}"
    votes, rests = (d.n, f"n = {d.n} seeds") if d.studies is None else (d.studies, f"n = {d.studies} studies of {d.n} seeds in all")
    rests += f", {d.images:,} test images" if d.images else ""
    on = f"; ahead on {d.ahead * votes:.3g} of them" if d.ahead is not None and d.advantage > 0 else ""
    return f"{start} ({interval}; {rests}{on}; {formatting.p_value(d.p_holm)}{corrected})."


def _analyses(sweep: SweepResults) -> int:
    return len(sweep.design.sequential.sizes)


def _small(d: PairedDifference, sweep: SweepResults) -> list[str]:
    """What a supported difference is worth, where it is not clearly more than the margin."""
    margin, margin_text = sweep.design.margin, formatting.difference(sweep.design.margin, sweep.score_metric)
    if d.low is None or d.high is None or d.low >= margin:
        return []
    small = "is smaller than" if d.high <= margin else "may be smaller than"
    return [f"The difference {small} the margin of {margin_text}, below which the sweep file says that none matters."]


def _other(d: PairedDifference, leader: str) -> str:
    return d.worse if d.better == leader else d.better


def _behind(leader: str, beaten: Sequence[str], evidence: FamilyEvidence) -> str:
    least = min(d.n for arm in beaten if (d := evidence.difference(leader, arm)) is not None)
    verb = "is" if len(beaten) == 1 else "are each"
    pairs = f"p < {1 - LEVEL:.2f} after correction for all pairs; at least {least} seeds"
    return f"{formatting.join_names(beaten)} {verb} behind {leader} ({pairs})."


def _more(open_pairs: Sequence[PairedDifference], sweep: SweepResults, pairs: int) -> list[str]:
    """What would settle the closest pair that is under-powered."""
    weak = [d for d in open_pairs if d.grade == "under-powered"]
    if not weak:
        return []
    plan, closest = sweep.design, min(weak, key=lambda d: d.advantage)
    delta = max(closest.advantage, plan.margin)
    chance = f"a chance of {formatting.percent(POWER)} to find a true difference of {formatting.difference(delta, sweep.score_metric)}"
    between = f"between {closest.better} and {closest.worse}"
    if closest.more_seeds is not None:
        asked = formatting.count_noun(closest.more_seeds, "more seed")
        asked += ", on studies of their own," if plan.sequential.has_studies else ""
        return [f"{asked} would give {chance} {between}: {plan.extend_command}"]
    if closest.image_sd is not None and delta < POWER_QUANTILES * closest.image_sd:
        by_chance = formatting.difference(closest.image_sd, sweep.score_metric)
        return [
            f"No number of seeds would do: the choice of {closest.images:,} test images alone moves the difference {between} by "
            f"{by_chance} (standard deviation). It takes more test images."
        ]
    needed = seeds_needed(delta / 1.03, sd=closest.sd, alpha=plan.sequential.levels[0] / pairs) if closest.sd else None
    unit = "studies" if plan.sequential.has_studies else "seeds"
    fresh = f"about {needed} {unit}" if needed is not None else f"more than {MAX_SEEDS} {unit}"
    end = (
        "The plan has no more seeds"
        if closest.analyses >= len(plan.sequential.sizes)
        else f"The plan's last analysis, at {plan.sequential.sizes[-1]} seeds, is too early"
    )
    return [f"{end}: a plan of its own with {fresh} would give {chance} {between}."]
