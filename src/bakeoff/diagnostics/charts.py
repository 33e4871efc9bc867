"""Numbers and line charts of the diagnostics pages, without matplotlib: every run has charts, each drawn in a millisecond."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, Template

from bakeoff.rendering.page import Picture, dash_array
from bakeoff.rendering.palette import GREY, INK, LINE, SOFT, Style, styles

Curve = Mapping[int, float] | Mapping[float, float]
"""x -> y."""


@dataclass(frozen=True)
class Box:
    """The size of a chart and the position of its frame, in pixels."""

    width: int = 720
    height: int = 250
    left: int = 58
    right: int = 700
    top: int = 28
    bottom: int = 214


def format_number(value: float) -> str:
    """Format with three digits: `0.21`, `3.1e-07`, `1,240`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def line_chart(curves: Mapping[str, Curve], *, x_label: str = "step", reference: tuple[str, float] | None = None) -> Picture:
    """Return a line chart without non-finite points; `reference` is the name and height of a dashed line."""
    points = {name: sorted((x, y) for x, y in curve.items() if math.isfinite(y)) for name, curve in curves.items()}
    series_styles = styles(curves)
    xs = [x for curve in points.values() for x, _ in curve] or [0.0]
    if reference is not None:
        name = f"{reference[0]} {format_number(reference[1])}"
        points[name], series_styles[name] = [(min(xs), reference[1]), (max(xs), reference[1])], Style(GREY, "dash")
    ys = [y for curve in points.values() for _, y in curve] or [0.0]
    box, x_range, y_range = Box(), (min(xs), max(xs)), (min(0.0, *ys), upper_end(ys, reference[1] if reference else 0.0))

    def x_at(x: float) -> float:
        return round(box.left + _share(x, x_range) * (box.right - box.left), 1)

    def y_at(y: float) -> float:
        return round(box.bottom - min(1.0, _share(y, y_range)) * (box.bottom - box.top), 1)

    svg = _template().render(
        box=box,
        x_label=x_label,
        x_ticks=[(x_at(x), format_number(x)) for x in _ticks(x_range)],
        y_ticks=[(y_at(y), format_number(y)) for y in _ticks(y_range)],
        series=[(name, " ".join(f"{x_at(x)},{y_at(y)}" for x, y in curve), series_styles[name]) for name, curve in points.items()],
    )
    return Picture.svg(svg, alt=", ".join(curves))


def upper_end(heights: Sequence[float], reference: float = 0.0) -> float:
    """Return the upper end of an axis for the heights, which ignores a few very large ones but includes `reference`."""
    ordered = sorted(heights)
    return min(1.05 * ordered[-1], 1.5 * max(ordered[int(0.98 * (len(ordered) - 1))], reference)) or 1.0


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return (value - low) / (high - low) if high > low else 0.0


def _ticks(ends: tuple[float, float]) -> list[float]:
    """Return at most seven round numbers within the ends."""
    low, high = ends
    if high <= low:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if (high - low) / (factor * magnitude) <= 6)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


@cache
def _template() -> Template:
    environment = Environment(loader=PackageLoader("bakeoff.diagnostics"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"dash_array": dash_array, "soft": SOFT, "ink": INK, "line": LINE}
    return environment.get_template("line_chart.svg.j2")
