"""What every picture is made of, and one look for all: colours, type, and the frame of an interactive plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Okabe and Ito's colours (2008), told apart with any common colour blindness; yellow is darkened for white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#333333", "#8C6BB1")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
INK, SOFT, LINE, WASH = "#1c1e21", "#5b6068", "#dfe2e6", "#f2f3f5"
DOTS = 110  # a PNG's dots per inch
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#9aa0a8",
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "bakeoff",
}
"""matplotlib settings, in force while a picture is drawn; the salt makes an SVG's ids the same each time."""

Spec = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """One interactive plot: a plotly specification; `least` pixels of width, below which it scrolls."""

    title: str
    spec: Spec
    wide: bool = False
    least: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of text; `file` is the name of its CSV file ('' for none), `terminal` says whether the shell prints it."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    file: str = ""
    terminal: bool = True
    folded: bool = False


@dataclass(frozen=True)
class Entry:
    """A button of the page's legend, which shows and hides the lines of that name in all plots."""

    name: str
    colour: str
    dash: str
    shown: bool


@dataclass(frozen=True)
class Drawn:
    """A picture: the sheet for PNG and SVG, the plots, tables and legend of the page, and what was left out (name -> why)."""

    title: str
    notes: Sequence[str]
    sheet: Figure
    plots: Sequence[Plot]
    tables: Sequence[Table] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    legend: Sequence[Entry] = ()


def sheet(width: float, height: float) -> Figure:
    """An empty figure of that many inches, laid out by itself."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def head(figure: Figure, title: str, note: str = "") -> None:
    """A title at the top left, and a line of explanation below it."""
    lines = f"{title}\n{note}" if note else title
    figure.suptitle(lines, x=0.01, ha="left", fontsize=10.5, color=INK)


def quiet(axes: Axes) -> Axes:
    """Axes without frame and ticks, for drawings."""
    axes.set_axis_off()
    return axes


def look(place: int) -> tuple[str, str, str]:
    """Colour, dash and marker of the line number `place`, from 0: no two of the first 48 share all three."""
    turn, column = divmod(place, len(COLOURS))
    return COLOURS[column], DASHES[(column + turn) % len(DASHES)], MARKERS[(column + 3 * turn) % len(MARKERS)]


def numbers(values: Iterable[Any], *, digits: int = 5) -> list[float | None]:
    """Plain numbers for a page, to so many digits; None for what is not finite."""
    return [float(f"{float(v):.{digits}g}") if math.isfinite(float(v)) else None for v in values]


def layout(*, height: int, x: str = "", y: str = "", legend: bool = False) -> Spec:
    """The frame of a plot: white, light grid, no drag (a page scrolls on a phone), the legend above."""
    axis = {"gridcolor": LINE, "zerolinecolor": "#b9bec6", "linecolor": "#9aa0a8", "ticks": "outside", "tickcolor": LINE}
    return {
        "height": height,
        "margin": {"l": 56, "r": 14, "t": 12, "b": 44},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "showlegend": legend,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}, "automargin": True},
    }


def player(frames: int, *, labels: Sequence[str], pause: int) -> Spec:
    """The play and pause buttons and the slider of a plot with so many frames, named '0', '1', ...; `pause` milliseconds a frame."""
    run = {"frame": {"duration": pause, "redraw": True}, "transition": {"duration": 0}}
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    buttons = [
        {"label": "play", "method": "animate", "args": [None, {**run, "fromcurrent": True}]},
        {"label": "pause", "method": "animate", "args": [[None], still]},
    ]
    steps = [{"label": labels[i], "method": "animate", "args": [[str(i)], still]} for i in range(frames)]
    return {
        "updatemenus": [
            {
                "type": "buttons", "direction": "left", "showactive": False, "x": 0, "xanchor": "left", "y": 0, "yanchor": "top",
                "pad": {"t": 40, "r": 8}, "buttons": buttons, "bgcolor": "#fff", "bordercolor": "#9aa0a8",
            }
        ],
        "sliders": [
            {
                "active": 0, "x": 0, "len": 1, "y": 0, "yanchor": "top", "pad": {"t": 76, "b": 4}, "steps": steps,
                "currentvalue": {"visible": True, "prefix": "", "xanchor": "right", "font": {"size": 12, "color": INK}},
                "tickcolor": "#fff", "font": {"color": "rgba(0,0,0,0)", "size": 1}, "minorticklen": 0, "ticklen": 0,
            }
        ],
    }  # fmt: skip
