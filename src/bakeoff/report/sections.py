"""The evidence, section by section: what the figures are drawn from, in words and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd

from bakeoff.rendering.marks import FigureSpec
from bakeoff.report import formatting, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures.context import CELLS
from bakeoff.report.figures.curves import QUARTILES
from bakeoff.report.markup import figure, folded, grid, section, table
from bakeoff.stats.paired import LEVEL, PairedDifference

#: Rows of a table in the page; the CSV file has all.
MOST_ROWS = 150

Figures = Mapping[str, Sequence[FigureSpec]]


def all_of(found: Analysis, rows: pd.DataFrame, figures: Figures, again: Callable[[FigureSpec], str]) -> Iterator[tuple[str, str, str]]:
    """(key, title, HTML) of every section that has anything; `rows` is the table of `tables.arms`, `again` a figure's command."""
    for key, title, notes, parts in _sections(found, rows):
        drawn = grid(figure(one, again(one)) for one in figures.get(key, ()))
        whole = section(key, title, notes, drawn, *parts)
        if whole:
            yield key, title, whole


def missing(found: Analysis, figures: Figures) -> list[str]:
    """Why sections are not there, in the words of the statistics."""
    return [line for key, lines in found.narrative.items() if not figures.get(key) and key != "families" for line in lines]


def _sections(found: Analysis, rows: pd.DataFrame) -> Iterator[tuple[str, str, list[str], list[str]]]:
    sweep, plan, says = found.sweep, found.sweep.design, found.narrative
    level = formatting.percent(LEVEL)
    told = [
        f"A small dot is one seed, the large mark the mean with its {level} Student t interval. In the table, validation is the mean of "
        "the confirm runs, else the best tuning run's."
    ]
    yield "scores", f"Score of every arm: {formatting.metric_name(sweep.score_metric)}", told, _arms(found, rows)
    told = [
        f"Seed by seed, with {level} intervals for one comparison each; right of zero is better. Within the grey stripe, the margin of "
        f"{formatting.difference(plan.margin, sweep.score_metric)}, differences do not matter. With several pairs the grade rests on p corrected by Holm. "  # noqa: E501
        "More seeds: what a power calculation (80 %) asks for."
    ]
    yield "differences", "Paired differences", told, _pairs(found)
    yield "families", "All arms at once, without use of the shared seeds", list(says["families"]), _families(found)
    bars = "A line is the critical difference long, half to either side: arms whose lines do not overlap are told apart."
    joined = " Grey bars at the right join those that are not." if found.ranks is not None and len(found.ranks.arms) <= CELLS else ""
    yield "ranks", "Ranks", [*says["ranks"], bars + joined], []
    profile = "A profile tells which share of an arm's runs, every block counting alike, score at least so well; higher is better."
    yield "aggregate", "All runs together", [*says["aggregate"], profile], []
    yield "effects", "Factors and their interactions", list(says["effects"]), _effects(found)
    confirmed = len(sweep.stage_runs("confirm")) > 0
    band = f"the middle half of them from {QUARTILES} seeds on, else lowest to highest"
    line = f"Line: the median of the confirm runs; band: {band}." if confirmed else "The best tuning run of each arm: one run, so no band."
    yield "curves", "Learning curves", [line], []
    yield "target", "Time to target", list(says["target"]), _log_ranks(found)
    foot = (
        f"Every tuning run, by {formatting.metric_name(plan.metric)}. The ring is an arm's best, 'edge' where that lies in the outer tenth of "  # noqa: E501
        "its space; a cross at the foot is a run that diverged; the thick line below is the arm's good region."
    )
    yield "search", "Score against what was tuned", [foot], []
    yield "tuning", "What repeating the tuning changes", list(says["tuning"]), _repeated(found)
    thick = "Thin: what was searched. Thick: where the score is within the margin of the arm's best."
    yield "region", "How much care a learning rate asks for", [thick, *says["region"]], _regions(found)
    bands = "Bands hold at 95 % for all budgets at once; the median best of so many tuning runs, had they been drawn anew."
    yield "budget", "What a larger tuning budget brings", [bands, *says["budget"]], []
    yield "importance", "Which settings mattered", list(says["importance"]), []
    yield "diagnoses", "Diagnoses of single runs", ["Tuning and confirm runs; each run's own page in the store says what was seen."], []
    yield "flags", "Flags", ["Runs that did not end well, and best settings at an end of their space."], _flags(found)


