"""Arms against each other: scores, differences, all pairs, ranks, interquartile means and performance profiles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

from bakeoff.rendering.marks import (
    MAX_LEVEL_COLUMNS,
    AxesSpec,
    Band,
    ErrorBar,
    FigureSpec,
    Heatmap,
    Line,
    Mark,
    Points,
    ReferenceLine,
    Span,
)
from bakeoff.report import formatting, tables
from bakeoff.report.figures.context import MAX_LABELLED, FigureContext, axis_label, block_stem, file_stem, heatmap_axes, row_axes
from bakeoff.stats.scores import ALL_BLOCKS

GRADES = {
    "supported": "supported",
    "tie": "a tie within the margin",
    "as tuned": "supported as tuned here",
    "under-powered": "under-powered",
    "unknown": "unknown",
}
#: Up to so many arms, profiles have bands.
MAX_BANDS = 4


def comparison_figures(context: FigureContext) -> Iterator[FigureSpec]:
    """Every figure of the comparison that has numbers."""
    blocks = context.analysis.blocks
    yield from (score_figure(context, block) for block in blocks if context.analysis.arm_means[block])
    for block in blocks:
        yield from (figure for figure in (difference_figure(context, block), pair_figure(context, block)) if figure is not None)
    figures = (rank_figure(context), interquartile_mean_figure(context), profile_figure(context))
    yield from (figure for figure in figures if figure is not None)


def score_figure(context: FigureContext, block: str, *, max_arms: int | None = None) -> FigureSpec:
    """The confirm scores of each arm, best arm on top: a dot for each seed, the mean and its 95 % interval.

    Args:
        context: The analysis.
        block: A block that has scores, or all blocks together.
        max_arms: How many of the best arms are drawn; None for all.

    Returns:
        The figure.
    """
    metric, scale, means, scores = context.metric, context.scale, context.analysis.arm_means[block], context.scores(block)
    arms = [*means][:max_arms]
    marks, rows = list[Mark](), list[dict[str, object]]()
    for row, arm in enumerate(reversed(arms)):
        seeds, mean = scores[arm], means[arm]
        jitter = np.linspace(-0.22, 0.22, len(seeds)) if len(seeds) > 1 else np.zeros(1)
        hover = [f"{arm}, seed {seed}: {formatting.score(value, metric)}" for seed, value in seeds.items()]
        marks.append(Points([scale * value for value in seeds.values()], [*map(float, row + jitter)], arm, hover, "dot", 5, 0.4))
        marks.append(context.mean_bar(mean, row, arm, arm))
        rows += [{"block": block, "arm": arm, "what": "seed", "seed": seed, "score": value} for seed, value in seeds.items()]
        rows.append({"block": block, "arm": arm, "what": "mean", "score": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n})
    axes = row_axes(axis_label(metric), [*reversed(arms)])
    title = context.title(f"Mean {formatting.metric_name(metric)}", block)
    name = file_stem("best-scores" if len(arms) < len(means) else "scores", block_stem(block))
    return context.figure("scores", name, title, marks, axes, data=pd.DataFrame(rows), wide=block == ALL_BLOCKS)


def difference_figure(context: FigureContext, block: str) -> FigureSpec | None:
    """A forest plot: each arm against the plan's baseline, else against the leader; zero is a line and the margin a grey stripe."""
    means, margin, metric, scale = context.analysis.arm_means[block], context.design.margin, context.metric, context.scale
    differences = tables.signed_differences(context.analysis, block)
    if len(means) < 2 or not differences:
        return None
    reference = tables.reference_arm(context.analysis, block)
    against = [(arm, difference) for (arm, other), difference in differences.items() if other == reference]
    against.sort(key=lambda entry: entry[1].advantage)
    marks, rows = list[Mark]([Span(-margin * scale, margin * scale), ReferenceLine(x=0.0)]), list[dict[str, object]]()
    for row, (arm, difference) in enumerate(against):
        advantage, low, high = difference.advantage, difference.low, difference.high
        interval = f", {scale * low:.2f} to {scale * high:.2f}" if low is not None and high is not None else ""
        p_value, grade = formatting.p_value(difference.p_holm), GRADES.get(difference.grade, difference.grade)
        hover = f"{arm} minus {reference}: {formatting.difference(advantage, metric)}{interval}; n = {difference.n}, {p_value}, {grade}"
        marks.append(context.error_bar(advantage, low, high, row, arm, hover))
        columns = {"block": block, "arm": arm, "against": reference, "n": difference.n, "difference": advantage, "low": low, "high": high}
        rows.append({**columns, "p_holm": difference.p_holm, "grade": difference.grade})
    axes = row_axes(f"ahead of {reference}{' (points)' if scale == 100 else ''}", [arm for arm, _ in against])
    name, title = file_stem("differences", block_stem(block)), context.title(f"Against {reference}", block)
    return context.figure("differences", name, title, marks, axes, data=pd.DataFrame(rows), wide=len(means) > MAX_LEVEL_COLUMNS)


