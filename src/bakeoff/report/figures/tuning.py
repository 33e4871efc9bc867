"""Tuning: scores against what was tuned, good learning-rate regions, budget curves and importances."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bakeoff.rendering.marks import Annotation, AxesSpec, Band, FigureSpec, Heatmap, Line, Mark, Points, Symbol
from bakeoff.report import formatting
from bakeoff.report.figures.context import MAX_LABELLED, FigureContext, axis_label, display_scale, heatmap_axes, row_axes
from bakeoff.report.sensitivity import Region

#: With more tuning runs than that in a figure, only the best run of each arm in every slice of the space is drawn.
MAX_POINTS, SLICES = 1500, 40
#: Up to so many arms, budget curves have bands; up to so many budgets, markers.
MAX_BANDS, MAX_MARKERS = 6, 20


def tuning_figures(context: FigureContext) -> Iterator[FigureSpec]:
    """Every figure of the tuning that has numbers."""
    design = context.design
    figures = [tuned_key_figure(context, block, key) for key in (*design.numeric_keys, *design.categorical_keys) for block in design.blocks]
    figures += [region_figure(context, block, key) for key in design.numeric_keys for block in design.blocks]
    figures += [budget_figure(context, block) for block in design.blocks]
    figures += [importance_figure(context, block) for block in design.blocks]
    yield from (figure for figure in figures if figure is not None)


@dataclass(frozen=True)
class TunedKey:
    """One tuned key in a block, and how its values are placed on an axis.

    Attributes:
        key: The configuration key.
        names: The values of a categorical key, each with a place of its own; empty for numbers.
        complement: Whether 1 - value is drawn, as for momenta, which are searched evenly in its logarithm.
        log: Whether the axis is logarithmic.
    """

    key: str
    names: tuple[str, ...] = ()
    complement: bool = False
    log: bool = False

    @classmethod
    def of(cls, context: FigureContext, block: str, key: str, rows: pd.DataFrame) -> TunedKey:
        """The axis of a key, with the tuning runs of its block."""
        design = context.design
        if key in design.categorical_keys and key not in design.numeric_keys:
            return cls(key, tuple(sorted({str(value) for value in rows[key] if str(value) not in ("", "nan")})))
        spaces = [space for arm in design.arms if (space := design.space(arm, block, key)) is not None]
        complement = bool(spaces) and all(space.complement for space in spaces)
        return cls(key, complement=complement, log=complement or any(space.log for space in spaces))

    def positions(self, rows: pd.DataFrame, arms: Sequence[str]) -> pd.Series[float]:
        """Where each run is on the axis; NaN where it has no value. Arms are side by side in the column of a name."""
        values: pd.Series[float] = rows[self.key]
        if self.names:
            offsets = {arm: 0.7 * ((i + 0.5) / len(arms) - 0.5) for i, arm in enumerate(arms)}
            return values.map({name: float(i) for i, name in enumerate(self.names)}) + rows["arm"].map(offsets)
        return 1 - values if self.complement else values

    def format(self, value: object) -> str:
        """A value as text."""
        return formatting.significant(value) if isinstance(value, float) else str(value)


def tuned_key_figure(context: FigureContext, block: str, key: str) -> FigureSpec | None:
    """The score of every tuning run against one tuned key; each arm's best is ringed, and its good region is a bar along the foot.

    Args:
        context: The analysis.
        block: The block.
        key: A tuned key.

    Returns:
        The figure; None where no run of the block tuned the key.
    """
    sweep, design, metric = context.analysis.full_sweep, context.design, context.design.metric
    rows = sweep.stage_runs("tune")
    rows = rows[(rows["block"] == block) & (rows["score"].notna() | (rows["state"] == "diverged"))]
    tuned = TunedKey.of(context, block, key, rows)
    rows = rows.assign(position=tuned.positions(rows, design.arms)).dropna(subset=["position"])
    if rows.empty:
        return None
    scores = display_scale(metric) * rows["score"].where(rows["state"] != "diverged")
    span = float(scores.max() - scores.min()) or 1.0 if scores.notna().any() else 1.0
    foot = float(scores.min()) - 0.08 * span if scores.notna().any() else 0.0
    rows = rows.assign(height=scores.fillna(foot))
    sliced = len(rows) > MAX_POINTS and not tuned.names
    joined = len(design.numeric_keys) + len(design.categorical_keys) == 1
    marks = list[Mark]()
    regions = _regions(context, block, key)
    for arm in design.arms:
        arm_rows = rows[rows["arm"] == arm].sort_values("position", kind="stable")
        if arm_rows.empty:
            continue
        marks += [_best_per_slice(arm_rows, arm, tuned, design.goal)] if sliced else _trial_marks(arm_rows, arm, tuned, metric, joined)
        marks += _best_trial_marks(context, arm_rows, arm, block, tuned, label_height=0.02 * span)
        if arm in regions and len(regions) <= MAX_LABELLED:
            level = foot - 0.035 * span * (2 + list(regions).index(arm))
            marks.append(Line([regions[arm].low, regions[arm].high], [level] * 2, arm, width=4))
    axes = AxesSpec(f"1 - {key}" if tuned.complement else key, axis_label(metric), log_x=tuned.log, columns=tuned.names)
    rows["score"] = rows["score"].where(rows["state"] != "diverged")
    data = rows[["arm", "block", "point", "state", key, "score"]]
    return context.line_figure("search", context.name("tuning", key, block=block), context.title(key, block), marks, axes, data=data)


def _trial_marks(rows: pd.DataFrame, arm: str, tuned: TunedKey, metric: str, joined: bool) -> list[Mark]:
    """Every tuning run of one arm, joined by a thin line where nothing else was tuned; a cross is a run that diverged."""
    marks = list[Mark]()
    if joined:
        marks.append(Line(list(rows["position"]), list(rows["height"]), arm, width=1, opacity=0.5))
    diverged = rows["state"] == "diverged"
    for part, symbol in ((rows[~diverged], "marker"), (rows[diverged], "cross")):
        hover = []
        for run in part.to_dict("records"):
            outcome = "diverged" if symbol == "cross" else formatting.score(run["score"], metric)
            hover.append(f"{arm}, point {run['point']:.0f}, {tuned.format(run[tuned.key])}: {outcome}")
        if hover:
            kind: Symbol = "cross" if symbol == "cross" else "marker"
            marks.append(Points(list(part["position"]), list(part["height"]), arm, hover, kind, 7, 0.75))
    return marks


def _best_per_slice(rows: pd.DataFrame, arm: str, tuned: TunedKey, goal: str) -> Mark:
    """A line through the best run in each slice of what was tried."""
    position = np.log10(rows["position"]) if tuned.log else rows["position"]
    width = (position.max() - position.min()) / SLICES or 1.0
    slices = ((position - position.min()) / width).astype(int).clip(upper=SLICES - 1)
    best = rows.assign(slice=slices).sort_values("height", ascending=goal == "minimize", kind="stable").groupby("slice").head(1)
    best = best.sort_values("position", kind="stable")
    return Line(list(best["position"]), list(best["height"]), arm)


def _best_trial_marks(
    context: FigureContext, rows: pd.DataFrame, arm: str, block: str, tuned: TunedKey, *, label_height: float
) -> list[Mark]:
    """A ring around the best tuning run of one arm, with a label where it lies at an edge of its space."""
    best, space = context.analysis.full_sweep.best_trial(arm, block), context.design.space(arm, block, tuned.key)
    if best is None or best["state"] == "diverged" or not (rows["id"] == best["id"]).any():
        return []
    point = rows[rows["id"] == best["id"]].iloc[0]
    x, y, value = float(point["position"]), float(point["height"]), best[tuned.key]
    at_edge = space is not None and space.near_edge(float(value)) is not None
    where = ", at the edge of its space" if at_edge else ""
    hover = f"best of {arm}{where}: {tuned.key} = {tuned.format(value)}, {formatting.score(best['score'], context.design.metric)}"
    ring = Points([x], [y], arm, [hover], "ring", 15)
    return [ring, Annotation(x, y + label_height, "edge", arm)] if at_edge else [ring]


def _regions(context: FigureContext, block: str, key: str) -> dict[str, Region]:
    """Arm -> the good region of a key in a block."""
    return {region.arm: region for region in context.analysis.regions if (region.block, region.key) == (block, key)}


def region_figure(context: FigureContext, block: str, key: str) -> FigureSpec | None:
    """How wide each arm's good region is: a thin line for what was searched, a bar for what is within the margin of the best."""
    design = context.design
    regions = _regions(context, block, key)
    if not regions:
        return None
    arms = [arm for arm in reversed(context.arm_order) if arm in regions]
    marks, rows = list[Mark](), list[dict[str, object]]()
    for row, arm in enumerate(arms):
        region, space = regions[arm], design.space(arm, block, key)
        marks += [Line([space.low, space.high], [row, row], width=1.2)] if space is not None else []
        marks.append(Line([region.low, region.high], [row, row], arm, width=5))
        low, high, best = (formatting.significant(value) for value in (region.low, region.high, region.best))
        least = "at least " if region.open_low or region.open_high else ""
        hover = f"{arm}: {least}{region.width:.1f} decades, {low} to {high}, best {best}"
        marks.append(Points([region.best], [row], arm, [hover], size=11))
        rows.append(vars(region))
    axes = row_axes(key, arms, log_x=True)
    title = context.title(f"{key} within {formatting.difference(design.margin, design.metric)} of the best", block)
    return context.figure("region", context.name("good-region", key, block=block), title, marks, axes, data=pd.DataFrame(rows))


