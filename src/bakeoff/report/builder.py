"""From the store to the report's files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bakeoff.errors import FolderError, NotFoundError, StoreError, near_miss, printable
from bakeoff.rendering.marks import FigureSpec
from bakeoff.report import analysis, figures, latex, pooled, tables, terminal
from bakeoff.report.analysis import Analysis
from bakeoff.report.report_page import Parts, figure_csv, write_page
from bakeoff.report.results import SweepResults, load_sweep
from bakeoff.report.verdict import Verdict, compute_verdict
from bakeoff.run_files.json_text import parse_json

FIGURES, TABLES = "figures", "tables"


@dataclass(frozen=True)
class Report:
    """A report that is written: where it lies, what it says, and the table of its arms."""

    out: Path
    page: Path
    files: tuple[Path, ...]
    sweep: SweepResults
    verdict: Verdict
    arms: pd.DataFrame
    analysis: Analysis

    def plain(self) -> dict[str, Any]:
        """One JSON object: summary.json's content, and the paths."""
        return {**tables.report_summary(self.analysis, self.arms), "page": str(self.page), "files": [str(path) for path in self.files]}


def build_report(
    name: str | Sequence[str] = (),
    *,
    uri: str,
    out: Path | None = None,
    sweep_hash: str | None = None,
    query: str | None = None,
    replace: bool = False,
) -> Report:
    """Reads a sweep by its name (or `name-hash8`), several of them, or the runs of a `query`, and writes the report into `out`.

    `out` defaults to reports/<name>-<hash8>/ below the working folder. `sweep_hash` chooses a plan where several have the name; the
    newest one is taken else. A report of more runs is overwritten with `replace` alone. NotFoundError, StoreError, FolderError.
    """
    sweep, parts = read_results(name, uri=uri, sweep_hash=sweep_hash, query=query)
    out = out if out is not None else Path("reports") / sweep.title
    if not replace:
        refuse_poorer(sweep, out)
    return write_report(sweep, out, parts=parts)


def refuse_poorer(sweep: SweepResults, out: Path) -> None:
    """Raise StoreError where the report that is in a folder knows more runs of the same plan than the store does now."""
    try:
        summary = parse_json((out / "summary.json").read_bytes())
    except (OSError, ValueError):
        return
    runs, design = summary.get("runs") if isinstance(summary, dict) else None, sweep.design
    if isinstance(runs, int) and summary.get("hash") == design.hash and runs > len(sweep.runs):
        lost = f"{out}: is a report on {runs} runs, of which the store has {len(sweep.runs)}"
        raise StoreError(f"{lost}: bakeoff sync brings back those whose folders are here; bakeoff report --replace overwrites it")


def export_figure(
    name: str | Sequence[str] = (),
    *,
    figure: str,
    uri: str,
    out: Path | None = None,
    sweep_hash: str | None = None,
    query: str | None = None,
) -> tuple[Path, ...]:
    """One figure of the report that `build` would write: its PNG, SVG and CSV. NotFoundError names the figures that there are."""
    sweep, _ = read_results(name, uri=uri, sweep_hash=sweep_hash, query=query)
    analysed = analysis.analyse(sweep)
    drawn = {spec.name: spec for spec in figures.all_figures(analysed)}
    if figure not in drawn:
        raise NotFoundError(f"--figure={figure}: not in this report{near_miss(figure, list(drawn))}; figures: {', '.join(drawn)}")
    folder = out if out is not None else Path("reports") / sweep.title / FIGURES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(write_figures([drawn[figure]], folder))
    except OSError as error:
        raise FolderError(f"--out={folder}: the figure cannot be written: {error.strerror}") from error


def read_results(name: str | Sequence[str], *, uri: str, sweep_hash: str | None, query: str | None) -> tuple[SweepResults, Parts]:
    """What a report is on; and, where that is several sweeps, each of them with its own verdict."""
    from bakeoff.tracking import store

    named = uri != store.default_uri(Path.cwd())
    names = [name] if isinstance(name, str) else list(name)
    if query is not None:
        return pooled.pool_query(query, uri=uri, nondefault_store=named), ()
    loaded = [dataclasses.replace(load_sweep(one, uri=uri, sweep_hash=sweep_hash), nondefault_store=named) for one in names]
    if len(loaded) == 1:
        return loaded[0], ()
    return pooled.pool_sweeps(loaded, uri=uri, nondefault_store=named), [(one, compute_verdict(one)) for one in loaded]


def write_report(sweep: SweepResults, out: Path, *, parts: Parts = ()) -> Report:
    """The report's files of a sweep that is read already: page, tables, and every figure for papers."""
    analysed = analysis.analyse(sweep)
    table, drawn = tables.arms_table(analysed), figures.section_figures(analysed)
    try:
        for folder in (out, out / FIGURES, out / TABLES):
            folder.mkdir(parents=True, exist_ok=True)
        files = [write_page(analysed, table, drawn, out, parts=parts), *tables.write_tables(analysed, table, out)]
        files += [*latex.write_latex_tables(analysed, out / TABLES), *write_figures(figures.all_figures(analysed), out / FIGURES)]
    except OSError as error:
        raise FolderError(f"--out={out}: the report cannot be written: {error.strerror}") from error
    return Report(out, files[0], tuple(files), analysed.sweep, analysed.verdict, table, analysed)


def write_figures(drawn: Sequence[FigureSpec], out: Path) -> list[Path]:
    """Each figure as PNG and SVG, and its numbers as CSV, in a folder that is there."""
    from bakeoff.rendering import matplotlib_backend

    files: list[Path] = []
    for spec in drawn:
        numbers = out / f"{spec.name}.csv"
        numbers.write_text(figure_csv(spec), encoding="utf-8")
        files += [*matplotlib_backend.save_figure(spec, out), numbers]
    return files


def render_terminal(report: Report) -> str:
    """The verdict and the arms as text for the terminal."""
    return printable(terminal.terminal_text(report.analysis, report.page))


__all__ = ["Report", "build_report", "export_figure", "render_terminal", "write_report"]
