"""Tuning: scores against what was tuned, good learning-rate regions, budget curves and importances."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from bakeoff.rendering.marks import Band, FigureSpec, Frame, Heat, Line, Mark, Points, Word, known
from bakeoff.report import formatting
from bakeoff.report.figures.context import CELLS, FigureContext, axis, place, squared, stem, tall, unit

#: Beyond so many tuning runs in a figure, each arm's best in every slice of the space stands for the others.
MOST_POINTS = 1500
SLICES = 40


def all_of(scene: FigureContext) -> Iterator[FigureSpec]:
    """Every figure of the tuning that has numbers."""
    plan = scene.found.sweep.design
    drawn = [tuning(scene, block, key) for key in (*plan.numeric_keys, *plan.categorical_keys) for block in plan.blocks]
    drawn += [regions(scene, key, block) for key in plan.numeric_keys for block in plan.blocks]
    drawn += [budget(scene, block) for block in plan.blocks] + [importance(scene, block) for block in plan.blocks]
    yield from (one for one in drawn if one is not None)


def tuning(scene: FigureContext, block: str, key: str) -> FigureSpec | None:
    """Score against one tuned key, every tuning run; each arm's best is ringed, its good region is drawn along the foot.

    None where the key is not tuned in the block. Of very many runs the best in each slice of the space is drawn.
    """
    sweep, plan = scene.found.full_sweep, scene.found.sweep.design
    rows = sweep.stage_runs("tune")
    rows = rows[(rows["block"] == block) & (rows["score"].notna() | (rows["state"] == "diverged"))]
    menu = key in plan.categorical_keys and key not in plan.numeric_keys
    names = sorted({str(value) for value in rows[key] if str(value) not in ("", "nan")}) if menu else []
    spaces = {arm: plan.space(arm, block, key) for arm in plan.arms}
    ranges = [space for space in spaces.values() if space is not None]
    # Where 1 - x was searched evenly on a logarithm, as of momenta, it is drawn so.
    turned = not menu and bool(ranges) and all(space.complement for space in ranges)
    log = not menu and (turned or any(space.log for space in ranges))
    at = rows[key].map({name: float(i) for i, name in enumerate(names)}) if menu else 1 - rows[key] if turned else rows[key]
    # In a column each arm has a place of its own.
    beside = {arm: 0.7 * ((i + 0.5) / len(plan.arms) - 0.5) for i, arm in enumerate(plan.arms)}
    rows = rows.assign(at=at + rows["arm"].map(beside) if menu else at)[at.notna()]
    if rows.empty:
        return None
    scale, metric = unit(plan.metric), plan.metric
    real = [scale * float(v) for v in rows.loc[rows["state"] != "diverged", "score"]]
    span = (max(real) - min(real)) or 1.0 if real else 1.0
    foot = min(real) - 0.08 * span if real else 0.0
    rows = rows.assign(height=[foot if s == "diverged" else scale * float(v) for v, s in zip(rows["score"], rows["state"], strict=True)])
    marks, good = list[Mark](), {one.arm: one for one in scene.found.regions if (one.block, one.key) == (block, key)}
    thin = len(rows) > MOST_POINTS
    tried = set(rows["arm"])
    for arm in (arm for arm in plan.arms if arm in tried):
        mine = rows[rows["arm"] == arm].sort_values("at", kind="stable")
        marks += (
            _sliced(mine, arm, log=log, goal=plan.goal)
            if thin and not menu
            else _scattered(mine, arm, metric, key, joined=len(plan.numeric_keys) + len(plan.categorical_keys) == 1)
        )
        best, space = sweep.best_trial(arm, block), spaces[arm]
        ringed = mine[mine["id"] == best["id"]] if best is not None else mine.iloc[:0]
        if len(ringed) and best is not None and best["state"] != "diverged":
            edge = space.near_edge(float(best[key])) if space is not None else None
            x, y = float(ringed["at"].iloc[0]), float(ringed["height"].iloc[0])
            where = ", at the edge of its space" if edge else ""
            told = f"best of {arm}{where}: {key} = {_told(best[key])}, {formatting.score(best['score'], metric)}"
            marks.append(Points([x], [y], arm, [told], "ring", 15))
            if edge:
                marks.append(Word(x, y + 0.02 * span, "edge", arm))
        region = good.get(arm)
        if region is not None and len(good) <= CELLS:
            level = foot - 0.035 * span * (2 + list(good).index(arm))
            marks.append(Line([region.low, region.high], [level] * 2, arm, width=4))
    frame = Frame(x=f"1 - {key}" if turned else key, y=axis(metric), log=log, columns=names)
    data = rows[["arm", "block", "point", "state", key, "score"]]
    title = scene.titled(key, block)
    name = stem("tuning", key, place(block) if scene.several else "")
    return FigureSpec(name, "search", title, marks, frame, data, scene.looks, scene.shown)


def _scattered(mine: pd.DataFrame, arm: str, metric: str, key: str, *, joined: bool) -> list[Mark]:
    """Every run of one arm, joined by a thin line where nothing else was tuned; a cross is one that diverged."""
    marks = list[Mark]()
    lost = mine["state"] == "diverged"
    if joined:
        marks.append(Line(list(mine["at"]), list(mine["height"]), arm, width=1, strength=0.5))
    for rows, symbol in ((mine[~lost], "mark"), (mine[lost], "cross")):
        if len(rows):
            told = [
                "diverged" if s == "diverged" else formatting.score(v, metric) for s, v in zip(rows["state"], rows["score"], strict=True)
            ]
            words = [f"{arm}, point {p:.0f}, {_told(x)}: {t}" for p, x, t in zip(rows["point"], rows[key], told, strict=True)]
            marks.append(Points(list(rows["at"]), list(rows["height"]), arm, words, symbol, 7, 0.75))  # type: ignore[arg-type]
    return marks


def _told(value: object) -> str:
    return formatting.significant(value) if isinstance(value, float) else str(value)


def _sliced(mine: pd.DataFrame, arm: str, *, log: bool, goal: str) -> list[Mark]:
    """The best run in each slice of what was tried."""
    at = np.log10(mine["at"]) if log else mine["at"]
    width = (at.max() - at.min()) / SLICES or 1.0
    best = mine.assign(slice=((at - at.min()) / width).astype(int).clip(upper=SLICES - 1))
    best = best.sort_values("height", ascending=goal == "minimize", kind="stable").groupby("slice").head(1).sort_values("at", kind="stable")
    return [Line(list(best["at"]), list(best["height"]), arm)]


def regions(scene: FigureContext, key: str, block: str) -> FigureSpec | None:
    """How wide each arm's good region is: thin, what was searched; thick, what is within the margin of the best; the mark, the best."""
    plan = scene.found.sweep.design
    told = {one.arm: one for one in scene.found.regions if (one.block, one.key) == (block, key)}
    if not told:
        return None
    arms = [arm for arm in reversed(scene.order) if arm in told]
    marks, rows = list[Mark](), list[dict[str, object]]()
    for row, arm in enumerate(arms):
        one, space = told[arm], plan.space(arm, block, key)
        if space is not None:
            marks.append(Line([space.low, space.high], [row, row], width=1.2))
        marks.append(Line([one.low, one.high], [row, row], arm, width=5))
        least = "at least " if one.open_low or one.open_high else ""
        words = f"{arm}: {least}{one.width:.1f} decades, {formatting.significant(one.low)} to {formatting.significant(one.high)}, best {formatting.significant(one.best)}"  # noqa: E501
        marks.append(Points([one.best], [row], arm, [words], "mark", 11))
        rows.append(vars(one))
    frame = Frame(x=key, log=True, rows=arms, height=tall(len(arms)))
    name = stem("good-region", key, place(block) if scene.several else "")
    margin = formatting.difference(plan.margin, plan.metric)
    title = scene.titled(f"{key} within {margin} of the best", block)
    return FigureSpec(name, "region", title, marks, frame, pd.DataFrame(rows), scene.looks)


