"""Arms against each other: scores, differences, all pairs, ranks, interquartile means and performance profiles."""

from __future__ import annotations

from collections.abc import Iterator

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
from bakeoff.report import formatting
from bakeoff.report.figures.context import (
    MAX_LABELLED,
    FigureContext,
    axis_label,
    block_stem,
    display_scale,
    file_stem,
    heatmap_height,
    rows_height,
)
from bakeoff.stats.paired import PairedDifference
from bakeoff.stats.scores import ALL_BLOCKS

GRADES = {"supported": "supported", "tie": "a tie within the margin", "under-powered": "under-powered", "unknown": "unknown"}
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
    metric, scale, means, scores = context.metric, display_scale(context.metric), context.analysis.arm_means[block], context.scores(block)
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
    axes = AxesSpec(axis_label(metric), rows=[*reversed(arms)], height=rows_height(len(arms)))
    title = context.title(f"Mean {formatting.metric_name(metric)}", block)
    name = file_stem("best-scores" if len(arms) < len(means) else "scores", block_stem(block))
    return context.figure("scores", name, title, marks, axes, data=pd.DataFrame(rows), wide=block == ALL_BLOCKS)


def difference_figure(context: FigureContext, block: str) -> FigureSpec | None:
    """A forest plot: each arm against the plan's baseline, else against the leader; zero is a line and the margin a grey stripe."""
    means, margin, metric = context.analysis.arm_means[block], context.design.margin, context.metric
    differences = [difference for difference in context.analysis.verdict.differences if difference.block == block]
    if len(means) < 2 or not differences:
        return None
    baseline = context.design.baseline
    reference = baseline if baseline is not None and baseline in means else next(iter(means))
    # (difference, the other arm, sign of the other arm minus the reference)
    signed = [(d, d.worse, -1) if d.better == reference else (d, d.better, 1) for d in differences if reference in (d.better, d.worse)]
    signed.sort(key=lambda entry: entry[2] * entry[0].advantage)
    scale = display_scale(metric)
    marks, rows = list[Mark]([Span(-margin * scale, margin * scale), ReferenceLine(x=0.0)]), list[dict[str, object]]()
    for row, (difference, arm, sign) in enumerate(signed):
        advantage = sign * difference.advantage
        ends = sorted(sign * end for end in (difference.low, difference.high) if end is not None)
        low, high = ends if len(ends) == 2 else (None, None)
        interval = f", {scale * low:.2f} to {scale * high:.2f}" if low is not None and high is not None else ""
        p_value, grade = formatting.p_value(difference.p_holm), GRADES.get(difference.grade, difference.grade)
        hover = f"{arm} minus {reference}: {formatting.difference(advantage, metric)}{interval}; n = {difference.n}, {p_value}, {grade}"
        bar_low, bar_high = (None if end is None else scale * end for end in (low, high))
        marks.append(ErrorBar(scale * advantage, row, bar_low, bar_high, arm, hover))
        columns = {"block": block, "arm": arm, "against": reference, "n": difference.n, "difference": advantage, "low": low, "high": high}
        rows.append({**columns, "p_holm": difference.p_holm, "grade": difference.grade})
    unit = " (points)" if scale == 100 else ""
    axes = AxesSpec(f"ahead of {reference}{unit}", rows=[arm for _, arm, _ in signed], height=rows_height(len(signed)))
    name, title = file_stem("differences", block_stem(block)), context.title(f"Against {reference}", block)
    return context.figure("differences", name, title, marks, axes, data=pd.DataFrame(rows), wide=len(means) > MAX_LEVEL_COLUMNS)


