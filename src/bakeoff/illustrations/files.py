"""A picture as files: PNG, SVG, one HTML page that needs no network and no other file, and its tables as CSV and on the terminal."""

from __future__ import annotations

import csv
import html
import json
from importlib.resources import files
from pathlib import Path

from bakeoff.errors import FolderError
from bakeoff.illustrations.paper import DOTS, Drawn, Entry, Plot, Table

#: Nothing may be loaded from anywhere: what a browser enforces even if a library should try.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def write(name: str, drawn: Drawn, out: Path, *, line: str) -> list[Path]:
    """Writes the picture's files into `out`, made where it is missing; `FolderError` where that cannot be."""
    paths = [out / f"{name}.{ending}" for ending in ("png", "svg", "html")]
    try:
        out.mkdir(parents=True, exist_ok=True)
        drawn.sheet.savefig(paths[0], dpi=DOTS, facecolor="white")
        drawn.sheet.savefig(paths[1], facecolor="white", metadata={"Date": None})
        paths[2].write_text(page(drawn, line=line), encoding="utf-8")
        for table in drawn.tables:
            if table.file:
                paths.append(out / table.file)
                with paths[-1].open("w", newline="", encoding="utf-8") as stream:
                    csv.writer(stream, lineterminator="\n").writerows([table.head, *table.rows])
    except OSError as error:
        raise FolderError(f"--out={out}: cannot be written ({error.strerror or error})") from None
    return paths


def terminal(drawn: Drawn) -> str:
    """The tables that belong on a terminal, and what was left out with the reason."""
    parts = []
    for table in drawn.tables:
        if table.terminal:
            widths = [max(len(row[i]) for row in (table.head, *table.rows)) for i in range(len(table.head))]
            lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (table.head, *table.rows)]
            parts.append("\n".join([table.title, *lines]))
    parts += ["\n".join(f"left out: {name}: {why}" for name, why in drawn.skipped.items())] if drawn.skipped else []
    return "\n\n".join(parts)


def page(drawn: Drawn, *, line: str) -> str:
    """The whole page as text, with plotly.js in it once."""
    from plotly.offline import get_plotlyjs

    specs = {f"plot-{i}": plot.spec for i, plot in enumerate(drawn.plots)}
    parts = files("bakeoff.illustrations")
    style, script = (parts.joinpath(file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))
    notes = "".join(f'<p class="note">{_t(note)}</p>' for note in drawn.notes)
    plots = "".join(_plot(f"plot-{i}", plot) for i, plot in enumerate(drawn.plots))
    tables = "".join(_table(table) for table in drawn.tables)
    left = "".join(f"<li><b>{_t(name)}</b>: {_t(why)}</li>" for name, why in drawn.skipped.items())
    data = json.dumps(specs, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_t(drawn.title)}</title><style>{style}</style>'
        f'</head>\n<body><main><p class="kicker">bakeoff show</p><h1>{_t(drawn.title)}</h1>{notes}{_legend(drawn)}'
        f'<div class="grid">{plots}</div>{tables}'
        f"{f'<section><h2>Left out</h2><ul>{left}</ul></section>' if left else ''}<section><h2>How it was made</h2><pre>{_t(line)}</pre>"
        f'</section></main>\n<script type="application/json" id="figures">{data}</script>\n<script>{get_plotlyjs()}</script>\n'
        f"<script>{script}</script>\n</body></html>\n"
    )


def _t(text: object) -> str:
    return html.escape(str(text))


def _legend(drawn: Drawn) -> str:
    start = '<button type="button" aria-pressed='
    buttons = (f'{start}"{str(e.shown).lower()}" data-name="{_t(e.name)}">{_swatch(e)}{_t(e.name)}</button>' for e in drawn.legend)
    return f'<div class="legend" role="group" aria-label="Press to show or hide">{"".join(buttons)}</div>' if drawn.legend else ""


def _swatch(entry: Entry) -> str:
    dashes = {"solid": "", "dash": "7 3", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 3", "longdashdot": "11 3 2 3"}
    line = f'stroke="{entry.colour}" stroke-width="2.5" stroke-dasharray="{dashes[entry.dash]}"'
    return f'<svg width="30" height="10" aria-hidden="true"><line x1="0" y1="5" x2="30" y2="5" {line}/></svg>'


def _plot(name: str, plot: Plot) -> str:
    title = f"<h3>{_t(plot.title)}</h3>" if plot.title else ""
    size = f"min-height:{plot.spec['layout']['height']}px;min-width:{plot.least}px"
    place = f'<div class="plot" id="{name}" role="img" aria-label="{_t(plot.title or "plot")}" style="{size}">'
    return f'<figure{" class=wide" if plot.wide else ""}>{title}<div class="scroll">{place}</div></div></figure>'


def _table(table: Table) -> str:
    top = "".join(f'<th scope="col">{_t(name)}</th>' for name in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{_t(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    body = f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'
    if table.folded:
        return f"<section><details><summary>{_t(table.title)}</summary>{body}</details></section>"
    return f"<section><h2>{_t(table.title)}</h2>{body}</section>"
