"""From the store to the report's files, and the table that the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bakeoff.errors import FolderError
from bakeoff.report import analysis, gather, page, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.tidy import Sweep, load
from bakeoff.report.verdict import Verdict


@dataclass(frozen=True)
class Report:
    """A report that is written: where it lies, what it says, and the table of its arms."""

    out: Path
    page: Path
    files: tuple[Path, ...]
    sweep: Sweep
    verdict: Verdict
    arms: pd.DataFrame
    analysis: Analysis

    def plain(self) -> dict[str, Any]:
        """One JSON object: summary.json's content, and the paths."""
        return {**tables.summary(self.analysis, self.arms), "page": str(self.page), "files": [str(path) for path in self.files]}


def build(
    name: str | Sequence[str] = (), *, uri: str, out: Path | None = None, sweep_hash: str | None = None, query: str | None = None
) -> Report:
    """Reads a sweep by its name (or `name-hash8`), several of them, or the runs of a `query`, and writes the report into `out`.

    `out` defaults to reports/<name>-<hash8>/ below the working folder. `sweep_hash` chooses a plan where several have the name; the
    newest one is taken else. NotFoundError, StoreError, FolderError.
    """
    from bakeoff.tracking import store

    named = uri != store.default_uri(Path.cwd())
    names = [name] if isinstance(name, str) else list(name)
    if query is not None:
        sweep = gather.query(query, uri=uri, named_store=named)
    else:
        loaded = [load(one, uri=uri, sweep_hash=sweep_hash) for one in names]
        sweep = gather.several(loaded, uri=uri, named_store=named) if len(loaded) > 1 else replace(loaded[0], named_store=named)
    return write(sweep, out if out is not None else Path("reports") / sweep.title)


def write(sweep: Sweep, out: Path) -> Report:
    """The report's files of a sweep that is read already."""
    found = analysis.analyse(sweep)
    table = tables.arms(found)
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = [page.write(found.sweep, found.verdict, table, out), *tables.write(found, table, out)]
    except OSError as error:
        raise FolderError(f"--out={out}: the report cannot be written: {error.strerror}") from error
    return Report(out, files[0], tuple(files), found.sweep, found.verdict, table, found)


def show(report: Report) -> str:
    """The verdict and the arms as text for the terminal: a rich table where standard output is one, plain columns else."""
    import sys

    head, rows = tables.shown(report.sweep, report.arms)
    lines = [report.sweep.design.question, "", report.verdict.headline, *report.verdict.details, ""]
    table = _rich(head, rows) if sys.stdout.isatty() else _columns(head, rows)
    notes = ["", *(f"note: {line}" for line in report.verdict.caveats)] if report.verdict.caveats else []
    return "\n".join([*lines, table, *notes, "", f"page: {report.page.resolve()}"])


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in (head, *rows))


def _rich(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    with console.capture() as capture:
        console.print(table)
    return capture.get().strip("\n")


__all__ = ["Report", "build", "show", "write"]