def budget_figure(context: FigureContext, block: str) -> FigureSpec | None:
    """The median best score against the number of tuning runs, with bands that hold for all budgets at once."""
    curves = [curve for curve in context.analysis.budgets.curves if curve.block == block]
    metric, scale = context.design.metric, display_scale(context.design.metric)
    medians = [scale * value for curve in curves for value in curve.median if value is not None]
    if not medians:
        return None
    low, high = min(medians), max(medians)
    padding = 0.25 * ((high - low) or 1.0)
    low, high = max(0.0, low - padding), min(100.0 if metric.endswith("accuracy") else math.inf, high + padding)
    marks, frames = list[Mark](), list[pd.DataFrame]()
    for curve in curves:
        budgets = [float(budget) for budget in curve.budgets]
        if len(curves) <= MAX_BANDS or curve.arm in context.visible_arms:
            marks.append(Band(budgets, _scale_or(low, curve.low, scale), _scale_or(high, curve.high, scale), curve.arm))
        points = [(budget, scale * value) for budget, value in zip(budgets, curve.median, strict=True) if value is not None]
        marks.append(Line([x for x, _ in points], [y for _, y in points], curve.arm, markers=len(budgets) <= MAX_MARKERS))
        columns = {"budget": curve.budgets, "median": curve.median, "low": curve.low, "high": curve.high}
        frames.append(pd.DataFrame({"arm": curve.arm, "n": curve.n, "bands": curve.bands, **columns}))
    axes = AxesSpec("tuning runs", f"median best {axis_label(metric)}", y_range=(low, high))
    name, title = context.name("budget", block=block), context.title("Best score by budget", block)
    return context.line_figure("budget", name, title, marks, axes, data=pd.concat(frames))


