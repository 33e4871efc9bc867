"""A drawing as PNG and SVG for papers, by matplotlib: the same marks as on the page, with a legend where the page has its buttons."""

from __future__ import annotations

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

from bakeoff.rendering.marks import (
    BAR,
    Band,
    FigureSpec,
    Heat,
    Interval,
    Line,
    Mark,
    Points,
    Rule,
    Stripe,
    Word,
    known,
)
from bakeoff.rendering.palette import DASHES, DIVERGING, GREY, INK, LINE, MARKERS, SEQUENTIAL, SOFT, Style
from bakeoff.rendering.plotly_backend import shortened, upright

DOTS = 160  # a PNG's dots per inch
WIDTH = 6.3  # inches: a column of text on A4
SYMBOLS = {"ring": "o", "cross": "x", "dot": "o", "tick": "|"}
#: Names of arms are text and no formulas; text in an SVG stays text; the salt makes its ids the same each time.
STYLE: Any = {
    "font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": SOFT,
    "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT, "axes.linewidth": 0.8, "grid.color": LINE, "grid.linewidth": 0.7,
    "legend.frameon": False, "legend.fontsize": 7.5, "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "bakeoff",
    "axes.formatter.useoffset": False, "axes.unicode_minus": True,
}  # fmt: skip


def write(drawing: FigureSpec, out: Path) -> list[Path]:
    """Writes <name>.png and <name>.svg into `out`, which is there."""
    with rc_context(STYLE):
        figure = sheet(drawing)
        paths = [out / f"{drawing.name}.{ending}" for ending in ("png", "svg")]
        # The room that titles and legend take is found once for both files: it costs as much as drawing.
        box = figure.get_tightbbox().padded(0.06)
        figure.savefig(paths[0], dpi=DOTS, facecolor="white", bbox_inches=box)
        figure.savefig(paths[1], facecolor="white", bbox_inches=box, metadata={"Date": None})
    return paths


