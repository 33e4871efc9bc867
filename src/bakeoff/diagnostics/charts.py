"""Static charts of the diagnostics' pages."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from matplotlib import rc_context
from matplotlib.figure import Figure

from bakeoff.rendering import matplotlib_backend
from bakeoff.rendering.marks import AxesSpec, FigureSpec, Line
from bakeoff.rendering.page import Picture
from bakeoff.rendering.palette import GREY, Style, styles

HEIGHT, PIXELS_PER_INCH = 300, 96
MARKED_POINTS = 40
"""A curve of fewer points shows each of them."""

Curve = Mapping[int, float] | Mapping[float, float]
"""x -> y."""


def format_number(value: float) -> str:
    """Format with three digits: `0.21`, `3.1e-07`, `1,240`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def line_figure(name: str, curves: Mapping[str, Curve], axes: AxesSpec, *, reference: tuple[str, float] | None = None) -> FigureSpec:
    """Describe a line chart; points that are not finite are left out.

    Args:
        name: The stem of its files and its title.
        curves: Series -> curve.
        axes: The axes; a linear vertical axis without a range gets one that a few very large values do not stretch.
        reference: Name and height of a dashed line that the curves are compared with.
    """
    lines = []
    for series, curve in curves.items():
        points = sorted((float(x), y) for x, y in curve.items() if math.isfinite(y))
        lines.append(Line([x for x, _ in points], [y for _, y in points], series, markers=len(points) < MARKED_POINTS))
    series_styles, level = styles(curves), 0.0
    xs = [x for line in lines for x in line.x]
    if reference is not None and xs:
        series, level = f"{reference[0]} {format_number(reference[1])}", reference[1]
        lines.append(Line([min(xs), max(xs)], [level, level], series, width=1.5))
        series_styles[series] = Style(GREY, "dash")
    heights = [y for line in lines for y in line.y]
    if heights and axes.y_range is None and not axes.log_y:
        axes = replace(axes, y_range=(min(0.0, *heights), _upper_end(heights, level)))
    return FigureSpec(name.replace(" ", "_").replace("-", "_"), name, lines, axes, styles=series_styles)


def line_chart(curves: Mapping[str, Curve], *, x_label: str = "step", reference: tuple[str, float] | None = None) -> Picture:
    """Return a line chart for the page; see `line_figure`."""
    name = ", ".join(curves)
    return spec_picture(line_figure(name, curves, AxesSpec(x_label, height=HEIGHT), reference=reference))


def spec_picture(figure: FigureSpec) -> Picture:
    """Return a described figure as a picture for the page."""
    return Picture.svg(matplotlib_backend.svg(figure), alt=figure.title)


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of that many inches to a block in which the project's matplotlib settings hold."""
    with rc_context(matplotlib_backend.RC_PARAMS):
        yield matplotlib_backend.new_figure(width, height)


def figure_picture(figure: Figure, *, alt: str) -> Picture:
    """Return a drawn figure as a picture of its size at 96 pixels an inch; to be called in the block of `new_figure`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return Picture.svg(buffer.getvalue(), alt=alt, width=round(figure.get_figwidth() * PIXELS_PER_INCH))


def _upper_end(heights: Sequence[float], reference: float) -> float:
    """The upper end of an axis that a few very large values do not stretch."""
    ordered = sorted(heights)
    return min(1.05 * ordered[-1], 1.5 * max(ordered[int(0.98 * (len(ordered) - 1))], reference)) or 1.0
