"""A drawing as a plotly specification (a plain dict), which the page's script draws."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from bakeoff.rendering.marks import (
    BAR,
    Band,
    FigureSpec,
    Frame,
    Heat,
    Interval,
    Mark,
    Points,
    Rule,
    Stripe,
    Word,
    known,
    rounded,
)
from bakeoff.rendering.palette import DIVERGING, GREY, INK, LINE, SEQUENTIAL

Spec = dict[str, Any]
SYMBOLS = {"ring": "circle-open", "cross": "x-thin-open", "dot": "circle", "tick": "line-ns-open"}
NARROW = 6  # columns of a table of colours whose names may fit side by side
ROOM = 48  # letters that do


def spec(drawing: FigureSpec) -> Spec:
    """Traces and layout. Arms that are hidden at first are there, and not visible."""
    data: list[Spec] = []
    shapes: list[Spec] = []
    layout = _layout(drawing.frame)
    for mark in drawing.marks:
        if isinstance(mark, Stripe | Rule):
            shapes.append(_shape(mark))
            continue
        data.append(_trace(mark, drawing))
        if isinstance(mark, Heat):
            _framed(mark, layout)
    return {"data": data, "layout": layout | ({"shapes": shapes} if shapes else {})}


def _framed(mark: Heat, layout: Spec) -> None:
    """The axes of a table of colours: columns named above, the first row on top."""
    for axis, names in (("xaxis", mark.columns), ("yaxis", mark.rows)):
        layout[axis] |= {"tickvals": list(range(len(names))), "ticktext": [_t(shortened(name)) for name in names], "ticks": ""}
        layout[axis] |= {"showgrid": False, "showline": False}
    layout["xaxis"] |= {"side": "top", "tickangle": -90 if upright(mark.columns) else 0, "range": [-0.5, len(mark.columns) - 0.5]}
    layout["yaxis"] |= {"range": [len(mark.rows) - 0.5, -0.5]}
    if len(mark.rows) > NARROW:
        for axis in ("xaxis", "yaxis"):
            layout[axis]["tickfont"] = {"size": 10}
    layout["margin"] |= {"t": 24, "b": 8}


def _t(text: str) -> str:
    """Text as plotly shows it: it reads tags, entities and %{...}."""
    return html.escape(text, quote=False).replace("%{", "%&#123;")


def _trace(mark: Mark, drawing: FigureSpec) -> Spec:
    if isinstance(mark, Heat):
        return _heat(mark)
    assert not isinstance(mark, Stripe | Rule)
    look = drawing.style(mark.arm)
    trace: Spec = {"type": "scatter", "name": mark.arm}
    if drawing.hidden(mark.arm):
        trace["visible"] = False
    if isinstance(mark, Word):
        font = {"size": 10, "color": look.colour if mark.arm else INK}
        place = {"mode": "text", "x": [mark.x], "y": [mark.y], "text": [_t(mark.text)], "textposition": "top center", "textfont": font}
        return trace | place | {"hoverinfo": "skip"}
    if isinstance(mark, Points):
        symbol = look.marker if mark.symbol == "mark" else SYMBOLS[mark.symbol]
        line = {"width": 2.5 if mark.symbol == "ring" else 1.5 if mark.symbol in ("cross", "tick") else 0}
        trace |= {
            "mode": "markers", "x": rounded(mark.x), "y": rounded(mark.y),
            "marker": {"color": look.colour, "symbol": symbol, "size": mark.size, "opacity": mark.strength, "line": line},
        }  # fmt: skip
        return trace | _told([_t(word) for word in mark.words])
    if isinstance(mark, Interval):
        trace |= {
            "mode": "markers", "x": [mark.x], "y": [mark.y],
            "marker": {"color": look.colour, "size": mark.size, "symbol": look.marker, "line": {"color": "#fff", "width": 1}},
        }  # fmt: skip
        if known(mark.low) and known(mark.high):
            assert mark.low is not None and mark.high is not None
            ends = {"array": [mark.high - mark.x], "arrayminus": [mark.x - mark.low], "symmetric": False}
            trace["error_x"] = {"type": "data", "color": look.colour, "thickness": 2, "width": 4, **ends}
        return trace | _told([_t(mark.words)] if mark.words else [])
    shape = "hv" if mark.steps else "linear"
    if isinstance(mark, Band):
        x, low, high = _stepped(mark) if mark.steps else (rounded(mark.x), rounded(mark.low), rounded(mark.high))
        return trace | {
            "mode": "lines", "x": x + x[::-1], "y": high + low[::-1], "fill": "toself", "fillcolor": _faint(look.colour),
            "line": {"width": 0}, "hoverinfo": "skip",
        }  # fmt: skip
    stroke: Spec = {"color": look.colour, "dash": "solid" if mark.width >= BAR else look.dash, "width": mark.width, "shape": shape}
    trace |= {"mode": "lines+markers" if mark.marked else "lines", "x": rounded(mark.x), "y": rounded(mark.y), "line": stroke}
    trace |= {"marker": {"symbol": look.marker, "size": 6}} if mark.marked else {}
    trace |= {"opacity": mark.strength} if mark.strength < 1 else {}
    told = f"{_t(mark.arm)}<br>" if mark.arm else ""
    axis = _t(drawing.frame.x)
    return trace | {"hovertemplate": f"{told}{axis} %{{x:.4g}}: %{{y:.4g}}<extra></extra>"}


def _told(words: list[str]) -> Spec:
    return {"text": words, "hovertemplate": "%{text}<extra></extra>"} if words else {"hoverinfo": "skip"}


def _stepped(band: Band) -> tuple[list[float], list[float], list[float]]:
    """The corners of a band whose ends stay level from one x to the next."""
    x, low, high = (rounded(one) for one in (band.x, band.low, band.high))
    corners = [x[0], *(value for value in x[1:] for _ in range(2))]
    return corners, [value for value in low for _ in range(2)][:-1], [value for value in high for _ in range(2)][:-1]


def _heat(mark: Heat) -> Spec:
    scale = DIVERGING if mark.diverging else SEQUENTIAL
    values = [[None if not known(v) else float(f"{v:.5g}") for v in row] for row in mark.values]
    told = any(cell for row in mark.cells for cell in row)
    text = {"text": [[_t(cell) for cell in row] for row in mark.cells], "texttemplate": "%{text}", "textfont": {"size": 11}}
    trace: Spec = {
        "type": "heatmap", "name": "", "x": list(range(len(mark.columns))), "y": list(range(len(mark.rows))), "z": values,
        "zmin": mark.bottom, "zmax": mark.top, "colorscale": [list(stop) for stop in scale], "showscale": False, "xgap": 1, "ygap": 1,
        "hovertext": [[_t(word) for word in row] for row in mark.words], "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
    }  # fmt: skip
    return trace | (text if told else {})


def _shape(mark: Stripe | Rule) -> Spec:
    if isinstance(mark, Stripe):
        ends = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "x0": mark.low, "x1": mark.high}
        return {"type": "rect", **ends, "fillcolor": GREY, "opacity": 0.16, "line": {"width": 0}, "layer": "below"}
    line = {"type": "line", "line": {"color": GREY, "width": 1.2}, "layer": "below"}
    if mark.x is not None:
        return {**line, "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "x0": mark.x, "x1": mark.x}
    return {**line, "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": mark.y, "y1": mark.y}


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def shortened(name: str, *, most: int = 28) -> str:
    """A name cut in its middle, so that both ends can be read; the pointer and the tables tell it whole."""
    return name if len(name) <= most else f"{name[: most - most // 2 - 1]}…{name[-(most // 2) :]}"


def upright(names: Sequence[str]) -> bool:
    """Whether the columns' names do not fit side by side, so that they stand upright."""
    return len(names) > NARROW or len(names) * max(len(shortened(name)) + 2 for name in names) > ROOM