def pair_figure(context: FigureContext, block: str) -> FigureSpec | None:
    """A heatmap of every pair: how far the arm of the row is ahead of the arm of the column, with a mark where that is supported.

    With many arms only the upper half is drawn, since the lower half mirrors it.
    """
    metric, scale, arms = context.metric, context.scale, [*context.analysis.arm_means[block]]
    labelled = len(arms) <= MAX_LABELLED
    differences = tables.signed_differences(context.analysis, block)
    if len(arms) < 3 or not differences:
        return None
    values: list[list[float | None]] = [[None] * len(arms) for _ in arms]
    labels, hover = [[""] * len(arms) for _ in arms], [[""] * len(arms) for _ in arms]
    supported, rows = list[tuple[int, int]](), list[dict[str, object]]()
    for (i, arm), (j, other) in product(enumerate(arms), repeat=2):
        difference = differences.get((arm, other))
        if difference is None or (j < i and not labelled):
            continue
        is_supported, advantage = difference.grade in ("supported", "as tuned"), difference.advantage
        values[i][j] = scale * advantage
        labels[i][j] = f"{scale * advantage:+.3g}{'*' if is_supported else ''}" if labelled else ""
        text = f"{formatting.difference(advantage, metric)}, {formatting.p_value(difference.p_holm)}, {difference.grade}"
        hover[i][j] = f"{arm} minus {other}: {text}"
        supported += [(i, j)] if is_supported and not labelled else []
        columns = {"row": arm, "column": other, "difference": advantage, "p_holm": difference.p_holm, "grade": difference.grade}
        rows += [columns] if j > i else []
    largest = max(abs(value) for row in values for value in row if value is not None) or 1.0
    marks = list[Mark]([Heatmap(arms, arms, values, labels, hover, diverging=True, low=-largest, high=largest)])
    if supported:
        marks.append(Points([j for _, j in supported], [i for i, _ in supported], symbol="dot", size=3))
    key = "* supported" if labelled else "dot: supported"
    title = context.title(f"Row minus column{' (points)' if scale == 100 else ''}; {key}", block)
    axes = heatmap_axes(arms, arms, row_height=30 if labelled else 15)
    name, data = file_stem("pairs", block_stem(block)), pd.DataFrame(rows)
    return context.figure("differences", name, title, marks, axes, data=data, wide=len(arms) > MAX_LEVEL_COLUMNS)