def _arms(found: Analysis, rows: pd.DataFrame) -> list[str]:
    parts: list[str] = []
    for block in found.blocks:
        head, lines = tables.readable_arms_table(found.sweep, rows[rows["block"] == block])
        # The block has a heading of its own, and over all blocks there is no best setting.
        kept = [i for i, name in enumerate(head) if name != "block" and any(line[i] for line in lines)]
        head, lines = [head[i] for i in kept], [[line[i] for i in kept] for line in lines]
        whole = table(head, lines, best=found.verdict.winner, tall=len(lines) > 16)
        parts.append(whole if len(found.blocks) == 1 else folded(block, whole, opened=block == found.blocks[0]))
    return parts


def _pairs(found: Analysis) -> list[str]:
    metric = found.sweep.score_metric
    head = ["ahead", "behind", "n", "advantage", f"{formatting.percent(LEVEL)} interval", "ahead on"]
    head += ["p (Holm)", "p (permutation)", "grade", "more seeds"]
    parts: list[str] = []
    for block in found.blocks:
        means = found.arm_means[block]
        leader = next(iter(means), None)
        own = [d for d in found.verdict.differences if d.block == block]
        own.sort(key=lambda d: leader not in (d.better, d.worse))
        lines = [_pair(d, metric) for d in own[:MOST_ROWS]]
        kept = len(head) if any(line[-1] for line in lines) else len(head) - 1
        whole = table(head[:kept], [line[:kept] for line in lines], tall=len(lines) > 12) if lines else ""
        cut = f", the first {MOST_ROWS} of them here, those of {leader} before the others" if len(own) > MOST_ROWS else ""
        where = f"{block}: " if len(found.blocks) > 1 else ""
        parts.append(
            folded(f"{where}{formatting.count_noun(len(own), 'pair')}{cut}", whole, opened=block == found.blocks[0] and len(own) <= 15)
        )
    return parts


def _pair(d: PairedDifference, metric: str) -> list[str]:
    interval = (
        "none"
        if d.low is None
        else f"{formatting.difference(d.low, metric, unit=False)} to {formatting.difference(d.high, metric, unit=False)}"
    )
    ahead = "" if d.ahead is None else formatting.percent(d.ahead)
    ps = ["n/a" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in (d.p_holm, d.p_permutation)]
    return [
        d.better,
        d.worse,
        str(d.n),
        formatting.difference(d.advantage, metric),
        interval,
        ahead,
        *ps,
        d.grade,
        "" if d.more_seeds is None else str(d.more_seeds),
    ]


def _families(found: Analysis) -> list[str]:
    metric = found.sweep.score_metric
    names = {"tukey": "Tukey", "dunnett": "Dunnett"}
    lines = [
        [
            names[one.procedure], one.arm, one.other, formatting.difference(one.difference, metric),
            f"{formatting.difference(one.low, metric, unit=False)} to {formatting.difference(one.high, metric, unit=False)}", formatting.p_value(one.p),  # noqa: E501
        ]
        for one in found.simultaneous
    ]  # fmt: skip
    head = ["procedure", "arm", "against", "difference", "interval, all at once", "p"]
    return [folded(formatting.count_noun(len(lines), "comparison"), table(head, lines[:MOST_ROWS], tall=len(lines) > 12))] if lines else []


def _effects(found: Analysis) -> list[str]:
    parts: list[str] = []
    for each in found.factorials:
        lines = [[one.name, f"{one.df:.0f}", f"{one.f:.2f}", formatting.p_value(one.p), f"{one.share:.2f}"] for one in each.effects]
        where = f", {each.block}" if len(found.blocks) > 1 else ""
        title = f"Analysis of variance{where}, {each.residual_df:.0f} residual degrees of freedom"
        parts.append(folded(title, table(["effect", "df", "F", "p", "partial eta squared"], lines), opened=each.block == found.blocks[0]))
    return parts


