"""Figures as plotly specifications: plain dicts that the script of a page draws."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from bakeoff.rendering import marks
from bakeoff.rendering.palette import DIVERGING, GREY, INK, LINE, SEQUENTIAL, Style

Spec = dict[str, Any]
SYMBOLS = {"ring": "circle-open", "cross": "x-thin-open", "dot": "circle"}
SYMBOL_LINE_WIDTHS = {"ring": 2.5, "cross": 1.5}


def plotly_spec(figure: marks.FigureSpec) -> Spec:
    """Return the traces and the layout of a figure; series that are hidden at first are included as invisible traces."""
    traces: list[Spec] = []
    shapes: list[Spec] = []
    layout = _figure_layout(figure.axes)
    for mark in figure.marks:
        if isinstance(mark, marks.Span | marks.ReferenceLine):
            shapes.append(_shape(mark))
            continue
        hidden = {"visible": False} if figure.is_hidden(mark) else {}
        traces.append(_trace(mark, figure.style_of(mark), figure.axes) | hidden)
        if isinstance(mark, marks.Heatmap):
            _set_heatmap_axes(mark, layout)
    return {"data": traces, "layout": layout | ({"shapes": shapes} if shapes else {})}


def base_layout(*, height: int, x: str = "", y: str = "", legend: bool = False) -> Spec:
    """Return a plotly layout with axis titles and a light grid, `height` in pixels; it cannot be dragged, so that phones can scroll."""
    axis: Spec = {"gridcolor": LINE, "zerolinecolor": LINE, "linecolor": GREY, "ticks": "outside", "tickcolor": GREY, "automargin": True}
    return {
        "height": height,
        "margin": {"l": 54, "r": 12, "t": 12, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 12, "color": INK},
        "showlegend": legend,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": {**axis, "title": {"text": escape_plotly(x), "standoff": 8}},
        "yaxis": {**axis, "title": {"text": escape_plotly(y), "standoff": 6}},
    }


def player(labels: Sequence[str], *, pause: int) -> Spec:
    """Return the parts of a layout for an animation: play and pause buttons (`updatemenus`) and a slider (`sliders`).

    `labels` are those of the frames '0', '1', ..., each shown for `pause` milliseconds.
    """
    playing = {"frame": {"duration": pause, "redraw": True}, "transition": {"duration": 0}, "fromcurrent": True}
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    buttons = [
        {"label": "play", "method": "animate", "args": [None, playing]},
        {"label": "pause", "method": "animate", "args": [[None], still]},
    ]
    place = {"x": 0, "y": 0, "yanchor": "top"}
    menu = {"type": "buttons", "direction": "left", "showactive": False, "xanchor": "left", "pad": {"t": 40, "r": 8}, "buttons": buttons}
    steps = [{"label": label, "method": "animate", "args": [[str(frame)], still]} for frame, label in enumerate(labels)]
    current = {"visible": True, "prefix": "", "xanchor": "right", "font": {"size": 12, "color": INK}}
    # Only the current label is shown, since all of them would overlap.
    slider = {"active": 0, "len": 1, "pad": {"t": 76, "b": 4}, "steps": steps, "currentvalue": current, "tickcolor": "#fff"}
    slider |= {"font": {"color": "rgba(0,0,0,0)", "size": 1}, "minorticklen": 0, "ticklen": 0}
    return {"updatemenus": [{**menu, **place, "bgcolor": "#fff", "bordercolor": GREY}], "sliders": [{**slider, **place}]}


def rounded(values: Iterable[Any], *, digits: int = 5) -> list[float | None]:
    """Return numbers with so many significant digits, to keep a page small; None for missing and non-finite ones."""
    return [None if value is None or not math.isfinite(value) else float(f"{float(value):.{digits}g}") for value in values]


def escape_plotly(text: str) -> str:
    """Return text escaped for plotly, which interprets tags, entities and %{...}."""
    return html.escape(text, quote=False).replace("%{", "%&#123;")


def _figure_layout(axes: marks.AxesSpec) -> Spec:
    layout = base_layout(height=axes.height, x=axes.x_label, y=axes.y_label)
    layout["margin"]["t"] = 24
    layout["modebar"] = {"bgcolor": "rgba(0,0,0,0)", "color": "#a9aeb6", "activecolor": GREY}
    sides = (("xaxis", axes.log_x, axes.x_range, axes.columns), ("yaxis", axes.log_y, axes.y_range, axes.rows))
    for name, log, ends, places in sides:
        axis = layout[name]
        axis["zeroline"] = False
        if log:
            axis |= {"type": "log", "exponentformat": "power", "dtick": 1}
        if places:
            axis |= {"tickvals": list(range(len(places))), "ticktext": _tick_names(places)}
            margin = 0.6 if name == "yaxis" else 0.5
            axis["range"] = [-margin, len(places) - 1 + margin]
        if ends is not None:
            axis["range"] = [math.log10(end) for end in ends] if log else list(ends)
    if axes.rows:
        layout["yaxis"]["ticks"] = ""
    return layout


def _set_heatmap_axes(mark: marks.Heatmap, layout: Spec) -> None:
    """Show the column names above the cells, and the first row on top."""
    for axis, names in (("xaxis", mark.columns), ("yaxis", mark.rows)):
        layout[axis] |= {"tickvals": list(range(len(names))), "ticktext": _tick_names(names), "ticks": ""}
        layout[axis] |= {"showgrid": False, "showline": False}
        if len(mark.rows) > marks.MAX_LEVEL_COLUMNS:
            layout[axis]["tickfont"] = {"size": 10}
    angle = -90 if marks.needs_upright_names(mark.columns) else 0
    layout["xaxis"] |= {"side": "top", "tickangle": angle, "range": [-0.5, len(mark.columns) - 0.5]}
    layout["yaxis"] |= {"range": [len(mark.rows) - 0.5, -0.5]}
    layout["margin"] |= {"t": 24, "b": 8}


def _tick_names(names: Sequence[str]) -> list[str]:
    return [escape_plotly(marks.shorten(name)) for name in names]


def _trace(mark: marks.Mark, style: Style, axes: marks.AxesSpec) -> Spec:
    match mark:
        case marks.Heatmap():
            return _heatmap(mark)
        case marks.Points():
            trace = _points(mark, style)
        case marks.ErrorBar():
            trace = _error_bar(mark, style)
        case marks.Band():
            trace = _band(mark, style)
        case marks.Line():
            trace = _line(mark, style, axes.x_label)
        case marks.Annotation():
            font = {"size": 10, "color": style.colour if mark.series else INK}
            trace = {"mode": "text", "x": [mark.x], "y": [mark.y], "text": [escape_plotly(mark.text)], "textfont": font}
            trace |= {"textposition": "top center", "hoverinfo": "skip"}
        case _:
            raise TypeError(f"{mark!r} is a shape of the layout, not a trace")
    return {"type": "scatter", "name": mark.series, **trace}


def _points(mark: marks.Points, style: Style) -> Spec:
    symbol = style.marker if mark.symbol == "marker" else SYMBOLS[mark.symbol]
    marker = {"color": style.colour, "symbol": symbol, "size": mark.size, "opacity": mark.opacity}
    marker["line"] = {"width": SYMBOL_LINE_WIDTHS.get(mark.symbol, 0)}
    return {"mode": "markers", "x": rounded(mark.x), "y": rounded(mark.y), "marker": marker, **_hover(mark.hover)}


def _error_bar(mark: marks.ErrorBar, style: Style) -> Spec:
    marker = {"color": style.colour, "size": mark.size, "symbol": style.marker, "line": {"color": "#fff", "width": 1}}
    trace: Spec = {"mode": "markers", "x": [mark.x], "y": [mark.y], "marker": marker, **_hover([mark.hover] if mark.hover else [])}
    if mark.low is not None and mark.high is not None and math.isfinite(mark.low) and math.isfinite(mark.high):
        ends = {"array": [mark.high - mark.x], "arrayminus": [mark.x - mark.low], "symmetric": False}
        trace["error_x"] = {"type": "data", "color": style.colour, "thickness": 2, "width": 4, **ends}
    return trace


def _line(mark: marks.Line, style: Style, x_label: str) -> Spec:
    dash = "solid" if mark.width >= marks.BAR_WIDTH else style.dash
    line = {"color": style.colour, "dash": dash, "width": mark.width, "shape": "hv" if mark.steps else "linear"}
    name = f"{escape_plotly(mark.series)}<br>" if mark.series else ""
    trace: Spec = {"mode": "lines", "x": rounded(mark.x), "y": rounded(mark.y), "line": line}
    trace["hovertemplate"] = f"{name}{escape_plotly(x_label)} %{{x:.4g}}: %{{y:.4g}}<extra></extra>"
    if mark.markers:
        trace |= {"mode": "lines+markers", "marker": {"symbol": style.marker, "size": 6}}
    return trace | ({"opacity": mark.opacity} if mark.opacity < 1 else {})


def _band(mark: marks.Band, style: Style) -> Spec:
    x, low, high = rounded(mark.x), rounded(mark.low), rounded(mark.high)
    if mark.steps:  # the corners of a band with constant ends from each x to the next
        x = [x[0], *(value for value in x[1:] for _ in range(2))]
        low, high = ([value for value in ends for _ in range(2)][:-1] for ends in (low, high))
    red, green, blue = (int(style.colour[i : i + 2], 16) for i in (1, 3, 5))
    fill = {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.15)", "line": {"width": 0}, "hoverinfo": "skip"}
    return {"mode": "lines", "x": x + x[::-1], "y": high + low[::-1], **fill}


def _hover(texts: Sequence[str]) -> Spec:
    return {"text": [*map(escape_plotly, texts)], "hovertemplate": "%{text}<extra></extra>"} if texts else {"hoverinfo": "skip"}


def _heatmap(mark: marks.Heatmap) -> Spec:
    trace: Spec = {
        "type": "heatmap",
        "name": "",
        "x": list(range(len(mark.columns))),
        "y": list(range(len(mark.rows))),
        "z": [rounded(row) for row in mark.values],
        "zmin": mark.low,
        "zmax": mark.high,
        "colorscale": [list(stop) for stop in (DIVERGING if mark.diverging else SEQUENTIAL)],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertext": [[escape_plotly(text) for text in row] for row in mark.hover],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
    }
    if any(label for row in mark.labels for label in row):
        labels = [[escape_plotly(label) for label in row] for row in mark.labels]
        trace |= {"text": labels, "texttemplate": "%{text}", "textfont": {"size": 11}}
    return trace


def _shape(mark: marks.Span | marks.ReferenceLine) -> Spec:
    full_height = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    if isinstance(mark, marks.Span):
        fill = {"fillcolor": GREY, "opacity": 0.16, "line": {"width": 0}}
        return {"type": "rect", **full_height, "x0": mark.low, "x1": mark.high, **fill}
    line: Spec = {"type": "line", "line": {"color": GREY, "width": 1.2}}
    if mark.x is not None:
        return {**line, **full_height, "x0": mark.x, "x1": mark.x}
    return {**line, "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": mark.y, "y1": mark.y, "layer": "below"}
