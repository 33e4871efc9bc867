"""The palette of every page and picture: colours, dashes and markers that differ for colour-blind readers and in grey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: The colours of series: Okabe and Ito (2008), with their yellow darkened for white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#333333", "#8C6BB1")
BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
#: Text, secondary text, grid lines, backgrounds, and marks without a series. `templates/page.css` has the same values.
INK, SOFT, LINE, WASH, GREY = "#1c1e21", "#5b6068", "#dfe2e6", "#f5f6f8", "#8a8f98"
#: plotly's name of each dash -> lengths of its strokes and gaps in line widths; empty: a solid line.
DASHES: dict[str, tuple[float, ...]] = {
    "solid": (),
    "dash": (5, 2),
    "dot": (1, 1.5),
    "dashdot": (5, 2, 1, 2),
    "longdash": (9, 3),
    "longdashdot": (9, 3, 1, 3),
}
#: plotly's name of each marker -> matplotlib's.
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X", "star": "*", "hexagon": "h"}
#: Colour scales as (position in 0..1, colour). Blue for less and orange for more; light to dark blue.
DIVERGING = ((0.0, "#2166ac"), (0.25, "#92c5de"), (0.5, "#f7f7f7"), (0.75, "#fdb863"), (1.0, "#b35806"))
SEQUENTIAL = ((0.0, "#f7fbff"), (0.25, "#c6dbef"), (0.5, "#6baed6"), (0.75, "#2171b5"), (1.0, "#08306b"))


@dataclass(frozen=True)
class Style:
    """The style of a series; `dash` is a key of `DASHES`, `marker` of `MARKERS`."""

    colour: str = GREY
    dash: str = "solid"
    marker: str = "circle"


def style(index: int) -> Style:
    """Return the style of the series number `index`, from 0: no two of the first 48 share both colour and dash."""
    turn, column = divmod(index, len(COLOURS))
    dashes, markers = list(DASHES), list(MARKERS)
    return Style(COLOURS[column], dashes[(column + turn) % len(dashes)], markers[(column + 3 * turn) % len(markers)])


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each name, in their order."""
    return {name: style(index) for index, name in enumerate(names)}
