"""What every picture of the gallery consists of, and the parts of their look that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bakeoff.rendering.matplotlib_backend import new_figure
from bakeoff.rendering.page import LegendEntry, Plot
from bakeoff.rendering.palette import INK

PALE_BLUE, EDGE_GREY = "#dcebf7", "#9aa0a8"
"""Fill of what is emphasized, and thin lines of drawings."""


@dataclass(frozen=True)
class DataTable:
    """Rows of text.

    Attributes:
        title: The heading.
        head: The names of the columns.
        rows: As many cells in each row as `head` has names.
        file: The name of its CSV file; '' for none.
        terminal: Whether the shell prints it.
        folded: Whether the page shows it only when the reader opens it.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    file: str = ""
    terminal: bool = True
    folded: bool = False


@dataclass(frozen=True)
class Illustration:
    """A picture: a figure for PNG and SVG; plots, tables and legend of the page; what was left out (name -> reason)."""

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


def hide_axes(axes: Axes) -> Axes:
    """Take away frame and ticks, for drawings; return the axes."""
    axes.set_axis_off()
    return axes