def _scale_or(end: float, values: Sequence[float | None], scale: float) -> list[float]:
    """Scaled values, and `end` in place of those that are unknown."""
    return [end if value is None else scale * value for value in values]


def importance_figure(context: FigureContext, block: str) -> FigureSpec | None:
    """How much each tuned key mattered for each arm, in percent."""
    shares = {importance.arm: dict(importance.shares) for importance in context.analysis.importances if importance.block == block}
    if not shares:
        return None
    arms, keys = [arm for arm in context.arm_order if arm in shares], list(dict.fromkeys(key for arm in shares.values() for key in arm))
    values = [[100 * shares[arm][key] if key in shares[arm] else None for key in keys] for arm in arms]
    labels = [["" if value is None else f"{value:.0f} %" for value in row] for row in values]
    hover = [[f"{arm}, {key}: {label or 'not tuned'}" for key, label in zip(keys, labels[i], strict=True)] for i, arm in enumerate(arms)]
    rows = [{"arm": arm, "block": block, "key": key, "share": share} for arm in shares for key, share in shares[arm].items()]
    axes, title = heatmap_axes(keys, arms), context.title("Share of each tuned key", block)
    heatmap = Heatmap(keys, arms, values, labels, hover, high=100.0)
    return context.figure("importance", context.name("importance", block=block), title, [heatmap], axes, data=pd.DataFrame(rows))