def rank_figure(context: FigureContext) -> FigureSpec | None:
    """Mean ranks with Nemenyi's critical difference; grey bars at the right join arms that do not differ."""
    ranks = context.analysis.ranks
    if ranks is None:
        return None
    rows_by_arm = {arm: len(ranks.arms) - 1 - i for i, arm in enumerate(ranks.arms)}
    half, marks, rows = ranks.critical_difference / 2, list[Mark](), list[dict[str, object]]()
    last = float(len(ranks.arms))
    for arm, rank in zip(ranks.arms, ranks.ranks, strict=True):
        hover = f"{arm}: mean rank {rank:.2f} over {ranks.rankings} rankings, critical difference {ranks.critical_difference:.2f}"
        marks.append(ErrorBar(rank, rows_by_arm[arm], max(1.0, rank - half), min(last, rank + half), arm, hover))
        columns = {"arm": arm, "mean rank": rank, "critical difference": ranks.critical_difference}
        rows.append({**columns, "votes": ranks.rankings, "unit": ranks.unit})
    if len(ranks.arms) <= MAX_LABELLED:
        right = min(last, max(ranks.ranks) + half)
        step = 0.04 * (right - max(1.0, min(ranks.ranks) - half))
        offsets = _bar_offsets([(rows_by_arm[clique[-1]], rows_by_arm[clique[0]]) for clique in ranks.cliques])
        marks += [Line([right + step * (2 + offset)] * 2, [low - 0.22, high + 0.22], width=5) for (low, high), offset in offsets.items()]
    axes = row_axes("mean rank, 1 is best", [*reversed(ranks.arms)])
    title = f"Mean ranks, critical difference {ranks.critical_difference:.2f}"
    return context.figure("ranks", "ranks", title, marks, axes, data=pd.DataFrame(rows))


def _bar_offsets(bars: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """How many places to the right each vertical bar is moved, so that no two of them touch."""
    ends: list[int] = []
    offsets: dict[tuple[int, int], int] = {}
    for low, high in sorted(bars):
        offset = next((i for i, end in enumerate(ends) if end < low), len(ends))
        ends[offset:] = [high, *ends[offset + 1 :]]
        offsets[low, high] = offset
    return offsets


def interquartile_mean_figure(context: FigureContext) -> FigureSpec | None:
    """The interquartile mean of all runs of each arm, best on top; None where it would repeat the scores: one block and no interval."""
    aggregates = context.analysis.aggregates
    if not aggregates or all(aggregate.low is None for aggregate in aggregates):
        return None
    ranked = sorted(aggregates, key=lambda aggregate: aggregate.iqm, reverse=context.design.goal == "minimize")
    marks = list[Mark]()
    for row, aggregate in enumerate(ranked):
        ends = aggregate.iqm, aggregate.low, aggregate.high
        hover = f"{aggregate.arm}: interquartile mean {context.describe_interval(*ends)}, {aggregate.n} runs"
        marks.append(context.error_bar(*ends, row, aggregate.arm, hover))
    axes = row_axes(axis_label(context.metric), [aggregate.arm for aggregate in ranked])
    data = pd.DataFrame([vars(aggregate) for aggregate in aggregates])
    return context.figure("aggregate", "interquartile-means", "Interquartile mean", marks, axes, data=data)


def profile_figure(context: FigureContext) -> FigureSpec | None:
    """The share of each arm's runs that score at least as well as x."""
    profiles, scale = context.analysis.profiles, context.scale
    if not profiles:
        return None
    marks, frames = list[Mark](), list[pd.DataFrame]()
    for profile in profiles:
        levels = [scale * level for level in profile.levels]
        low, share, high = ([100 * value for value in values] for values in (profile.low, profile.share, profile.high))
        marks += [Band(levels, low, high, profile.arm)] if len(profiles) <= MAX_BANDS else []
        marks.append(Line(levels, share, profile.arm))
        columns = {"level": profile.levels, "share": profile.share, "low": profile.low, "high": profile.high}
        frames.append(pd.DataFrame({"arm": profile.arm, "n": profile.n, **columns}))
    axes = AxesSpec(axis_label(context.metric), "runs at least as good (%)", y_range=(-2.0, 102.0))
    return context.line_figure("aggregate", "profiles", "Performance profiles", marks, axes, data=pd.concat(frames))
