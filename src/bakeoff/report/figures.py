"""The figures, one a block, as plotly specifications (plain dicts): the page draws them, nothing here draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bakeoff.report import wording
from bakeoff.report.statistics import Difference, mean_interval
from bakeoff.report.tidy import Sweep

#: Okabe and Ito's colours (2008), told apart with any common colour blindness; yellow is darkened for white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#333333", "#8C6BB1")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
POINTS = 200  # of a curve: more cannot be seen
QUARTILES = 5  # from this many seeds on a band is the middle half of them; below it is lowest to highest
Spec = dict[str, Any]


@dataclass(frozen=True)
class Style:
    """How one arm looks in every figure: no two arms share all three."""

    colour: str
    dash: str
    marker: str


def styles(arms: Sequence[str]) -> dict[str, Style]:
    """A style for each arm, in the plan's order: colours first, and a new dash with every turn through them."""
    turns = [divmod(i, len(COLOURS)) for i in range(len(arms))]
    return {
        arm: Style(COLOURS[place], DASHES[(place + turn) % len(DASHES)], MARKERS[(place + 3 * turn) % len(MARKERS)])
        for arm, (turn, place) in zip(arms, turns, strict=True)
    }


def finals(sweep: Sweep, block: str, order: Sequence[str]) -> Spec:
    """Final score per arm: a dot for each seed, the mean and its 95 % interval; the best arm on top."""
    scores, looks, unit = sweep.scores()[block], styles(sweep.design.arms), _unit(sweep.scored)
    data: list[Spec] = []
    for row, arm in enumerate(reversed(order)):
        seeds = scores.get(arm, {})
        if not seeds:
            continue
        told = mean_interval([unit * v for v in seeds.values()])
        jitter = np.linspace(-0.2, 0.2, len(seeds)) if len(seeds) > 1 else np.zeros(1)
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [unit * v for v in seeds.values()], "y": [row + float(j) for j in jitter],
                "text": [f"{arm}, seed {s}" for s in seeds], "hovertemplate": "%{text}: %{x:.3f}<extra></extra>",
                "marker": {"color": looks[arm].colour, "size": 6, "opacity": 0.45, "symbol": looks[arm].marker}, "name": arm,
            }
        )  # fmt: skip
        bar = {"type": "data", "array": [told.high - told.mean], "thickness": 2, "width": 6} if told.high is not None else None
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [told.mean], "y": [row], "name": arm,
                "hovertemplate": f"{arm}: mean %{{x:.3f}}, n = {told.n}<extra></extra>", "error_x": bar,
                "marker": {"color": looks[arm].colour, "size": 12, "symbol": looks[arm].marker, "line": {"color": "#fff", "width": 1.5}},
            }
        )  # fmt: skip
    layout = _layout(x=_axis(sweep.scored), y=None, height=124 + 34 * len(order))
    layout["yaxis"] |= {"tickvals": list(range(len(order))), "ticktext": list(reversed(order)), "range": [-0.6, len(order) - 0.4]}
    return {"data": data, "layout": layout}


