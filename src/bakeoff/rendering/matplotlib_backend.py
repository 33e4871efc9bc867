"""Figures as PNG and SVG by matplotlib: the marks of the page, with a legend instead of the page's buttons."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from bakeoff.rendering import marks
from bakeoff.rendering.palette import DASHES, DIVERGING, GREY, INK, LINE, MARKERS, SEQUENTIAL, SOFT, Style

#: Dots per inch of a PNG on a page, and of one for a paper.
DPI, PAPER_DPI = 110, 160
#: Inches: a column of text on A4.
COLUMN_WIDTH = 6.3
SYMBOLS = {"ring": "o", "cross": "x", "dot": "o"}
#: Settings for every picture. Names are not parsed as formulas; text in an SVG stays text; the salt makes its ids reproducible.
RC_PARAMS: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "bakeoff",
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches with a constrained layout; draw it within `rc_context(RC_PARAMS)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def svg(figure: marks.FigureSpec) -> str:
    """Return a figure as the text of an SVG file, without its title, which the page shows."""
    with rc_context(RC_PARAMS):
        drawn, buffer = draw_figure(figure, titled=False), io.StringIO()
        drawn.savefig(buffer, format="svg", facecolor="none", bbox_inches=_bounds(drawn), metadata={"Date": None})
    return buffer.getvalue()


def save_figure(figure: marks.FigureSpec, folder: Path) -> list[Path]:
    """Write <name>.png and <name>.svg into an existing folder, and return both paths."""
    with rc_context(RC_PARAMS):
        drawn = draw_figure(figure)
        bounds = _bounds(drawn)  # once for both files: it costs as much as drawing
        paths = [folder / f"{figure.name}.{suffix}" for suffix in ("png", "svg")]
        drawn.savefig(paths[0], dpi=PAPER_DPI, facecolor="white", bbox_inches=bounds)
        drawn.savefig(paths[1], facecolor="white", bbox_inches=bounds, metadata={"Date": None})
    return paths


def draw_figure(figure: marks.FigureSpec, *, titled: bool = True) -> Figure:
    """Return the figure in matplotlib, without the series that the page hides at first."""
    drawn = Figure(figsize=(COLUMN_WIDTH, min(14.0, figure.axes.height / 96)))
    FigureCanvasAgg(drawn)
    axes = drawn.add_axes((0.16, 0.14, 0.82, 0.8))
    if titled:
        axes.set_title(figure.title, fontsize=9, fontweight="normal")
    styled_marks = [(mark, figure.style_of(mark)) for mark in figure.marks if not figure.is_hidden(mark)]
    for mark, style in styled_marks:
        if not isinstance(mark, marks.Points | marks.ErrorBar):
            DRAWERS[type(mark)](axes, mark, style)
    _draw_points(axes, [(mark, style) for mark, style in styled_marks if isinstance(mark, marks.Points)])
    _draw_error_bars(axes, [(mark, style) for mark, style in styled_marks if isinstance(mark, marks.ErrorBar)])
    has_heatmap = any(isinstance(mark, marks.Heatmap) for mark, _ in styled_marks)
    if not has_heatmap:
        axes.grid(True, axis="x" if figure.axes.rows else "both")
        axes.set_axisbelow(True)
    _set_axes(axes, figure.axes)
    if not figure.axes.rows and not has_heatmap:
        _add_legend(axes, styled_marks)
    return drawn


def line_style(dash: str) -> Any:
    """Return matplotlib's line style for a dash of the palette."""
    return (0, DASHES[dash]) if DASHES[dash] else "-"


def _bounds(figure: Figure) -> Bbox:
    """Return the bounds of the frame with its titles and legend, in inches."""
    return figure.get_tightbbox().padded(0.06)


def _set_axes(axes: Axes, spec: marks.AxesSpec) -> None:
    axes.set(xlabel=spec.x_label, ylabel=spec.y_label)
    if spec.rows:
        axes.set_yticks(range(len(spec.rows)), [marks.shorten(row) for row in spec.rows])
        axes.set_ylim(-0.6, len(spec.rows) - 0.4)
        axes.tick_params(axis="y", length=0, labelsize=8.5 if len(spec.rows) < 30 else 7)
    if spec.columns:
        axes.set_xticks(range(len(spec.columns)), [marks.shorten(column) for column in spec.columns])
        axes.set_xlim(-0.5, len(spec.columns) - 0.5)
    for log, scale, axis in ((spec.log_x, axes.set_xscale, axes.xaxis), (spec.log_y, axes.set_yscale, axes.yaxis)):
        if log:
            scale("log")
            axis.set_major_locator(LogLocator(base=10, numticks=12))
            axis.set_major_formatter(FuncFormatter(_format_power))
            axis.set_minor_locator(NullLocator())
    if spec.x_range is not None:
        axes.set_xlim(*spec.x_range)
    if spec.y_range is not None:
        axes.set_ylim(*spec.y_range)


def _format_power(value: float, _position: object) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"1e{math.log10(value):.0f}" if value > 0 else ""