def _layout(frame: Frame) -> Spec:
    line = {"gridcolor": LINE, "zeroline": False, "automargin": True, "linecolor": GREY, "ticks": "outside", "tickcolor": GREY}
    x: Spec = {**line, "title": {"text": _t(frame.x), "standoff": 8}}
    y: Spec = {**line, "title": {"text": _t(frame.y), "standoff": 6}}
    if frame.log:
        x |= {"type": "log", "exponentformat": "power", "dtick": 1}
    if frame.x_range is not None:
        x["range"] = [math.log10(end) for end in frame.x_range] if frame.log else list(frame.x_range)
    if frame.y_range is not None:
        y["range"] = list(frame.y_range)
    if frame.rows:
        y |= {"tickvals": list(range(len(frame.rows))), "ticktext": [_t(shortened(row)) for row in frame.rows], "ticks": ""}
        y.setdefault("range", [-0.6, len(frame.rows) - 0.4])
    if frame.columns:
        x |= {"tickvals": list(range(len(frame.columns))), "ticktext": [_t(shortened(one)) for one in frame.columns]}
        x["range"] = [-0.5, len(frame.columns) - 0.5]
    return {
        "height": frame.height, "margin": {"l": 52, "r": 12, "t": 24, "b": 46}, "showlegend": False, "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#a9aeb6", "activecolor": GREY},
        "dragmode": False, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 12, "color": INK},
        "xaxis": x, "yaxis": y,
    }  # fmt: skip