def sheet(drawing: FigureSpec) -> Figure:
    """The figure; arms that the page hides at first are left out here."""
    frame = drawing.frame
    heat = next((mark for mark in drawing.marks if isinstance(mark, Heat)), None)
    figure = Figure(figsize=(WIDTH, min(14.0, frame.height / 96)))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.16, 0.14, 0.82, 0.8))
    axes.set_title(drawing.title, loc="left", fontsize=9, color=INK)
    if frame.log:
        axes.set_xscale("log")
    seen = [mark for mark in drawing.marks if not drawing.hidden(getattr(mark, "arm", ""))]
    for mark in seen:
        if not isinstance(mark, Points | Interval):
            DRAWERS[type(mark)](axes, mark, drawing.style(getattr(mark, "arm", "")))
    _points(axes, [(mark, drawing.style(mark.arm)) for mark in seen if isinstance(mark, Points)])
    _intervals(axes, [(mark, drawing.style(mark.arm)) for mark in seen if isinstance(mark, Interval)])
    axes.set_xlabel(frame.x)
    axes.set_ylabel(frame.y)
    if heat is None:
        axes.grid(True, axis="x" if frame.rows else "both")
        axes.set_axisbelow(True)
    if frame.rows:
        axes.set_yticks(range(len(frame.rows)), [shortened(row) for row in frame.rows])
        axes.set_ylim(-0.6, len(frame.rows) - 0.4)
        axes.tick_params(axis="y", length=0, labelsize=8.5 if len(frame.rows) < 30 else 7)
    if frame.columns:
        axes.set_xticks(range(len(frame.columns)), [shortened(one) for one in frame.columns])
        axes.set_xlim(-0.5, len(frame.columns) - 0.5)
    if frame.log:
        axes.xaxis.set_major_locator(LogLocator(base=10, numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(_power))
        axes.xaxis.set_minor_locator(NullLocator())
    if frame.x_range is not None:
        axes.set_xlim(*frame.x_range)
    if frame.y_range is not None:
        axes.set_ylim(*frame.y_range)
    if not frame.rows and heat is None:
        _legend(axes, drawing)
    return figure


def linestyle(dash: str) -> Any:
    """matplotlib's line style for a dash of the palette."""
    return (0, DASHES[dash]) if DASHES[dash] else "-"


def _power(value: float, _place: object) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"1e{math.log10(value):.0f}" if value > 0 else ""


def _legend(axes: Axes, drawing: FigureSpec) -> None:
    """One entry an arm that is drawn, below the frame."""
    arms = dict.fromkeys(arm for mark in drawing.marks if (arm := getattr(mark, "arm", "")) and not drawing.hidden(arm))
    lined = {mark.arm for mark in drawing.marks if isinstance(mark, Line)}
    handles = []
    for arm in arms:
        look = drawing.style(arm)
        dash: Any = linestyle(look.dash) if arm in lined else "none"
        marker = MARKERS[look.marker] if arm not in lined else ""
        handles.append(Line2D([], [], color=look.colour, linestyle=dash, marker=marker, linewidth=1.6, markersize=5, label=shortened(arm)))
    if handles:
        longest = max(len(shortened(arm)) for arm in arms)
        columns = max(1, min(4, len(handles), 90 // (longest + 8)))
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, handlelength=3)


def _points(axes: Axes, marks: Sequence[tuple[Points, Style]]) -> None:
    """All points that share symbol and size at once: one artist an arm would take ten times as long."""
    groups: dict[tuple[str, float, float], list[tuple[Points, Style]]] = {}
    for mark, look in marks:
        symbol = MARKERS[look.marker] if mark.symbol == "mark" else SYMBOLS[mark.symbol]
        groups.setdefault((symbol, mark.size, mark.strength), []).append((mark, look))
    for (symbol, size, strength), own in groups.items():
        x, y = [value for mark, _ in own for value in mark.x], [value for mark, _ in own for value in mark.y]
        colours = [look.colour for mark, look in own for _ in mark.x]
        ring = own[0][0].symbol == "ring"
        thin = own[0][0].symbol in ("cross", "tick", "ring")
        width = 1.4 if thin else 0.0
        face: Any = {"facecolors": "none", "edgecolors": colours} if ring else {"c": colours}
        axes.scatter(x, y, s=(0.62 * size) ** 2, marker=symbol, alpha=strength, linewidths=width, zorder=4 if ring else 3, **face)


def _intervals(axes: Axes, marks: Sequence[tuple[Interval, Style]]) -> None:
    """Means with their intervals, all of a marker at once."""
    spans = [(mark.y, mark.low, mark.high, look.colour) for mark, look in marks if mark.low is not None and mark.high is not None]
    if spans:
        rows, low, high = ([float(span[i]) for span in spans] for i in range(3))
        colours = [colour for *_, colour in spans]
        axes.hlines(rows, low, high, colors=colours, linewidth=1.6, zorder=3)
        axes.scatter([*low, *high], [*rows, *rows], marker="|", c=[*colours, *colours], s=24, linewidths=1.4, zorder=3)
    for marker in dict.fromkeys(look.marker for _, look in marks):
        own = [(mark, look) for mark, look in marks if look.marker == marker]
        sizes, colours = [(0.62 * mark.size) ** 2 for mark, _ in own], [look.colour for _, look in own]
        x, y = [mark.x for mark, _ in own], [mark.y for mark, _ in own]
        axes.scatter(x, y, s=sizes, c=colours, marker=MARKERS[marker], edgecolors="white", linewidths=0.7, zorder=4)


def _line(axes: Axes, mark: Line, look: Style) -> None:
    dash: Any = "-" if mark.width >= BAR else linestyle(look.dash)
    marker, style = MARKERS[look.marker] if mark.marked else "", "steps-post" if mark.steps else "default"
    (line,) = axes.plot(mark.x, mark.y, color=look.colour, linestyle=dash, linewidth=0.75 * mark.width, marker=marker, markersize=3.2)
    line.set(drawstyle=style, alpha=mark.strength, zorder=3)


def _band(axes: Axes, mark: Band, look: Style) -> None:
    step: Any = "post" if mark.steps else None
    axes.fill_between(mark.x, mark.low, mark.high, color=look.colour, alpha=0.14, linewidth=0, step=step, zorder=1)


def _heat(axes: Axes, mark: Heat, _look: Style) -> None:
    colours = LinearSegmentedColormap.from_list("heat", [*(DIVERGING if mark.diverging else SEQUENTIAL)])
    values = [[value if value is not None else math.nan for value in row] for row in mark.values]
    axes.pcolormesh(values, cmap=colours, vmin=mark.bottom, vmax=mark.top, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    columns, rows = [shortened(one) for one in mark.columns], [shortened(one) for one in mark.rows]
    small = 8.5 if max(len(columns), len(rows)) < 20 else 5.5
    axes.set_xticks([i + 0.5 for i in range(len(columns))], columns, rotation=90 if upright(columns) else 0, fontsize=small)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows, fontsize=small)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    span = (mark.top - mark.bottom) or 1.0
    for i, row in enumerate(mark.cells):
        for j, cell in enumerate(row):
            value = mark.values[i][j]
            if cell and known(value):
                assert value is not None
                share = (value - mark.bottom) / span
                dark = abs(share - 0.5) > 0.36 if mark.diverging else share > 0.6
                axes.text(j + 0.5, i + 0.5, cell, ha="center", va="center", fontsize=7, color="white" if dark else INK)


def _stripe(axes: Axes, mark: Stripe, _look: Style) -> None:
    axes.axvspan(mark.low, mark.high, color=GREY, alpha=0.16, linewidth=0, zorder=0)


def _rule(axes: Axes, mark: Rule, _look: Style) -> None:
    if mark.x is not None:
        axes.axvline(mark.x, color=GREY, linewidth=1, zorder=1)
    if mark.y is not None:
        axes.axhline(mark.y, color=GREY, linewidth=1, zorder=1)


def _word(axes: Axes, mark: Word, look: Style) -> None:
    axes.annotate(mark.text, (mark.x, mark.y), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=6.5, color=look.colour)


DRAWERS: dict[type[Mark], Callable[[Axes, Any, Style], None]] = {
    Line: _line, Band: _band, Heat: _heat, Stripe: _stripe, Rule: _rule, Word: _word,
}  # fmt: skip
"""How each kind of mark is drawn that is drawn by itself."""
