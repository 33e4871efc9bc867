"""What happens in time: learning curves, and the share of runs that have reached a target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bakeoff.rendering.marks import Band, FigureSpec, Frame, Line, Mark
from bakeoff.report import formatting
from bakeoff.report.figures.context import MANY, FigureContext, axis, place, stem, unit
from bakeoff.report.survival import TimeToTarget

#: Points of a curve: more cannot be seen; with many arms fewer, so that the page stays small.
POINTS, THIN = 200, 80
#: From this many seeds on a band is the middle half of them; below it is lowest to highest.
QUARTILES = 5
UNITS = {"steps": "steps", "images": "images seen", "seconds": "seconds of training"}


def all_of(scene: FigureContext) -> Iterator[FigureSpec]:
    """The curves of the metric that tuning looked at and of the training loss, and times to target, in every block."""
    plan = scene.found.sweep.design
    for metric in dict.fromkeys((plan.metric, "train/loss")):
        yield from (one for block in plan.blocks if (one := curves(scene, block, metric)) is not None)
    yield from (target(scene, one) for one in scene.found.targets)


def curves(scene: FigureContext, block: str, metric: str) -> FigureSpec | None:
    """One metric over the steps: the median over the seeds with a band for each arm; None where no run has it."""
    sweep, scale = scene.found.sweep, unit(metric)
    rows = sweep.curves[(sweep.curves["block"] == block) & (sweep.curves["metric"] == metric)]
    rows = rows[np.isfinite(rows["value"])]
    marks, frames = list[Mark](), list[pd.DataFrame]()
    many = len(sweep.design.arms) > MANY
    for arm in sweep.design.arms:
        band = spread(rows[rows["arm"] == arm], points=THIN if many else POINTS)
        if band.empty:
            continue
        x = [float(step) for step in band.index]
        low, middle, high = ([scale * float(value) for value in band[name]] for name in ("low", "middle", "high"))
        if int(band["n"].max()) > 1 and (not many or arm in scene.shown):
            marks.append(Band(x, low, high, arm))
        marks.append(Line(x, middle, arm, marked=len(x) <= 12))
        frames.append(band.reset_index().assign(arm=arm, metric=metric)[["arm", "metric", "step", "n", "low", "middle", "high"]])
    if not marks:
        return None
    title = scene.titled(formatting.metric_name(metric).capitalize(), block)
    frame = Frame(x="step", y=axis(metric))
    name = stem("curves", metric, place(block) if scene.several else "")
    return FigureSpec(name, "curves", title, marks, frame, pd.concat(frames), scene.looks, scene.shown)


def spread(rows: pd.DataFrame, *, points: int = POINTS) -> pd.DataFrame:
    """step -> n, low, middle, high over the seeds; thinned to `points` steps by averaging each run over stretches of steps."""
    if rows.empty:
        return pd.DataFrame(columns=["n", "low", "middle", "high"])
    steps = rows["step"].to_numpy()
    if len(np.unique(steps)) > points:
        width = (int(steps.max()) - int(steps.min()) + 1) / points
        stretch = ((steps - steps.min()) / width).astype(int)
        thin = rows.assign(step=(steps.min() + (stretch + 0.5) * width).astype(int))
        rows = pd.DataFrame(thin.groupby(["id", "step"], as_index=False)["value"].mean())
    wide = rows.pivot_table(index="step", columns="id", values="value")
    values, n = wide.to_numpy(), wide.notna().sum(axis=1).to_numpy()
    whole = int(n.max()) < QUARTILES
    low, middle, high = np.nanquantile(values, [0.0 if whole else 0.25, 0.5, 1.0 if whole else 0.75], axis=1)
    return pd.DataFrame({"n": n, "low": low, "middle": middle, "high": high}, index=wide.index)


def target(scene: FigureContext, told: TimeToTarget) -> FigureSpec:
    """The share of each arm's runs that have reached the target by then: one minus Kaplan and Meier's, with its band for few arms."""
    marks, frames = list[Mark](), list[pd.DataFrame]()
    end = 1.03 * max((one.times[-1] for one in told.arms if one.times), default=1.0)
    for one in told.arms:
        x = [0.0, *one.times, end]
        share = [100 * (1 - w) for w in (1.0, *one.waiting, one.waiting[-1] if one.waiting else 1.0)]
        if len(told.arms) <= 4 and one.times:
            # Where all wait, or none, nothing is known of the spread (0 to 1): there is no band there.
            ends = [(w, w) if (lo, hi) == (0.0, 1.0) else (lo, hi) for w, lo, hi in zip(one.waiting, one.low, one.high, strict=True)]
            low, high = ([100 * (1 - end[i]) for end in ((1.0, 1.0), *ends, ends[-1])] for i in (1, 0))
            marks.append(Band(x, low, high, one.arm, steps=True))
        marks.append(Line(x, share, one.arm, steps=True))
        columns = {"time": one.times, "waiting": one.waiting, "low": one.low, "high": one.high}
        frames.append(
            pd.DataFrame({"arm": one.arm, "n": one.n, "reached": one.reached, "unit": told.unit, "target": told.target, **columns})
        )
    goal = f"{formatting.metric_name(told.metric)} {formatting.score(told.target, told.metric)}"
    title = scene.titled(f"Reached {goal}", told.block)
    frame = Frame(x=UNITS[told.unit], y="runs that have (%)", y_range=(-3.0, 103.0), height=300)
    name = stem("target", told.unit, place(told.block) if scene.several else "")
    return FigureSpec(name, "target", title, marks, frame, pd.concat(frames), scene.looks, scene.shown)
