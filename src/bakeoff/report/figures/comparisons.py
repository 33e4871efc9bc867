"""Arms against each other: scores, differences, all pairs, ranks, interquartile means and performance profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from bakeoff.rendering.marks import Band as Area
from bakeoff.rendering.marks import FigureSpec, Frame, Heat, Interval, Line, Mark, Points, Rule, Stripe
from bakeoff.rendering.plotly_backend import NARROW
from bakeoff.report import formatting
from bakeoff.report.figures.context import CELLS, FigureContext, axis, place, squared, stem, tall, unit
from bakeoff.stats.paired import ALL_BLOCKS, PairedDifference, mean_over_blocks

GRADE = {"supported": "supported", "tie": "a tie within the margin", "under-powered": "under-powered", "unknown": "cannot be told"}


def all_of(scene: FigureContext) -> Iterator[FigureSpec]:
    """Every figure of the comparison that has numbers."""
    for block in scene.blocks:
        if scene.found.arm_means[block]:
            yield scores(scene, block)
    for block in scene.blocks:
        yield from (one for one in (gaps(scene, block), matrix(scene, block)) if one is not None)
    yield from (one for one in (ranking(scene), middles(scene), profiles(scene)) if one is not None)


def scores(scene: FigureContext, block: str, *, most: int | None = None) -> FigureSpec:
    """Final score per arm: a dot for each seed, the mean and its 95 % interval; the best arm on top, the first `most` of them alone."""
    sweep, plan = scene.found.sweep, scene.found.sweep.design
    metric, scale, means = sweep.score_metric, unit(sweep.score_metric), scene.found.arm_means[block]
    table: Mapping[str, Mapping[int, float]] = mean_over_blocks(sweep.scores(), plan.arms) if block == ALL_BLOCKS else sweep.scores()[block]
    arms = [*means][:most]
    marks, rows = list[Mark](), list[dict[str, object]]()
    for row, arm in enumerate(reversed(arms)):
        seeds, told = table[arm], means[arm]
        jitter = np.linspace(-0.22, 0.22, len(seeds)) if len(seeds) > 1 else np.zeros(1)
        words = [f"{arm}, seed {seed}: {formatting.score(value, metric)}" for seed, value in seeds.items()]
        values = [scale * value for value in seeds.values()]
        marks.append(Points(values, [row + float(j) for j in jitter], arm, words, "dot", 5, 0.4))
        interval = f", {formatting.score(told.low, metric)} to {formatting.score(told.high, metric)}" if told.low is not None else ""
        words = [f"{arm}: mean {formatting.score(told.mean, metric)}{interval}, n = {told.n}"]
        low, high = (None if end is None else scale * end for end in (told.low, told.high))
        marks.append(Interval(scale * told.mean, row, low, high, arm, words[0]))
        rows += [{"block": block, "arm": arm, "what": "seed", "seed": seed, "score": value} for seed, value in seeds.items()]
        rows.append({"block": block, "arm": arm, "what": "mean", "score": told.mean, "low": told.low, "high": told.high, "n": told.n})
    frame = Frame(x=axis(metric), rows=[*reversed(arms)], height=tall(len(arms)))
    title = scene.titled(f"Mean {formatting.metric_name(metric)}", block)
    name = stem("best-scores" if len(arms) < len(means) else "scores", place(block))
    return FigureSpec(name, "scores", title, marks, frame, pd.DataFrame(rows), scene.looks, wide=block == ALL_BLOCKS)


def gaps(scene: FigureContext, block: str) -> FigureSpec | None:
    """A forest plot: every arm against the leader, or the baseline where the plan has one, with zero and the margin as a grey stripe."""
    sweep, plan = scene.found.sweep, scene.found.sweep.design
    means, family = scene.found.arm_means[block], [d for d in scene.found.verdict.differences if d.block == block]
    if len(means) < 2 or not family:
        return None
    against = plan.baseline if plan.baseline is not None and plan.baseline in means else next(iter(means))
    chosen = [(d, d.worse, -1) if d.better == against else (d, d.better, 1) for d in family if against in (d.better, d.worse)]
    chosen.sort(key=lambda one: one[2] * one[0].advantage)
    scale, metric = unit(sweep.score_metric), sweep.score_metric
    marks = list[Mark]([Stripe(-plan.margin * scale, plan.margin * scale), Rule(x=0.0)])
    rows: list[dict[str, object]] = []
    for row, (d, arm, sign) in enumerate(chosen):
        ends = sorted(sign * scale * end for end in (d.low, d.high) if end is not None)
        low, high = ends if len(ends) == 2 else (None, None)
        told = f"{arm} minus {against}: {formatting.difference(sign * d.advantage, metric)}"
        told += f", {low:.2f} to {high:.2f}" if low is not None and high is not None else ""
        told += f"; n = {d.n}, {formatting.p_value(d.p_holm)}, {GRADE.get(d.grade, d.grade)}"
        marks.append(Interval(sign * scale * d.advantage, row, low, high, arm, told))
        rows.append(
            {
                "block": block, "arm": arm, "against": against, "n": d.n, "difference": sign * d.advantage,
                "low": None if low is None else low / scale, "high": None if high is None else high / scale, "p_holm": d.p_holm,
                "grade": d.grade,
            }
        )  # fmt: skip
    points = " (points)" if scale == 100 else ""
    frame = Frame(x=f"ahead of {against}{points}", rows=[arm for _, arm, _ in chosen], height=tall(len(chosen)))
    title = scene.titled(f"Against {against}", block)
    return FigureSpec(
        stem("differences", place(block)), "differences", title, marks, frame, pd.DataFrame(rows), scene.looks, wide=len(means) > NARROW
    )


def matrix(scene: FigureContext, block: str) -> FigureSpec | None:
    """Every pair: how far the arm of the row is ahead of the arm of the column. A dot stands where a difference is supported.

    Of many arms one half is drawn alone, since the other is its mirror image.
    """
    metric, order = scene.found.sweep.score_metric, [*scene.found.arm_means[block]]
    pairs: dict[tuple[str, str], tuple[PairedDifference, float]] = {}
    for one in scene.found.verdict.differences:
        if one.block == block:
            pairs |= {(one.better, one.worse): (one, 1.0), (one.worse, one.better): (one, -1.0)}
    if len(order) < 3 or not pairs:
        return None
    scale, few, rows = unit(metric), len(order) <= CELLS, list[dict[str, object]]()
    values: list[list[float | None]] = []
    cells: list[list[str]] = []
    words: list[list[str]] = []
    sure: tuple[list[float], list[float]] = ([], [])
    for i, a in enumerate(order):
        values, cells, words = [*values, []], [*cells, []], [*words, []]
        for j, b in enumerate(order):
            there = pairs.get((a, b)) if few or j > i else None
            d, sign = there if there is not None else (None, 1.0)
            values[-1].append(None if d is None else sign * scale * d.advantage)
            strong = d is not None and d.grade == "supported"
            cells[-1].append("" if d is None or not few else f"{sign * scale * d.advantage:+.3g}{'*' if strong else ''}")
            told = (
                ""
                if d is None
                else f"{a} minus {b}: {formatting.difference(sign * d.advantage, metric)}, {formatting.p_value(d.p_holm)}, {d.grade}"
            )
            words[-1].append(told)
            if d is not None and j > i:
                rows.append({"row": a, "column": b, "difference": sign * d.advantage, "p_holm": d.p_holm, "grade": d.grade})
            if strong and not few:
                sure[0].append(j)
                sure[1].append(i)
    top = max(abs(value) for row in values for value in row if value is not None) or 1.0
    marks = list[Mark]([Heat(order, order, values, cells, words, diverging=True, top=top, bottom=-top)])
    if sure[0]:
        marks.append(Points(*sure, symbol="dot", size=3))
    meant = "* supported" if few else "dot: supported"
    title = scene.titled(f"Row minus column{' (points)' if scale == 100 else ''}; {meant}", block)
    height = squared(order, len(order), each=30 if few else 15)
    data, wide = pd.DataFrame(rows), len(order) > NARROW
    return FigureSpec(stem("pairs", place(block)), "differences", title, marks, Frame(height=height), data, scene.looks, wide=wide)


def ranking(scene: FigureContext) -> FigureSpec | None:
    """Mean ranks with Nemenyi's critical difference: bars at the right join arms that cannot be told apart."""
    told = scene.found.ranks
    if told is None:
        return None
    place_of = {arm: len(told.arms) - 1 - i for i, arm in enumerate(told.arms)}
    half = told.critical / 2
    marks = list[Mark]()
    rows = [
        {"arm": arm, "mean rank": rank, "critical difference": told.critical, "votes": told.votes, "unit": told.unit}
        for arm, rank in zip(told.arms, told.ranks, strict=True)
    ]
    for arm, rank in zip(told.arms, told.ranks, strict=True):
        words = f"{arm}: mean rank {rank:.2f} over {told.votes} votes, critical difference {told.critical:.2f}"
        marks.append(Interval(rank, place_of[arm], rank - half, rank + half, arm, words))
    right = max(told.ranks) + half
    step = 0.04 * (right - min(told.ranks) + half)
    lanes = _lanes([(place_of[clique[-1]], place_of[clique[0]]) for clique in told.cliques])
    if len(told.arms) <= CELLS:
        marks += [Line([right + step * (2 + lane)] * 2, [low - 0.22, high + 0.22], width=5) for (low, high), lane in lanes.items()]
    frame = Frame(x="mean rank, 1 is best", rows=[*reversed(told.arms)], height=tall(len(told.arms)))
    return FigureSpec(
        "ranks", "ranks", f"Mean ranks, critical difference {told.critical:.2f}", marks, frame, pd.DataFrame(rows), scene.looks
    )


