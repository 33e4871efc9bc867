"""Static matplotlib charts for checks and for `diagnostics=full`."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from matplotlib import rc_context
from matplotlib.figure import Figure

from bakeoff.diagnostics.charts import Curve
from bakeoff.rendering import matplotlib_backend
from bakeoff.rendering.marks import AxesSpec, FigureSpec, Line
from bakeoff.rendering.page import Picture
from bakeoff.rendering.palette import styles

HEIGHT, PIXELS_PER_INCH = 300, 96
MARKED_POINTS = 40
"""Curves with fewer points have markers."""


def line_figure(name: str, curves: Mapping[str, Curve], axes: AxesSpec) -> FigureSpec:
    """Return a line chart of the curves without non-finite points; `name` is its title, and a linear vertical axis starts at 0."""
    lines = []
    for series, curve in curves.items():
        points = sorted((float(x), y) for x, y in curve.items() if math.isfinite(y))
        lines.append(Line([x for x, _ in points], [y for _, y in points], series, markers=len(points) < MARKED_POINTS))
    heights = [y for line in lines for y in line.y]
    if heights and axes.y_range is None and not axes.log_y:
        axes = replace(axes, y_range=(min(0.0, *heights), 1.05 * max(heights) or 1.0))
    return FigureSpec(name.replace(" ", "_").replace("-", "_"), name, lines, axes, styles=styles(curves))


def spec_picture(figure: FigureSpec) -> Picture:
    """Return a figure as a picture for the page."""
    return Picture.svg(matplotlib_backend.svg(figure), alt=figure.title)


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of this size in inches to a block with the project's matplotlib settings."""
    with rc_context(matplotlib_backend.RC_PARAMS):
        yield matplotlib_backend.new_figure(width, height)


def figure_picture(figure: Figure, *, alt: str) -> Picture:
    """Return a figure as a picture with 96 pixels per inch; call it in the block of `new_figure`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return Picture.svg(buffer.getvalue(), alt=alt, width=round(figure.get_figwidth() * PIXELS_PER_INCH))
