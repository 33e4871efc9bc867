"""What a figure is made of: marks in a frame. One description, so that the page's figure and the one for papers show the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from bakeoff.rendering.palette import Style

#: A line as thick as this is a bar: whole, whatever the dash of its arm.
BAR = 4
Number = float | None
Symbol = Literal["mark", "ring", "cross", "dot", "tick"]


@dataclass(frozen=True)
class Points:
    """Markers of one arm ('' for none); `words` are what a pointer over each tells; `shift` moves points off the middle of their row."""

    x: Sequence[float]
    y: Sequence[float]
    arm: str = ""
    words: Sequence[str] = ()
    symbol: Symbol = "mark"
    size: float = 7
    strength: float = 1.0


@dataclass(frozen=True)
class Line:
    """A curve of one arm; `steps` holds each value until the next one."""

    x: Sequence[float]
    y: Sequence[float]
    arm: str = ""
    steps: bool = False
    width: float = 2
    marked: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class Band:
    """What lies between two curves of one arm."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    arm: str = ""
    steps: bool = False


@dataclass(frozen=True)
class Interval:
    """A mean with its interval on a row; `low` and `high` are None where it has none."""

    x: float
    y: float
    low: Number
    high: Number
    arm: str = ""
    words: str = ""
    size: float = 11


@dataclass(frozen=True)
class Heat:
    """A table of colours: `values` by row and column (None: an empty cell), `cells` the text in each, `words` what a pointer tells."""

    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[Number]]
    cells: Sequence[Sequence[str]]
    words: Sequence[Sequence[str]]
    diverging: bool = False
    top: float = 1.0
    bottom: float = 0.0


@dataclass(frozen=True)
class Stripe:
    """A grey stripe from one x to another, over the whole height."""

    low: float
    high: float


@dataclass(frozen=True)
class Rule:
    """A thin line at one x, or at one y, through the whole frame."""

    x: Number = None
    y: Number = None


@dataclass(frozen=True)
class Word:
    """A short text in the frame."""

    x: float
    y: float
    text: str
    arm: str = ""


Mark = Points | Line | Band | Interval | Heat | Stripe | Rule | Word


@dataclass(frozen=True)
class Frame:
    """The axes. `rows` name the places 0, 1, ... of y from the bottom, `columns` those of x; `height` is in pixels on the page."""

    x: str = ""
    y: str = ""
    log: bool = False
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    height: int = 340
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class FigureSpec:
    """One figure: its name (the stem of its files), its section, its marks, and the numbers that it shows."""

    name: str
    section: str
    title: str
    marks: Sequence[Mark]
    frame: Frame
    data: pd.DataFrame
    looks: dict[str, Style] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()
    wide: bool = False

    def style(self, arm: str) -> Style:
        """The look of an arm's marks; grey for marks of no arm."""
        return self.looks.get(arm, Style())

    def hidden(self, arm: str) -> bool:
        """Whether an arm is left out until it is asked for: with many arms, lines of all of them would hide each other."""
        return bool(arm and self.shown and arm not in self.shown)


def rounded(values: Iterable[float], *, digits: int = 5) -> list[float]:
    """Numbers to so many significant digits: more cannot be seen, and would make the page large."""
    return [float(f"{float(value):.{digits}g}") for value in values]


def known(value: float | None) -> bool:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)