def _lanes(bars: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Each bar's lane, so that no two in a lane touch."""
    ends: list[int] = []
    lanes: dict[tuple[int, int], int] = {}
    for low, high in sorted(bars):
        lane = next((i for i, end in enumerate(ends) if end < low), len(ends))
        ends[lane:] = [high, *ends[lane + 1 :]]
        lanes[low, high] = lane
    return lanes


def middles(scene: FigureContext) -> FigureSpec | None:
    """The interquartile mean of all runs of each arm, best on top; where one block and no spread would repeat the scores, none."""
    told = scene.found.aggregates
    if not told or all(one.low is None for one in told):
        return None
    metric, scale = scene.found.sweep.score_metric, unit(scene.found.sweep.score_metric)
    best = sorted(told, key=lambda one: one.iqm, reverse=scene.found.sweep.design.goal == "minimize")
    marks = list[Mark]()
    for row, one in enumerate(best):
        low, high = (None if end is None else scale * end for end in (one.low, one.high))
        interval = f", {formatting.score(one.low, metric)} to {formatting.score(one.high, metric)}" if one.low is not None else ""
        words = f"{one.arm}: interquartile mean {formatting.score(one.iqm, metric)}{interval}, {one.n} runs"
        marks.append(Interval(scale * one.iqm, row, low, high, one.arm, words))
    frame = Frame(x=axis(metric), rows=[one.arm for one in best], height=tall(len(best)))
    return FigureSpec(
        "interquartile-means", "aggregate", "Interquartile mean", marks, frame, pd.DataFrame([vars(one) for one in told]), scene.looks
    )


def profiles(scene: FigureContext) -> FigureSpec | None:
    """The share of each arm's runs that score at least so well."""
    told = scene.found.profiles
    if not told:
        return None
    metric, scale = scene.found.sweep.score_metric, unit(scene.found.sweep.score_metric)
    marks, frames = list[Mark](), list[pd.DataFrame]()
    for one in told:
        levels = [scale * level for level in one.levels]
        if len(told) <= 4:
            marks.append(Area(levels, [100 * v for v in one.low], [100 * v for v in one.high], one.arm))
        marks.append(Line(levels, [100 * v for v in one.share], one.arm))
        columns = {"level": one.levels, "share": one.share, "low": one.low, "high": one.high}
        frames.append(pd.DataFrame({"arm": one.arm, "n": one.n, **columns}))
    frame = Frame(x=axis(metric), y="runs at least as good (%)", y_range=(-2.0, 102.0))
    return FigureSpec("profiles", "aggregate", "Performance profiles", marks, frame, pd.concat(frames), scene.looks, scene.shown)
