"""Learning curves, and the share of runs that have reached a target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bakeoff.rendering.marks import AxesSpec, Band, FigureSpec, Line, Mark
from bakeoff.report import formatting
from bakeoff.report.figures.context import MANY_ARMS, FigureContext, axis_label, display_scale
from bakeoff.report.survival import TimeToTarget

#: Points of a curve: more cannot be seen; with many arms fewer, so that the page stays small.
POINTS, FEW_POINTS = 200, 80
#: From this many seeds on a band is the middle half of them; below it is lowest to highest.
QUARTILES_FROM = 5
#: Up to so many points, a curve has markers; up to so many arms, times to target have bands.
MAX_MARKERS, MAX_BANDS = 12, 4
UNITS = {"steps": "steps", "images": "images seen", "seconds": "seconds of training"}


def curve_figures(context: FigureContext) -> Iterator[FigureSpec]:
    """The curves of the tuning metric and of the training loss, and the times to target, in every block."""
    for metric in dict.fromkeys((context.design.metric, "train/loss")):
        figures = (learning_curve_figure(context, block, metric) for block in context.design.blocks)
        yield from (figure for figure in figures if figure is not None)
    yield from (time_to_target_figure(context, times) for times in context.analysis.targets)


def learning_curve_figure(context: FigureContext, block: str, metric: str) -> FigureSpec | None:
    """One metric over the steps: the median over the seeds with a band for each arm; None where no run has it."""
    curves, scale = context.sweep.curves, display_scale(metric)
    rows = curves[(curves["block"] == block) & (curves["metric"] == metric) & np.isfinite(curves["value"])]
    many = len(context.design.arms) > MANY_ARMS
    marks, frames = list[Mark](), list[pd.DataFrame]()
    for arm in context.design.arms:
        quantiles = seed_quantiles(rows[rows["arm"] == arm], max_points=FEW_POINTS if many else POINTS)
        if quantiles.empty:
            continue
        steps = [float(step) for step in quantiles.index]
        low, middle, high = ([scale * float(value) for value in quantiles[name]] for name in ("low", "middle", "high"))
        if int(quantiles["n"].max()) > 1 and (not many or arm in context.visible_arms):
            marks.append(Band(steps, low, high, arm))
        marks.append(Line(steps, middle, arm, markers=len(steps) <= MAX_MARKERS))
        columns = ["arm", "metric", "step", "n", "low", "middle", "high"]
        frames.append(quantiles.reset_index().assign(arm=arm, metric=metric)[columns])
    if not marks:
        return None
    name, title = context.name("curves", metric, block=block), context.title(formatting.metric_name(metric).capitalize(), block)
    return context.line_figure("curves", name, title, marks, AxesSpec("step", axis_label(metric)), data=pd.concat(frames))


def seed_quantiles(rows: pd.DataFrame, *, max_points: int = POINTS) -> pd.DataFrame:
    """What the seeds of one arm do at each step.

    Args:
        rows: One row for each run and step: id, step, value.
        max_points: With more steps than that, each run is averaged over stretches of steps.

    Returns:
        step -> n, low, middle (the median) and high over the seeds.
    """
    if rows.empty:
        return pd.DataFrame(columns=["n", "low", "middle", "high"])
    steps = rows["step"].to_numpy()
    if len(np.unique(steps)) > max_points:
        width = (int(steps.max()) - int(steps.min()) + 1) / max_points
        stretch = ((steps - steps.min()) / width).astype(int)
        thinned = rows.assign(step=(steps.min() + (stretch + 0.5) * width).astype(int))
        rows = pd.DataFrame(thinned.groupby(["id", "step"], as_index=False)["value"].mean())
    by_run = rows.pivot_table(index="step", columns="id", values="value")
    n = by_run.notna().sum(axis=1).to_numpy()
    quantiles = [0.0, 0.5, 1.0] if int(n.max()) < QUARTILES_FROM else [0.25, 0.5, 0.75]
    low, middle, high = np.nanquantile(by_run.to_numpy(), quantiles, axis=1)
    return pd.DataFrame({"n": n, "low": low, "middle": middle, "high": high}, index=by_run.index)


def time_to_target_figure(context: FigureContext, times: TimeToTarget) -> FigureSpec:
    """The share of each arm's runs that have reached the target: one minus Kaplan and Meier's estimate, with a band for few arms."""
    marks, frames = list[Mark](), list[pd.DataFrame]()
    end = 1.03 * max((arm.times[-1] for arm in times.arms if arm.times), default=1.0)
    for arm in times.arms:
        x = [0.0, *arm.times, end]
        waiting = (1.0, *arm.waiting, arm.waiting[-1] if arm.waiting else 1.0)
        if len(times.arms) <= MAX_BANDS and arm.times:
            # Where all runs wait, or none, the spread is unknown (0 to 1), so no band is drawn.
            bounds = [(w, w) if (lo, hi) == (0.0, 1.0) else (lo, hi) for w, lo, hi in zip(arm.waiting, arm.low, arm.high, strict=True)]
            low, high = ([100 * (1 - bound[i]) for bound in ((1.0, 1.0), *bounds, bounds[-1])] for i in (1, 0))
            marks.append(Band(x, low, high, arm.arm, steps=True))
        marks.append(Line(x, [100 * (1 - share) for share in waiting], arm.arm, steps=True))
        columns = {"time": arm.times, "waiting": arm.waiting, "low": arm.low, "high": arm.high}
        counts = {"arm": arm.arm, "n": arm.n, "reached": arm.reached, "unit": times.unit, "target": times.target}
        frames.append(pd.DataFrame({**counts, **columns}))
    target = f"{formatting.metric_name(times.metric)} {formatting.score(times.target, times.metric)}"
    axes = AxesSpec(UNITS[times.unit], "runs that reached it (%)", y_range=(-3.0, 103.0), height=300)
    name, title = context.name("target", times.unit, block=times.block), context.title(f"Reached {target}", times.block)
    return context.line_figure("target", name, title, marks, axes, data=pd.concat(frames))