def pair_figure(context: FigureContext, block: str) -> FigureSpec | None:
    """A heatmap of every pair: how far the arm of the row is ahead of the arm of the column, with a mark where that is supported.

    With many arms only the upper half is drawn, since the lower half mirrors it.
    """
    metric, scale, arms = context.metric, display_scale(context.metric), [*context.analysis.arm_means[block]]
    labelled = len(arms) <= MAX_LABELLED
    pairs: dict[tuple[str, str], tuple[PairedDifference, float]] = {}
    for difference in context.analysis.verdict.differences:
        if difference.block == block:
            pairs[difference.better, difference.worse] = difference, difference.advantage
            pairs[difference.worse, difference.better] = difference, -difference.advantage
    if len(arms) < 3 or not pairs:
        return None
    values: list[list[float | None]] = [[None] * len(arms) for _ in arms]
    labels, hover = [[""] * len(arms) for _ in arms], [[""] * len(arms) for _ in arms]
    supported, rows = list[tuple[int, int]](), list[dict[str, object]]()
    for i, arm in enumerate(arms):
        for j, other in enumerate(arms):
            if (arm, other) not in pairs or (j < i and not labelled):
                continue
            difference, advantage = pairs[arm, other]
            values[i][j] = scale * advantage
            is_supported = difference.grade == "supported"
            labels[i][j] = f"{scale * advantage:+.3g}{'*' if is_supported else ''}" if labelled else ""
            text = f"{formatting.difference(advantage, metric)}, {formatting.p_value(difference.p_holm)}, {difference.grade}"
            hover[i][j] = f"{arm} minus {other}: {text}"
            supported += [(i, j)] if is_supported and not labelled else []
            if j > i:
                columns = {"row": arm, "column": other, "difference": advantage}
                rows.append({**columns, "p_holm": difference.p_holm, "grade": difference.grade})
    largest = max(abs(value) for row in values for value in row if value is not None) or 1.0
    marks = list[Mark]([Heatmap(arms, arms, values, labels, hover, diverging=True, low=-largest, high=largest)])
    if supported:
        marks.append(Points([j for _, j in supported], [i for i, _ in supported], symbol="dot", size=3))
    key = "* supported" if labelled else "dot: supported"
    title = context.title(f"Row minus column{' (points)' if scale == 100 else ''}; {key}", block)
    axes = AxesSpec(height=heatmap_height(arms, len(arms), row_height=30 if labelled else 15))
    name, data = file_stem("pairs", block_stem(block)), pd.DataFrame(rows)
    return context.figure("differences", name, title, marks, axes, data=data, wide=len(arms) > MAX_LEVEL_COLUMNS)


def rank_figure(context: FigureContext) -> FigureSpec | None:
    """Mean ranks with Nemenyi's critical difference; grey bars at the right join arms that do not differ."""
    ranks = context.analysis.ranks
    if ranks is None:
        return None
    rows_by_arm = {arm: len(ranks.arms) - 1 - i for i, arm in enumerate(ranks.arms)}
    half, marks, rows = ranks.critical_difference / 2, list[Mark](), list[dict[str, object]]()
    for arm, rank in zip(ranks.arms, ranks.ranks, strict=True):
        hover = f"{arm}: mean rank {rank:.2f} over {ranks.rankings} votes, critical difference {ranks.critical_difference:.2f}"
        marks.append(ErrorBar(rank, rows_by_arm[arm], rank - half, rank + half, arm, hover))
        columns = {"arm": arm, "mean rank": rank, "critical difference": ranks.critical_difference}
        rows.append({**columns, "votes": ranks.rankings, "unit": ranks.unit})
    if len(ranks.arms) <= MAX_LABELLED:
        right = max(ranks.ranks) + half
        step = 0.04 * (right - min(ranks.ranks) + half)
        offsets = _bar_offsets([(rows_by_arm[clique[-1]], rows_by_arm[clique[0]]) for clique in ranks.cliques])
        marks += [Line([right + step * (2 + offset)] * 2, [low - 0.22, high + 0.22], width=5) for (low, high), offset in offsets.items()]
    axes = AxesSpec("mean rank, 1 is best", rows=[*reversed(ranks.arms)], height=rows_height(len(ranks.arms)))
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
    metric, scale = context.metric, display_scale(context.metric)
    ranked = sorted(aggregates, key=lambda aggregate: aggregate.iqm, reverse=context.design.goal == "minimize")
    marks = list[Mark]()
    for row, aggregate in enumerate(ranked):
        low, high = (None if end is None else scale * end for end in (aggregate.low, aggregate.high))
        ends = (formatting.score(aggregate.low, metric), formatting.score(aggregate.high, metric))
        interval = f", {ends[0]} to {ends[1]}" if aggregate.low is not None else ""
        hover = f"{aggregate.arm}: interquartile mean {formatting.score(aggregate.iqm, metric)}{interval}, {aggregate.n} runs"
        marks.append(ErrorBar(scale * aggregate.iqm, row, low, high, aggregate.arm, hover))
    axes = AxesSpec(axis_label(metric), rows=[aggregate.arm for aggregate in ranked], height=rows_height(len(ranked)))
    data = pd.DataFrame([vars(aggregate) for aggregate in aggregates])
    return context.figure("aggregate", "interquartile-means", "Interquartile mean", marks, axes, data=data)


def profile_figure(context: FigureContext) -> FigureSpec | None:
    """The share of each arm's runs that score at least as well as x."""
    profiles, scale = context.analysis.profiles, display_scale(context.metric)
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
