"""Static charts of the diagnostics' pages: lines, and whatever matplotlib draws, as pictures inside the page."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from bakeoff.rendering.matplotlib_backend import RC_PARAMS, line_style
from bakeoff.rendering.page import Picture
from bakeoff.rendering.palette import GREY, style

PIXELS_PER_INCH = 96

Curve = Mapping[int, float] | Mapping[float, float]
"""x -> y."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The axes of a line chart: labels, scales, and the upper end of y (None: 1.5 times the 98th percentile, at most the largest value)."""

    x: str = "step"
    log_x: bool = False
    log_y: bool = False
    top: float | None = None


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of that many inches to a block in which the project's matplotlib settings hold."""
    with matplotlib.rc_context(RC_PARAMS):
        yield Figure(figsize=(width, height), layout="constrained")


def format_number(value: float) -> str:
    """Format with three digits: `0.21`, `3.1e-07`, `1,240`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def svg_picture(figure: Figure, *, alt: str) -> Picture:
    """Return a figure as a picture of its size at 96 pixels an inch; to be called in the block of `new_figure`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return Picture.svg(buffer.getvalue(), alt=alt, width=round(figure.get_figwidth() * PIXELS_PER_INCH))


def line_figure(figure: Figure, curves: Mapping[str, Curve], axes: Axes, *, reference: tuple[str, float] | None = None) -> None:
    """Draw curves with a legend; points that are not finite are left out.

    Args:
        figure: An empty figure.
        curves: Name -> curve.
        axes: The axes.
        reference: Name and height of a dashed line that the curves are compared with.
    """
    plot = figure.add_subplot()
    points = {name: sorted((x, y) for x, y in curve.items() if math.isfinite(y)) for name, curve in curves.items()}
    for index, (name, curve) in enumerate(points.items()):
        xs, ys = [x for x, _ in curve], [y for _, y in curve]
        series = style(index)
        plot.plot(xs, ys, color=series.colour, linestyle=line_style(series.dash), marker="." if len(xs) < 40 else "", label=name)
    if reference is not None:
        plot.axhline(reference[1], color=GREY, linestyle=(0, (5, 4)), label=f"{reference[0]} {format_number(reference[1])}")
    heights = [y for curve in points.values() for _, y in curve] + ([reference[1]] if reference else [])
    if axes.log_x:
        plot.set_xscale("log")
    if axes.log_y:
        plot.set_yscale("log")
    elif heights:
        plot.set_ylim(min(0.0, *heights), axes.top or _upper_end(heights, reference[1] if reference else 0.0) or None)
    plot.set_xlabel(axes.x)
    plot.grid(True)
    plot.legend(loc="upper right")


def line_chart(curves: Mapping[str, Curve], axes: Axes | None = None, *, reference: tuple[str, float] | None = None) -> Picture:
    """Return a line chart for the page; see `line_figure`."""
    with new_figure(7.2, 2.6) as figure:
        line_figure(figure, curves, axes or Axes(), reference=reference)
        return svg_picture(figure, alt=", ".join(curves))


def _upper_end(heights: Sequence[float], reference: float) -> float:
    """The upper end of an axis that a few very large values do not stretch."""
    ordered = sorted(heights)
    return min(1.05 * ordered[-1], 1.5 * max(ordered[int(0.98 * (len(ordered) - 1))], reference))
