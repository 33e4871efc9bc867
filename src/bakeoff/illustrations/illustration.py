"""The parts of every picture of the gallery, and the style that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from bakeoff.rendering.matplotlib_backend import new_figure
from bakeoff.rendering.page import LegendEntry, Plot
from bakeoff.rendering.palette import INK, Style
from bakeoff.rendering.plotly_backend import Spec, rounded

PALE_BLUE, EDGE_GREY = "#dcebf7", "#9aa0a8"
"""The fill of emphasized parts, and the colour of thin lines."""


@dataclass(frozen=True)
class DataTable:
    """Rows of text with the column names `head`, saved as the CSV file `file` unless that is empty.

    `terminal`: whether the shell prints it. `folded`: whether the page hides it until the reader opens it.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    file: str = ""
    terminal: bool = True
    folded: bool = False


@dataclass(frozen=True)
class Illustration:
    """A picture: a figure for PNG and SVG; plots, tables and legend of the page; the choices left out (name -> reason)."""

    title: str
    notes: Sequence[str]
    figure: Figure
    plots: Sequence[Plot]
    tables: Sequence[DataTable] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    legend: Sequence[LegendEntry] = ()


def titled_figure(width: float, height: float, *, title: str, note: str) -> Figure:
    """Return an empty figure of that many inches with a title at the top left and a line of explanation below it."""
    figure = new_figure(width, height)
    figure.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=10.5, color=INK)
    return figure


def line_trace(name: str, x: Sequence[Any], y: Iterable[Any], style: Style, *, hover: str = "%{y:.4g}", shape: str = "linear") -> Spec:
    """Return a line of an interactive plot; `hover` is plotly's template of the text at the pointer, `shape` the interpolation."""
    line = {"color": style.colour, "dash": style.dash, "width": 2.2, "shape": shape}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": rounded(y), "line": line, "hovertemplate": hover}


def marked_line_trace(name: str, values: Iterable[Any], style: Style, *, hover: str) -> Spec:
    """Return a line with a marker for each value, at 1, 2, ...; `hover` as for `line_trace`."""
    y = rounded(values)
    look = {"line": {"color": style.colour, "dash": style.dash}, "marker": {"symbol": style.marker, "size": 7}}
    points = {"x": list(range(1, len(y) + 1)), "y": y}
    return {"type": "scatter", "mode": "lines+markers", "name": name, **points, **look, "hovertemplate": hover}