def budget(scene: FigureContext, block: str) -> FigureSpec | None:
    """The median best score against the number of tuning runs, with bands that hold for all budgets at once."""
    told = [one for one in scene.found.budgets.curves if one.block == block]
    if not told:
        return None
    metric, scale = scene.found.sweep.design.metric, unit(scene.found.sweep.design.metric)
    middles = [scale * v for one in told for v in one.median if known(v)]
    low, high = min(middles), max(middles)
    pad = 0.25 * ((high - low) or 1.0)
    marks, frames = list[Mark](), list[pd.DataFrame]()
    for one in told:
        x = [float(b) for b in one.budgets]
        inside = [i for i, v in enumerate(one.median) if known(v)]
        if len(told) <= 6 or one.arm in scene.shown:
            marks.append(Band(x, _filled(one.low, scale, low - pad), _filled(one.high, scale, high + pad), one.arm))
        marks.append(Line([x[i] for i in inside], [scale * one.median[i] for i in inside], one.arm, marked=len(x) <= 20))
        columns = {"budget": one.budgets, "median": one.median, "low": one.low, "high": one.high}
        frames.append(pd.DataFrame({"arm": one.arm, "n": one.n, "bands": one.bands, **columns}))
    frame = Frame(x="tuning runs", y=f"median best {axis(metric)}", y_range=(low - pad, high + pad))
    name = stem("budget", place(block) if scene.several else "")
    return FigureSpec(
        name, "budget", scene.titled("Best score by budget", block), marks, frame, pd.concat(frames), scene.looks, scene.shown
    )


def _filled(values: Sequence[float | None], scale: float, end: float) -> list[float]:
    return [end if value is None or not math.isfinite(value) else scale * value for value in values]


def importance(scene: FigureContext, block: str) -> FigureSpec | None:
    """How much each tuned key mattered in each arm."""
    told = {one.arm: dict(one.shares) for one in scene.found.importances if one.block == block}
    if not told:
        return None
    arms, keys = [arm for arm in scene.order if arm in told], list(dict.fromkeys(key for one in told.values() for key in one))
    values = [[100 * told[arm][key] if key in told[arm] else None for key in keys] for arm in arms]
    cells = [["" if v is None else f"{v:.0f} %" for v in row] for row in values]
    words = [
        [f"{arm}, {key}: {cell or 'not tuned'}" for key, cell in zip(keys, row, strict=True)] for arm, row in zip(arms, cells, strict=True)
    ]
    rows = [{"arm": arm, "block": block, "key": key, "share": share} for arm, own in told.items() for key, share in own.items()]
    height = squared(keys, len(arms), each=30 if len(arms) <= CELLS else 19)
    return FigureSpec(
        stem("importance", place(block) if scene.several else ""), "importance", scene.titled("Share of each tuned key", block),
        [Heat(keys, arms, values, cells, words, top=100.0)], Frame(height=height), pd.DataFrame(rows), scene.looks,
    )  # fmt: skip
