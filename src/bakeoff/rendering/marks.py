"""The parts of a figure: marks between two axes, which both plotting back ends draw, so that all files of a figure agree.

A mark that belongs to a series has its style and is hidden with it; `hover` is the text at the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from bakeoff.rendering.palette import Style

#: A line at least this many pixels wide is a bar, which is solid whatever the dash of its series.
BAR_WIDTH = 4
Symbol = Literal["marker", "ring", "cross", "dot"]


@dataclass(frozen=True)
class Points:
    """Points at `x`, `y` of shape (N,), with N hover texts or none; `size` is in pixels; the symbol `marker` is that of the series."""

    x: Sequence[float]
    y: Sequence[float]
    series: str = ""
    hover: Sequence[str] = ()
    symbol: Symbol = "marker"
    size: float = 7
    opacity: float = 1.0


@dataclass(frozen=True)
class Line:
    """A curve through `x`, `y` of shape (N,); `steps` holds each value until the next one; `width` is in pixels."""

    x: Sequence[float]
    y: Sequence[float]
    series: str = ""
    steps: bool = False
    width: float = 2
    markers: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Band:
    """The area between two curves `low` and `high` of shape (N,)."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    series: str = ""
    steps: bool = False


@dataclass(frozen=True)
class ErrorBar:
    """A value `x` on the row `y` with a horizontal bar from `low` to `high`; both are None without an interval."""

    x: float
    y: float
    low: float | None
    high: float | None
    series: str = ""
    hover: str = ""
    size: float = 11


@dataclass(frozen=True)
class Heatmap:
    """A matrix as colours, the first row on top.

    Attributes:
        columns: The names of the C columns.
        rows: The names of the R rows.
        values: (R, C) numbers; None leaves a cell empty.
        labels: (R, C) texts in the cells.
        hover: (R, C) texts at the pointer.
        diverging: Whether the colours run from blue through white to orange instead of from light to dark blue.
        low: The value with the first colour.
        high: The value with the last colour.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    labels: Sequence[Sequence[str]]
    hover: Sequence[Sequence[str]]
    diverging: bool = False
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Span:
    """A grey stripe from x = `low` to x = `high`, over the full height."""

    low: float
    high: float


@dataclass(frozen=True)
class ReferenceLine:
    """A thin line at an `x` or a `y`, across the frame."""

    x: float | None = None
    y: float | None = None


@dataclass(frozen=True)
class Annotation:
    """A short text in the frame, just above a point."""

    x: float
    y: float
    text: str
    series: str = ""


Mark = Points | Line | Band | ErrorBar | Heatmap | Span | ReferenceLine | Annotation


@dataclass(frozen=True)
class AxesSpec:
    """The axes of a figure.

    Attributes:
        rows: Names of the positions 0, 1, ... of y, from the bottom.
        columns: Names of the positions 0, 1, ... of x.
        height: Pixels on a page.
        x_range: The ends of x in its unit; None fits the marks. `y_range` likewise.
    """

    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    height: int = 340
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class FigureSpec:
    """One figure.

    Attributes:
        name: The stem of its files, unique among the figures of a page.
        title: Its heading.
        marks: The marks, from back to front.
        axes: The axes.
        styles: The style of each series; marks of other series are grey.
        visible: The series that are shown at first; empty for all.
        data: The data of the marks, a flat table.
        section: The key of the page's section that contains it.
        wide: Whether it has the full width of a page.
    """

    name: str
    title: str
    marks: Sequence[Mark]
    axes: AxesSpec
    styles: Mapping[str, Style] = field(default_factory=dict)
    visible: frozenset[str] = frozenset()
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    section: str = ""
    wide: bool = False

    def style_of(self, mark: Mark) -> Style:
        """Return the style of a mark's series."""
        return self.styles.get(getattr(mark, "series", ""), Style())

    def is_hidden(self, mark: Mark) -> bool:
        """Return whether a mark's series is hidden at first."""
        series = getattr(mark, "series", "")
        return bool(series and self.visible and series not in self.visible)


def shorten(name: str, *, length: int = 28) -> str:
    """Return a name with an ellipsis in its middle if it is longer than `length`."""
    return name if len(name) <= length else f"{name[: length - length // 2 - 1]}…{name[-(length // 2) :]}"


#: The maximum number of columns, and of letters, for names side by side.
MAX_LEVEL_COLUMNS, MAX_LEVEL_LETTERS = 6, 48


def needs_upright_names(columns: Sequence[str]) -> bool:
    """Return whether the names of columns are written upright, since they do not fit side by side."""
    letters = len(columns) * max(len(shorten(name)) + 2 for name in columns)
    return len(columns) > MAX_LEVEL_COLUMNS or letters > MAX_LEVEL_LETTERS
