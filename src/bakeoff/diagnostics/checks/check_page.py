"""The results of a check as a page, as pictures, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from bakeoff.diagnostics.charts import Axes, line_figure, new_figure, svg_picture
from bakeoff.diagnostics.checks.check_context import CheckResult, to_json
from bakeoff.rendering.matplotlib_backend import DPI
from bakeoff.rendering.page import Block, Cell, Code, Grid, Picture, Section, Table, render_page
from bakeoff.rendering.palette import BLUE

FOLDER = "check"
LAYER_COLUMNS = ("layer", "kind", "output", "parameters", "multiply-adds")
X_LABELS = {
    "activations by depth": "layer",
    "gradients by depth": "layer",
    "learning-rate range": "learning rate",
    "class balance": "class",
}
"""Check with curves -> what its horizontal axis is."""


@dataclass(frozen=True)
class CheckReport:
    """A whole check: title, results, the rows of the net's layers (see `LAYER_COLUMNS`), and the command that made it."""

    title: str
    results: Sequence[CheckResult]
    layers: Sequence[Sequence[str]]
    command: str

    @property
    def summary(self) -> str:
        """One line about all results."""
        return summarize(self.results)


def summarize(results: Sequence[CheckResult]) -> str:
    """Return one line about all results."""
    wrong, look = (", ".join(result.name for result in results if result.state == state) for state in ("wrong", "look"))
    if wrong:
        return f"wrong: {wrong}"
    return f"nothing is wrong; worth a look: {look}" if look else "nothing is wrong"


def render_check(report: CheckReport) -> str:
    """Return the page's HTML, which needs no other file."""
    rows: list[list[str | Cell]] = [
        [result.name, Cell(result.state, css_class=result.state), result.observed, result.expected, result.advice]
        for result in report.results
    ]
    results = Table(("check", "state", "found", "expected", "what to do"), rows, row_headers=True, wrap=True)
    charts = [Section(result.name, [_picture(result)]) for result in report.results if result.series]
    blocks: list[Block] = [
        Section(report.summary, [results]),
        Grid(charts),
        Section("Layers", [Table(LAYER_COLUMNS, report.layers)]),
        Section("How it was made", [Code(report.command)]),
    ]
    return render_page(title=report.title, kicker="bakeoff check", light_only=True, blocks=blocks)


def write_check(folder: Path, report: CheckReport) -> list[Path]:
    """Write index.html, check.json and a PNG of every result with curves.

    Args:
        folder: Where to; it is made.
        report: The check.

    Returns:
        The files.
    """
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
            files.append(folder / f"{result.name.replace(' ', '_').replace('-', '_')}.png")
            with new_figure(6.4, 3.6) as figure:
                _draw(figure, result)
                figure.suptitle(f"{result.name}: {result.state}")
                figure.savefig(files[-1], dpi=DPI, facecolor="white")
    return files


def _picture(result: CheckResult) -> Picture:
    """The curves of a result for the page."""
    with new_figure(6.4, 3.0) as figure:
        _draw(figure, result)
        return svg_picture(figure, alt=result.name)


def _draw(figure: Figure, result: CheckResult) -> None:
    """The curves of a result, or its bars, on an empty figure."""
    if result.name == "class balance":
        axes = figure.add_subplot()
        for name, counts in result.series.items():
            axes.bar(list(counts), list(counts.values()), color=BLUE, label=name)
        axes.set(xlabel=X_LABELS[result.name], ylabel=", ".join(result.series))
        return
    log_x = result.name == "learning-rate range"
    values = [value for curve in result.series.values() for value in curve.values()]
    # Rates at which the loss explodes would flatten the part that matters.
    top = 1.5 * sorted(values)[len(values) * 3 // 4] if log_x and values else None
    log_y = not log_x and all(value > 0 for value in values)
    line_figure(figure, result.series, Axes(x=X_LABELS[result.name], log_x=log_x, log_y=log_y, top=top))