def gaps(differences: Sequence[Difference], sweep: Sweep, leader: str) -> Spec:
    """Every arm against the leader: the paired difference with its 95 % interval, zero, and the margin as a grey band."""
    unit, looks = _unit(sweep.scored), styles(sweep.design.arms)
    chosen = [(d, d.better == leader) for d in differences if leader in (d.better, d.worse)]
    chosen.sort(key=lambda pair: pair[0].advantage * (1 if pair[1] else -1), reverse=True)
    data: list[Spec] = []
    for row, (d, ahead) in enumerate(chosen):
        arm, sign = (d.worse, -1) if ahead else (d.better, 1)
        half = (d.high - d.advantage) * unit if d.high is not None else None
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [sign * d.advantage * unit], "y": [row], "name": arm,
                "error_x": {"type": "data", "array": [half], "thickness": 2, "width": 6} if half is not None else None,
                "hovertemplate": f"{arm} against {leader}: %{{x:.3f}}, n = {d.n}<extra></extra>",
                "marker": {"color": looks[arm].colour, "size": 11, "symbol": looks[arm].marker},
            }
        )  # fmt: skip
    names = [d.worse if ahead else d.better for d, ahead in chosen]
    points = " (points)" if unit == 100 else ""
    layout = _layout(x=f"advantage over {leader}{points}", y=None, height=124 + 34 * len(chosen))
    layout["yaxis"] |= {"tickvals": list(range(len(names))), "ticktext": names, "range": [-0.6, len(names) - 0.4]}
    margin, tall = sweep.design.margin * unit, {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    layout["shapes"] = [
        {**tall, "type": "rect", "x0": -margin, "x1": margin, "fillcolor": "#000", "opacity": 0.07, "line": {"width": 0}},
        {**tall, "type": "line", "x0": 0, "x1": 0, "line": {"color": "#333", "width": 1}},
    ]
    return {"data": data, "layout": layout}


def curves(sweep: Sweep, block: str, metric: str) -> Spec | None:
    """One metric over the steps: the median over the seeds with a band for each arm; None where no run has it."""
    unit, looks, data = _unit(metric), styles(sweep.design.arms), list[Spec]()
    rows = sweep.curves[(sweep.curves["block"] == block) & (sweep.curves["metric"] == metric)]
    rows = rows[np.isfinite(rows["value"])]
    for arm in sweep.design.arms:
        band = spread(rows[rows["arm"] == arm])
        if band.empty:
            continue
        x, look = [int(s) for s in band.index], looks[arm]
        low, middle, high = ([round(unit * float(v), 5) for v in band[name]] for name in ("low", "middle", "high"))
        if int(band["n"].max()) > 1:
            data.append(
                {
                    "type": "scatter", "x": x + x[::-1], "y": high + low[::-1], "fill": "toself", "fillcolor": _faint(look.colour),
                    "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip", "name": arm,
                }
            )  # fmt: skip
        mode = "lines+markers" if len(x) <= 12 else "lines"
        data.append(
            {
                "type": "scatter", "x": x, "y": middle, "mode": mode, "name": arm,
                "line": {"color": look.colour, "dash": look.dash, "width": 2},
                "marker": {"symbol": look.marker, "size": 6}, "hovertemplate": f"{arm}, step %{{x}}: %{{y:.4g}}<extra></extra>",
            }
        )  # fmt: skip
    return {"data": data, "layout": _layout(x="step", y=_axis(metric), height=340)} if data else None


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """step -> n, low, middle, high over the seeds; thinned to `POINTS` steps by averaging each run over stretches of steps."""
    if rows.empty:
        return pd.DataFrame(columns=["n", "low", "middle", "high"])
    steps = rows["step"].to_numpy()
    if len(np.unique(steps)) > POINTS:
        width = (int(steps.max()) - int(steps.min()) + 1) / POINTS
        stretch = ((steps - steps.min()) / width).astype(int)
        thin = rows.assign(step=(steps.min() + (stretch + 0.5) * width).astype(int))
        rows = pd.DataFrame(thin.groupby(["id", "step"], as_index=False)["value"].mean())
    wide = rows.pivot_table(index="step", columns="id", values="value")
    values, n = wide.to_numpy(), wide.notna().sum(axis=1).to_numpy()
    whole = int(n.max()) < QUARTILES
    low, middle, high = np.nanquantile(values, [0.0 if whole else 0.25, 0.5, 1.0 if whole else 0.75], axis=1)
    return pd.DataFrame({"n": n, "low": low, "middle": middle, "high": high}, index=wide.index)


def tuning(sweep: Sweep, block: str, key: str) -> Spec | None:
    """Score against one tuned key, every tuning run; each arm's best is ringed. None where the key is not tuned in the block."""
    metric, looks, data = sweep.design.metric, styles(sweep.design.arms), list[Spec]()
    unit, spaces = _unit(metric), {arm: sweep.design.space(arm, block, key) for arm in sweep.design.arms}
    rows = sweep.stage("tune")
    rows = rows[(rows["block"] == block) & rows[key].notna() & (rows["score"].notna() | (rows["state"] == "diverged"))]
    rows = rows.assign(height=_heights(rows, unit)).sort_values(key, kind="stable")
    for arm in sweep.design.arms:
        mine, best, look, space = rows[rows["arm"] == arm], sweep.best(arm, block), looks[arm], spaces[arm]
        if mine.empty or space is None:
            continue
        told = [s if s == "diverged" else wording.score(v, metric) for s, v in zip(mine["state"], mine["score"], strict=True)]
        words = [f"{arm}, point {p:.0f}, {how}" for p, how in zip(mine["point"], told, strict=True)]
        symbols = ["x-thin-open" if s == "diverged" else look.marker for s in mine["state"]]
        data.append(
            {
                "type": "scatter", "x": [float(v) for v in mine[key]], "y": [float(v) for v in mine["height"]], "name": arm,
                "mode": "markers" if len(sweep.design.tuned) > 1 else "lines+markers", "text": words,
                "line": {"color": look.colour, "dash": look.dash, "width": 1}, "opacity": 0.75,
                "hovertemplate": f"%{{text}}: {key} = %{{x:.3g}}<extra></extra>",
                "marker": {"color": look.colour, "symbol": symbols, "size": 7},
            }
        )  # fmt: skip
        if best is not None and best["state"] != "diverged" and not math.isnan(float(best[key])):
            edge = space.edge(float(best[key]))
            place = f"best of {arm}{', at the edge of its space' if edge else ''}"
            data.append(
                {
                    "type": "scatter", "x": [float(best[key])], "y": [unit * float(best["score"])], "mode": "markers+text", "name": arm,
                    "text": ["edge" if edge else ""], "textposition": "top center", "textfont": {"size": 10, "color": look.colour},
                    "hovertemplate": f"{place}: {key} = %{{x:.3g}}, %{{y:.4g}}<extra></extra>",
                    "marker": {"symbol": "circle-open", "size": 15, "color": look.colour, "line": {"width": 2.5}},
                }
            )  # fmt: skip
    layout = _layout(x=key, y=_axis(metric), height=340)
    if any(space is not None and space.log for space in spaces.values()):
        layout["xaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1}
    return {"data": data, "layout": layout} if data else None


def _heights(rows: pd.DataFrame, unit: float) -> list[float]:
    """Scores as drawn: runs that diverged stand at the foot, below all others, so that they do not flatten the rest."""
    real = [unit * float(v) for v, s in zip(rows["score"], rows["state"], strict=True) if s != "diverged"]
    foot = min(real) - 0.08 * ((max(real) - min(real)) or 1.0) if real else 0.0
    return [foot if s == "diverged" else unit * float(v) for v, s in zip(rows["score"], rows["state"], strict=True)]


def _unit(metric: str) -> float:
    return 100.0 if metric.endswith("accuracy") else 1.0


def _axis(metric: str) -> str:
    return f"{wording.metric_name(metric)} (%)" if metric.endswith("accuracy") else wording.metric_name(metric)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.14)"


def _layout(*, x: str, y: str | None, height: int) -> Spec:
    line = {"gridcolor": "#e8e8e8", "zeroline": False, "automargin": True, "linecolor": "#999", "ticks": "outside", "tickcolor": "#bbb"}
    return {
        "height": height,
        "margin": {"l": 50, "r": 14, "t": 24, "b": 46},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#c4c8cd", "activecolor": "#555"},
        "showlegend": False,
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 12, "color": "#222"},
        "xaxis": {**line, "title": {"text": x, "standoff": 8}},
        "yaxis": {**line, "title": {"text": y or "", "standoff": 6}},
    }