def _add_legend(axes: Axes, styled_marks: Sequence[tuple[marks.Mark, Style]]) -> None:
    """Add a legend of the drawn series below the frame."""
    styles = {series: style for mark, style in styled_marks if (series := getattr(mark, "series", ""))}
    with_line = {mark.series for mark, _ in styled_marks if isinstance(mark, marks.Line)}
    handles = []
    for series, style in styles.items():
        look: dict[str, Any] = {"linestyle": line_style(style.dash)} if series in with_line else {"linestyle": "none"}
        look["marker"] = "" if series in with_line else MARKERS[style.marker]
        handles.append(Line2D([], [], color=style.colour, linewidth=1.6, markersize=5, label=marks.shorten(series), **look))
    if handles:
        longest = max(len(marks.shorten(series)) for series in styles)
        columns = max(1, min(4, len(handles), 90 // (longest + 8)))
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, handlelength=3)


def _draw_points(axes: Axes, styled_marks: Sequence[tuple[marks.Points, Style]]) -> None:
    """Draw all points with the same symbol and size at once, which is ten times as fast as an artist for each series."""
    groups: dict[tuple[str, str, float, float], list[tuple[marks.Points, Style]]] = {}
    for mark, style in styled_marks:
        symbol = MARKERS[style.marker] if mark.symbol == "marker" else SYMBOLS[mark.symbol]
        groups.setdefault((symbol, mark.symbol, mark.size, mark.opacity), []).append((mark, style))
    for (symbol, kind, size, opacity), group in groups.items():
        x, y = [value for mark, _ in group for value in mark.x], [value for mark, _ in group for value in mark.y]
        colours = [style.colour for mark, style in group for _ in mark.x]
        ring, width = kind == "ring", 1.4 if kind in ("ring", "cross") else 0.0
        face: dict[str, Any] = {"facecolors": "none", "edgecolors": colours} if ring else {"c": colours}
        axes.scatter(x, y, s=(0.62 * size) ** 2, marker=symbol, alpha=opacity, linewidths=width, zorder=4 if ring else 3, **face)


def _draw_error_bars(axes: Axes, styled_marks: Sequence[tuple[marks.ErrorBar, Style]]) -> None:
    """Draw values with their bars, all of the same marker at once."""
    bars = [(mark.y, mark.low, mark.high, style.colour) for mark, style in styled_marks if mark.low is not None and mark.high is not None]
    if bars:
        rows, low, high, colours = (list(column) for column in zip(*bars, strict=True))
        axes.hlines(rows, low, high, colors=colours, linewidth=1.6, zorder=3)
        axes.scatter([*low, *high], [*rows, *rows], marker="|", c=[*colours, *colours], s=24, linewidths=1.4, zorder=3)
    for marker in dict.fromkeys(style.marker for _, style in styled_marks):
        group = [(mark, style.colour) for mark, style in styled_marks if style.marker == marker]
        x, y = [mark.x for mark, _ in group], [mark.y for mark, _ in group]
        sizes, colours = [(0.62 * mark.size) ** 2 for mark, _ in group], [colour for _, colour in group]
        axes.scatter(x, y, s=sizes, c=colours, marker=MARKERS[marker], edgecolors="white", linewidths=0.7, zorder=4)


def _draw_line(axes: Axes, mark: marks.Line, style: Style) -> None:
    dash = "-" if mark.width >= marks.BAR_WIDTH else line_style(style.dash)
    marker, drawstyle = MARKERS[style.marker] if mark.markers else "", "steps-post" if mark.steps else "default"
    (line,) = axes.plot(mark.x, mark.y, color=style.colour, linestyle=dash, linewidth=0.75 * mark.width, marker=marker, markersize=3.2)
    line.set(drawstyle=drawstyle, alpha=mark.opacity, zorder=3)


def _draw_band(axes: Axes, mark: marks.Band, style: Style) -> None:
    step: Any = "post" if mark.steps else None
    axes.fill_between(mark.x, mark.low, mark.high, color=style.colour, alpha=0.14, linewidth=0, step=step, zorder=1)


def _draw_heatmap(axes: Axes, mark: marks.Heatmap, _style: Style) -> None:
    colours = LinearSegmentedColormap.from_list("heatmap", [*(DIVERGING if mark.diverging else SEQUENTIAL)])
    values = [[math.nan if value is None else value for value in row] for row in mark.values]
    axes.pcolormesh(values, cmap=colours, vmin=mark.low, vmax=mark.high, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    columns, rows = [marks.shorten(name) for name in mark.columns], [marks.shorten(name) for name in mark.rows]
    size = 8.5 if max(len(columns), len(rows)) < 20 else 5.5
    rotation = 90 if marks.needs_upright_names(columns) else 0
    axes.set_xticks([i + 0.5 for i in range(len(columns))], columns, rotation=rotation, fontsize=size)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows, fontsize=size)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for i, row in enumerate(mark.labels):
        for j, label in enumerate(row):
            if label and math.isfinite(values[i][j]):
                share = (values[i][j] - mark.low) / ((mark.high - mark.low) or 1.0)
                dark = abs(share - 0.5) > 0.36 if mark.diverging else share > 0.6
                axes.text(j + 0.5, i + 0.5, label, ha="center", va="center", fontsize=7, color="white" if dark else INK)


def _draw_span(axes: Axes, mark: marks.Span, _style: Style) -> None:
    axes.axvspan(mark.low, mark.high, color=GREY, alpha=0.16, linewidth=0, zorder=0)


def _draw_reference_line(axes: Axes, mark: marks.ReferenceLine, _style: Style) -> None:
    if mark.x is not None:
        axes.axvline(mark.x, color=GREY, linewidth=1, zorder=1)
    if mark.y is not None:
        axes.axhline(mark.y, color=GREY, linewidth=1, zorder=1)


def _draw_annotation(axes: Axes, mark: marks.Annotation, style: Style) -> None:
    colour = style.colour if mark.series else INK
    axes.annotate(mark.text, (mark.x, mark.y), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=6.5, color=colour)


#: Mark -> its drawing function, for marks that are drawn one at a time.
DRAWERS: dict[type[marks.Mark], Callable[[Axes, Any, Style], None]] = {
    marks.Line: _draw_line,
    marks.Band: _draw_band,
    marks.Heatmap: _draw_heatmap,
    marks.Span: _draw_span,
    marks.ReferenceLine: _draw_reference_line,
    marks.Annotation: _draw_annotation,
}
