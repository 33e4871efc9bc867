"""The evidence, section by section: figures, what they show in words, and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import pandas as pd

from bakeoff.rendering.page import Block, Details, Grid, Plot, Section, Table, Text
from bakeoff.report import formatting, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures.context import MAX_LABELLED
from bakeoff.report.figures.curves import QUARTILES_FROM
from bakeoff.report.narrative import section_sentences
from bakeoff.stats.intervals import LEVEL
from bakeoff.stats.paired import PairedDifference

#: Rows of a table in the page, of which the CSV file has all; and rows beyond which a table scrolls.
MAX_ROWS, TALL_FROM = 150, 13
#: Pairs beyond which the table of pairs starts folded.
MAX_OPEN_PAIRS = 15


def evidence_sections(analysis: Analysis, arm_rows: pd.DataFrame, plots: Mapping[str, Sequence[Plot]]) -> list[Section]:
    """Every section that has a figure or a table.

    Args:
        analysis: What is reported.
        arm_rows: The table of `tables.arms_table`.
        plots: The key of a section -> its figures.

    Returns:
        The sections, in the page's order.
    """
    sections = []
    for key, title, notes, blocks in _sections(analysis, arm_rows):
        figures: list[Block] = [Grid(plots[key])] if plots.get(key) else []
        if figures or blocks:
            sections.append(Section(title, [*figures, *blocks], notes, key=key))
    return sections


def missing_evidence(analysis: Analysis, sections_with_figures: Collection[str]) -> list[str]:
    """Why sections have no figure, in the words of the statistics."""
    lines = {key: reasons for key, reasons in section_sentences(analysis).items() if key not in sections_with_figures and key != "families"}
    return [line for reasons in lines.values() for line in reasons]


def table_block(head: Sequence[str], rows: Sequence[Sequence[str]], *, tall_from: int = TALL_FROM, bold: str | None = None) -> Table:
    """A table with its first rows and without columns that are empty."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    shown = [[row[i] for i in kept] for row in rows[:MAX_ROWS]]
    return Table([head[i] for i in kept], shown, bold=bold, tall=len(rows) >= tall_from)


def _sections(analysis: Analysis, arm_rows: pd.DataFrame) -> Iterator[tuple[str, str, Sequence[str], Sequence[Block]]]:
    """(key, title, notes, tables) of every section."""
    sweep, design, narrative, level = analysis.sweep, analysis.sweep.design, section_sentences(analysis), formatting.percent(LEVEL)
    metric, margin = formatting.metric_name(sweep.score_metric), formatting.difference(design.margin, sweep.score_metric)
    note = (
        f"A small dot is one seed. The large mark is the mean, with its {level} Student t interval. In the table, validation is the mean "
    )
    note += "of the confirm runs, or else the score of the best tuning run."
    yield "scores", f"Score of every arm: {metric}", [note], _arm_tables(analysis, arm_rows)
    note = (
        f"Seed by seed, with a {level} interval for each comparison on its own; right of zero is better. The grey stripe is the margin of "
    )
    note += f"{margin}: differences within it do not matter. With several pairs the grade rests on the p value corrected by Holm. "
    note += "More seeds: the number needed for a power of 80 %."
    yield "differences", "Paired differences", [note], _pair_tables(analysis)
    yield "families", "Simultaneous comparisons, not paired by seed", narrative["families"], _simultaneous_table(analysis)
    note = "Each line is as long as the critical difference, half to either side, within the possible ranks: "
    note += "arms whose lines do not overlap differ."
    if analysis.ranks is not None and len(analysis.ranks.arms) <= MAX_LABELLED:
        note += " Grey bars at the right join arms that do not differ."
    yield "ranks", "Ranks", [*narrative["ranks"], note], []
    note = "A profile shows the share of an arm's runs that score at least x, with all blocks weighted equally; higher is better."
    yield "aggregate", "Interquartile means and performance profiles", [*narrative["aggregate"], note], []
    yield "effects", "Factors and their interactions", narrative["effects"], _anova_tables(analysis)
    yield "curves", "Learning curves", [_curves_note(analysis)], []
    yield "target", "Time to target", narrative["target"], _log_rank_table(analysis)
    note = f"Every tuning run, by {formatting.metric_name(design.metric)}. The ring is an arm's best run; 'edge' marks a best run in the "
    note += "outer tenth of its space. A cross at the foot is a run that diverged. The bar below is the arm's good region."
    yield "search", "Score by tuned setting", [note], []
    yield "tuning", "The luck of tuning", narrative["tuning"], [*_tuning_variance_table(analysis), *_tuning_luck_table(analysis)]
    note = "Thin line: what was searched. Bar: where the score is within the margin of the arm's best."
    yield "region", "Sensitivity to the learning rate", [note, *narrative["region"]], _region_table(analysis)
    note = "The median best score after this many tuning runs, if they were drawn again. The 95 % bands are simultaneous over all budgets."
    yield "budget", "Best score by tuning budget", [note, *narrative["budget"]], []
    yield "importance", "Importance of the tuned settings", narrative["importance"], []
    note = "Tuning and confirm runs. The page of each run in the store shows what was measured."
    yield "diagnoses", "Diagnoses of single runs", [note], []
    yield (
        "flags",
        "Flags",
        ["Runs that diverged, were pruned or failed, and chosen settings at an end of their space."],
        _flag_table(analysis),
    )