def _log_ranks(found: Analysis) -> list[str]:
    several = len(found.sweep.design.blocks) > 1
    lines = [
        [*([each.block] if several else []), each.unit, one.faster, one.slower, formatting.p_value(one.p), formatting.p_value(one.p_holm)]
        for each in found.targets
        for one in each.pairs
    ]
    head = [*(["block"] if several else []), "unit", "sooner", "later", "p", "p (Holm)"]
    return (
        [folded(f"{formatting.count_noun(len(lines), 'log-rank test')}", table(head, lines[:MOST_ROWS], tall=len(lines) > 12))]
        if lines
        else []
    )


def _regions(found: Analysis) -> list[str]:
    metric, several = found.sweep.design.metric, len(found.sweep.design.blocks) > 1
    lines = [
        [
            *([one.block] if several else []), one.arm, one.key, formatting.significant(one.best),
            f"{formatting.significant(one.low)} to {formatting.significant(one.high)}",
            f"{'at least ' if one.open_low or one.open_high else ''}{one.width:.1f}",
            *("not tried" if cost is None else formatting.difference(cost, metric) for cost in (one.third, one.triple)), str(one.n),
        ]
        for one in found.regions
    ]  # fmt: skip
    head = [*(["block"] if several else []), "arm", "key", "best", "good region", "decades"]
    head += ["cost of a third", "cost of three times", "trials"]
    return [folded("Regions", table(head, lines[:MOST_ROWS], tall=len(lines) > 12), opened=len(lines) <= 12)] if lines else []


def _repeated(found: Analysis) -> list[str]:
    if not found.tuning_variances:
        return []
    unit = 100.0 if found.sweep.score_metric.endswith("accuracy") else 1.0
    head = ["block", "arm", "tunings", "seeds", "spread of seeds", "spread of tuning", "share of tuning", "95 % interval", "p"]
    lines = [
        [
            one.block, one.arm, str(one.studies), str(one.n), f"{unit * one.seed_sd:.3g}", f"{unit * one.tuning_sd:.3g}",
            formatting.percent(one.share), f"{formatting.percent(one.share_low)} to {formatting.percent(one.share_high)}", formatting.p_value(one.p),  # noqa: E501
        ]
        for one in found.tuning_variances
    ]  # fmt: skip
    return [table(head, lines[:MOST_ROWS], tall=len(lines) > 12)]


def _flags(found: Analysis) -> list[str]:
    sweep, plan = found.full_sweep, found.full_sweep.design
    counts = sweep.runs.groupby(["arm", "block", "stage", "state"]).size().to_dict()
    lines: list[list[str]] = []
    bad = ("diverged", "pruned", "failed", "killed", "running")
    for cell in plan.planned_arms:
        best = sweep.best_trial(cell.arm, cell.block)
        ends = {key: space.near_edge(float(best[key])) for key, space in cell.spaces.items()} if best is not None else {}
        edges = [f"{key} at the {side} end" for key, side in ends.items() if side is not None]
        told = [[counts.get((cell.arm, cell.block, stage, state), 0) for stage in ("tune", "confirm")] for state in bad]
        if edges or any(map(any, told)):
            numbers = [f"{tune} + {confirm}" if tune or confirm else "" for tune, confirm in told]
            lines.append([cell.arm, *([cell.block] if len(plan.blocks) > 1 else []), *numbers, "; ".join(edges)])
    head = ["arm", *(["block"] if len(plan.blocks) > 1 else []), *bad, "best setting"]
    audit = (
        f"<p class=note>Pruning was audited: {sweep.pruning_audit[0]} pruned runs were run to their end, {sweep.pruning_audit[1]} of them would have "  # noqa: E501
        "been chosen.</p>"
        if sweep.pruning_audit is not None
        else ""
    )
    note = "<p class=note>Counts: tuning runs + confirm runs.</p>" if lines else ""
    kept = [i for i in range(len(head)) if any(line[i] for line in lines)]
    whole = table([head[i] for i in kept], [[line[i] for i in kept] for line in lines[:MOST_ROWS]], tall=len(lines) > 16) if lines else ""
    return [audit, whole, note]
