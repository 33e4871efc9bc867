"""A picture as PNG, SVG and a self-contained HTML page, and its tables as CSV and on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bakeoff.errors import FolderError
from bakeoff.illustrations.illustration import DataTable, Illustration
from bakeoff.rendering.matplotlib_backend import DPI
from bakeoff.rendering.page import Block, Bullets, Code, Details, Grid, Legend, Section, Table, render_page


def write_files(name: str, illustration: Illustration, folder: Path, *, command: str) -> list[Path]:
    """Write the files of a picture into `folder`, which is created if missing; the page shows the `command`.

    Returns:
        The files.

    Raises:
        FolderError: The folder cannot be written.
    """
    png, svg, html = (folder / f"{name}.{suffix}" for suffix in ("png", "svg", "html"))
    paths = [png, svg, html]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        illustration.figure.savefig(png, dpi=DPI, facecolor="white")
        illustration.figure.savefig(svg, facecolor="white", metadata={"Date": None})
        html.write_text(illustration_page(illustration, command=command), encoding="utf-8")
        for table in illustration.tables:
            if table.file:
                paths.append(folder / table.file)
                with paths[-1].open("w", newline="", encoding="utf-8") as stream:
                    csv.writer(stream, lineterminator="\n").writerows([table.head, *table.rows])
    except OSError as error:
        raise FolderError(f"--out={folder}: cannot be written ({error.strerror or error})") from None
    return paths


def terminal_text(illustration: Illustration) -> str:
    """Return the tables for the terminal, and the choices left out with their reasons."""
    parts = ["\n".join([table.title, *_aligned([table.head, *table.rows])]) for table in illustration.tables if table.terminal]
    if illustration.skipped:
        parts.append("\n".join(f"left out: {name}: {reason}" for name, reason in illustration.skipped.items()))
    return "\n\n".join(parts)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def illustration_page(illustration: Illustration, *, command: str) -> str:
    """Return the HTML of a picture's page, which includes plotly.js."""
    blocks: list[Block] = [Legend(illustration.legend, sets=False)] if illustration.legend else []
    blocks.append(Grid([Section(plot.title, [replace(plot, title="", alt=plot.title)], wide=plot.wide) for plot in illustration.plots]))
    blocks += [_table_section(table) for table in illustration.tables]
    if illustration.skipped:
        blocks.append(Section("Left out", [Bullets(list(illustration.skipped.items()))]))
    blocks.append(Section("Command", [Code(command)]))
    title, notes = illustration.title, illustration.notes
    return render_page(title=title, kicker="bakeoff show", notes=notes, blocks=blocks, interactive=True, light_only=True)


def _table_section(table: DataTable) -> Section:
    rows = Table(table.head, table.rows)
    return Section("", [Details(table.title, [rows])]) if table.folded else Section(table.title, [rows])