def _curves_note(analysis: Analysis) -> str:
    if analysis.sweep.stage_runs("confirm").empty:
        return "The best tuning run of each arm: a single run, so there is no band."
    return f"Line: the median of the confirm runs. Band: their middle half from {QUARTILES_FROM} seeds on, else lowest to highest."


def _arm_tables(analysis: Analysis, arm_rows: pd.DataFrame) -> list[Block]:
    blocks: list[Block] = []
    for block in analysis.blocks:
        head, rows = tables.readable_arms_table(analysis.sweep, arm_rows[arm_rows["block"] == block])
        if "block" in head:  # it is in the heading above the table
            head, rows = head[1:], [row[1:] for row in rows]
        table = table_block(head, rows, bold=analysis.verdict.winner, tall_from=17)
        blocks.append(table if len(analysis.blocks) == 1 else Details(block, [table], open=block == analysis.blocks[0]))
    return blocks


def _pair_tables(analysis: Analysis) -> list[Block]:
    head = ["ahead", "behind", "n", "advantage", f"{formatting.percent(LEVEL)} interval", "ahead on"]
    head += ["p (Holm)", "p (permutation)", "grade", "more seeds"]
    blocks: list[Block] = []
    for block in analysis.blocks:
        leader = next(iter(analysis.arm_means[block]), None)
        pairs = [difference for difference in analysis.verdict.differences if difference.block == block]
        pairs.sort(key=lambda pair: leader not in (pair.better, pair.worse))
        if not pairs:
            continue
        cut = f", the first {MAX_ROWS} of them here, those of {leader} before the others" if len(pairs) > MAX_ROWS else ""
        where = f"{block}: " if len(analysis.blocks) > 1 else ""
        table = table_block(head, [_pair_row(pair, analysis.sweep.score_metric) for pair in pairs])
        is_open = block == analysis.blocks[0] and len(pairs) <= MAX_OPEN_PAIRS
        blocks.append(Details(f"{where}{formatting.count_noun(len(pairs), 'pair')}{cut}", [table], open=is_open))
    return blocks


def _pair_row(pair: PairedDifference, metric: str) -> list[str]:
    p_values = ["n/a" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in (pair.p_holm, pair.p_permutation)]
    advantage, interval = formatting.difference(pair.advantage, metric), _interval(pair.low, pair.high, metric)
    ahead = "" if pair.ahead is None else formatting.percent(pair.ahead)
    more_seeds = "" if pair.more_seeds is None else str(pair.more_seeds)
    return [pair.better, pair.worse, str(pair.n), advantage, interval, ahead, *p_values, pair.grade, more_seeds]


def _interval(low: float | None, high: float | None, metric: str) -> str:
    if low is None:
        return "none"
    return f"{formatting.difference(low, metric, unit=False)} to {formatting.difference(high, metric, unit=False)}"


def _simultaneous_table(analysis: Analysis) -> list[Block]:
    metric, rows = analysis.sweep.score_metric, list[list[str]]()
    for pair in analysis.simultaneous:
        difference, interval = formatting.difference(pair.difference, metric), _interval(pair.low, pair.high, metric)
        rows.append([pair.procedure.capitalize(), pair.arm, pair.against, difference, interval, formatting.p_value(pair.p)])
    head = ["procedure", "arm", "against", "difference", "simultaneous interval", "p"]
    return [Details(formatting.count_noun(len(rows), "comparison"), [table_block(head, rows)])] if rows else []


def _anova_tables(analysis: Analysis) -> list[Block]:
    blocks: list[Block] = []
    for anova in analysis.factorials:
        rows = [
            [effect.name, f"{effect.df:.0f}", f"{effect.f:.2f}", formatting.p_value(effect.p), f"{effect.share:.2f}"]
            for effect in anova.effects
        ]
        where = f", {anova.block}" if len(analysis.blocks) > 1 else ""
        title = f"Analysis of variance{where}, {anova.residual_df:.0f} residual degrees of freedom"
        table = table_block(["effect", "df", "F", "p", "partial eta squared"], rows)
        blocks.append(Details(title, [table], open=anova.block == analysis.blocks[0]))
    return blocks


