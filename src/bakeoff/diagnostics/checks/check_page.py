"""The results of a check as a page, pictures and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bakeoff.diagnostics.checks.check_context import CheckResult, to_json
from bakeoff.diagnostics.matplotlib_charts import line_figure, spec_picture
from bakeoff.rendering.marks import AxesSpec, FigureSpec, Line
from bakeoff.rendering.matplotlib_backend import save_figure
from bakeoff.rendering.page import Block, Cell, Code, Grid, Section, Table, render_page
from bakeoff.rendering.palette import styles

FOLDER = "check"
BAR_WIDTH = 14  # pixels
LOG_RATIO = 100  # of the largest value to the smallest, above which an axis is logarithmic
LAYER_COLUMNS = ("layer", "kind", "output", "parameters", "multiply-adds")
X_LABELS = {
    "activations by depth": "layer",
    "gradients by depth": "layer",
    "learning-rate range": "learning rate",
    "class balance": "class",
}
"""Check with curves -> label of its horizontal axis."""


@dataclass(frozen=True)
class CheckReport:
    """A check: title, results, the rows of the net's layers (see `LAYER_COLUMNS`), and its command."""

    title: str
    results: Sequence[CheckResult]
    layers: Sequence[Sequence[str]]
    command: str

    @property
    def summary(self) -> str:
        """A line about all results."""
        wrong, look = (", ".join(result.name for result in self.results if result.state == state) for state in ("wrong", "look"))
        if wrong:
            return f"wrong: {wrong}"
        return f"nothing is wrong; worth a look: {look}" if look else "nothing is wrong"

    @property
    def is_wrong(self) -> bool:
        """Whether any check is wrong."""
        return any(result.state == "wrong" for result in self.results)


def render_check(report: CheckReport) -> str:
    """Return the HTML of a self-contained page."""
    rows: list[list[str | Cell]] = [
        [result.name, Cell(result.state, css_class=result.state), result.observed, result.expected, result.advice]
        for result in report.results
    ]
    results = Table(("check", "state", "found", "expected", "advice"), rows, row_headers=True, wrap=True)
    charts = [Section(result.name, [spec_picture(result_figure(result))]) for result in report.results if result.series]
    blocks: list[Block] = [
        Section(report.summary, [results]),
        Grid(charts),
        Section("Layers", [Table(LAYER_COLUMNS, report.layers)]),
        Section("Command", [Code(report.command)]),
    ]
    return render_page(title=report.title, kicker="bakeoff check", light_only=True, blocks=blocks)


def write_check(folder: Path, report: CheckReport) -> list[Path]:
    """Write index.html, check.json and a PNG and an SVG of every result with curves into `folder`, and return the files."""
    folder.mkdir(exist_ok=True)
    tree = {
        "title": report.title,
        "verdict": report.summary,
        "findings": to_json(report.results),
        "layers": [dict(zip(LAYER_COLUMNS, row, strict=True)) for row in report.layers],
    }
    files = [folder / "index.html", folder / "check.json"]
    files[0].write_text(render_check(report), encoding="utf-8")
    files[1].write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    for result in report.results:
        if result.series:
            files += save_figure(result_figure(result), folder)
    return files


def result_figure(result: CheckResult) -> FigureSpec:
    """Return a figure with the curves of a result, or the bars of the classes."""
    x_label = X_LABELS[result.name]
    values = [value for curve in result.series.values() for value in curve.values()]
    if result.name == "class balance":
        lines = [Line([x, x], [0.0, count], name, width=BAR_WIDTH) for name, counts in result.series.items() for x, count in counts.items()]
        axes = AxesSpec(x_label, y_range=(0.0, 1.05 * max(values)))
        return FigureSpec("class_balance", result.name, lines, axes, styles=styles(result.series))
    if result.name == "learning-rate range":
        # Rates with an exploding loss would flatten the relevant part.
        top = 1.5 * sorted(values)[len(values) * 3 // 4] if values else 1.0
        return line_figure(result.name, result.series, AxesSpec(x_label, log_x=True, y_range=(0.0, top)))
    log_y = min(values, default=0.0) > 0 and max(values) > LOG_RATIO * min(values)
    return line_figure(result.name, result.series, AxesSpec(x_label, log_y=log_y))