def _log_rank_table(analysis: Analysis) -> list[Block]:
    rows = []
    for times in analysis.targets:
        for pair in times.pairs:
            p_values = formatting.p_value(pair.p), formatting.p_value(pair.p_holm)
            rows.append([_block_cell(analysis, times.block), times.unit, pair.faster, pair.slower, *p_values])
    head = ["block", "unit", "sooner", "later", "p", "p (Holm)"]
    return [Details(formatting.count_noun(len(rows), "log-rank test"), [table_block(head, rows)])] if rows else []


def _block_cell(analysis: Analysis, block: str) -> str:
    """The block of a row; empty where there is one block alone, which leaves the column out."""
    return block if len(analysis.blocks) > 1 else ""


def _region_table(analysis: Analysis) -> list[Block]:
    metric, rows = analysis.sweep.design.metric, list[list[str]]()
    for region in analysis.regions:
        best, low, high = (formatting.significant(value) for value in (region.best, region.low, region.high))
        width = f"{'at least ' if region.open_low or region.open_high else ''}{region.width:.1f}"
        costs = ["not tried" if cost is None else formatting.difference(cost, metric) for cost in (region.third, region.triple)]
        block = _block_cell(analysis, region.block)
        rows.append([block, region.arm, region.key, best, f"{low} to {high}", width, *costs, str(region.n)])
    head = ["block", "arm", "key", "best", "good region", "decades", "cost of a third", "cost of three times", "trials"]
    return [Details("Regions", [table_block(head, rows)], open=len(rows) < TALL_FROM)] if rows else []


def _tuning_variance_table(analysis: Analysis) -> list[Block]:
    scale = 100.0 if analysis.sweep.score_metric.endswith("accuracy") else 1.0
    head = ["block", "arm", "tunings", "seeds", "sd of seeds", "sd of tuning", "tuning's share of variance", "95 % interval", "p"]
    rows = []
    for variance in analysis.tuning_variances:
        deviations = [f"{scale * deviation:.3g}" for deviation in (variance.seed_sd, variance.tuning_sd)]
        share, low, high = (formatting.percent(value) for value in (variance.share, variance.share_low, variance.share_high))
        counts = [str(variance.studies), str(variance.n)]
        rows.append([variance.block, variance.arm, *counts, *deviations, share, f"{low} to {high}", formatting.p_value(variance.p)])
    return [table_block(head, rows)] if rows else []


def _tuning_luck_table(analysis: Analysis) -> list[Block]:
    """What a single tuning of each arm leaves to luck."""
    metric, rows = analysis.sweep.design.metric, list[list[str]]()
    for (arm, block), luck in analysis.verdict.lucks.items():
        numbers = [formatting.difference(value, metric) for value in (luck.sd, luck.regret, luck.noise_sd)]
        rows.append([_block_cell(analysis, block), arm, str(luck.trials), *numbers])
    head = ["block", "arm", "trials", "sd of another tuning", "behind the best setting", "noise of a trial"]
    return [table_block(head, rows)] if rows else []


def _flag_table(analysis: Analysis) -> list[Block]:
    sweep, blocks, rows = analysis.full_sweep, list[Block](), list[list[str]]()
    counts = sweep.runs.groupby(["arm", "block", "stage", "state"]).size().to_dict()
    states = ("diverged", "pruned", "failed", "killed", "running")
    for planned in sweep.design.planned_arms:
        sides = {
            (key, side): None
            for key, space in planned.spaces.items()
            for value in sweep.settings(planned.arm, planned.block, key)
            if (side := space.near_edge(float(value))) is not None
        }
        edges = "; ".join(f"{key} at the {side} end" for key, side in sides)
        cells = []
        for state in states:
            tune, confirm = (counts.get((planned.arm, planned.block, stage, state), 0) for stage in ("tune", "confirm"))
            cells.append(f"{tune} + {confirm}" if tune or confirm else "")
        if edges or any(cells):
            rows.append([planned.arm, _block_cell(analysis, planned.block), *cells, edges])
    if sweep.pruning_audit is not None:
        audited, chosen = sweep.pruning_audit
        text = f"Pruning was audited: {audited} pruned runs were run to their end, and {chosen} of them would have been chosen."
        blocks.append(Text(text, note=True))
    if rows:
        head = ["arm", "block", *states, "chosen settings"]
        blocks += [table_block(head, rows, tall_from=17), Text("Counts: tuning runs + confirm runs.", note=True)]
    return blocks
