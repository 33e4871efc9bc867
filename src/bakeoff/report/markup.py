"""The parts of the page as HTML: every text is escaped here, and nowhere else is a tag written around a name."""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bakeoff.rendering.marks import FigureSpec
from bakeoff.rendering.palette import Style

#: Bytes of CSV beyond which the page carries it compressed.
LARGE = 40_000
DASHES = {"solid": "", "dash": "7 3", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 3", "longdashdot": "11 3 2 3"}


def t(text: object) -> str:
    """Any text, safe in an element and in a quoted attribute."""
    return html.escape(str(text))


def section(key: str, title: str, notes: Sequence[str], *parts: str) -> str:
    """A titled section; nothing at all where it has no parts."""
    if not any(parts):
        return ""
    told = "".join(f'<p class="note">{t(note)}</p>' for note in notes)
    return f'<section id="{t(key)}"><h2>{t(title)}</h2>{told}{"".join(parts)}</section>'


def grid(parts: Iterable[str]) -> str:
    """Figures side by side where there is room."""
    whole = "".join(parts)
    return f'<div class="grid">{whole}</div>' if whole else ""


def figure(drawing: FigureSpec, command: str) -> str:
    """The place of one figure, its data, and the line that makes it again."""
    named = f'id="figure-{t(drawing.name)}" role="img" aria-label="{t(drawing.title)}"'
    place = f'<div class="plot" {named} style="height:{drawing.frame.height}px"></div>'
    return (
        f"<figure{' class=wide' if drawing.wide else ''}><h3>{t(drawing.title)}</h3>{place}<figcaption>{download(drawing)}"
        f"<details><summary>command</summary><pre>{t(command)}</pre></details></figcaption></figure>"
    )


def csv(drawing: FigureSpec) -> str:
    """The numbers of a figure as CSV."""
    return drawing.data.to_csv(index=False, lineterminator="\n")


def download(drawing: FigureSpec) -> str:
    """A link that holds the figure's numbers: CSV, compressed where they are many."""
    plain = csv(drawing).encode()
    large = len(plain) > LARGE
    kind, ending = ("application/gzip", ".csv.gz") if large else ("text/csv;charset=utf-8", ".csv")
    held = base64.b64encode(gzip.compress(plain, mtime=0) if large else plain).decode()
    name = f"{drawing.name}{ending}"
    return f'<a class="data" download="{t(name)}" href="data:{kind};base64,{held}">{t(ending[1:])}</a>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, best: str | None = None, code: int | None = None, tall: bool = False
) -> str:
    """A table that scrolls sideways where it is too wide; the row that has `best` in a cell is bold, column `code` is in type."""
    top = "".join(f'<th scope="col">{t(name)}</th>' for name in head)
    lines = []
    for row in rows:
        cells = "".join(f"<td><code>{t(cell)}</code></td>" if i == code else f"<td>{t(cell)}</td>" for i, cell in enumerate(row))
        lines.append(f"<tr{' class=best' if best is not None and best in row else ''}>{cells}</tr>")
    inside = f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll{" tall" if tall else ""}" tabindex="0">{inside}</div>'


def folded(title: str, inside: str, *, opened: bool = False) -> str:
    """What is shown when asked for."""
    return f"<details{' open' if opened else ''}><summary>{t(title)}</summary>{inside}</details>" if inside else ""


def listed(title: str, items: Mapping[str, str]) -> str:
    """Names with their values."""
    inside = "".join(f"<div><dt>{t(key)}</dt><dd>{t(value)}</dd></div>" for key, value in items.items())
    return f"<h3>{t(title)}</h3><dl>{inside}</dl>" if items else ""


def legend(looks: Mapping[str, Style], shown: frozenset[str], order: Sequence[str]) -> str:
    """A button an arm, which hides and shows it everywhere; with many arms buttons for the best few, all and none."""
    buttons = []
    for arm in order:
        on = str(not shown or arm in shown).lower()
        buttons.append(f'<button type="button" aria-pressed="{on}" data-arm="{t(arm)}">{swatch(looks[arm])}<span>{t(arm)}</span></button>')
    few = len([arm for arm in order if arm in shown])
    sets = (
        f'<button type="button" class="set" data-set="few">first {few}</button><button type="button" class="set" data-set="all">all '
        f'{len(order)}</button><button type="button" class="set" data-set="none">none</button>'
        if shown
        else ""
    )
    return f'<div class="legend" role="group" aria-label="Arms: press to hide or show">{sets}{"".join(buttons)}</div>'


def swatch(look: Style) -> str:
    """A short line as an arm's curves have it; the near-black of one is the text's colour, which the dark page turns."""
    colour = "currentColor" if look.colour == "#333333" else look.colour
    line = f'stroke="{colour}" stroke-width="2.5" stroke-dasharray="{DASHES[look.dash]}"'
    return f'<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" {line}/></svg>'


def blank(value: object) -> bool:
    """Whether a cell of a frame holds nothing."""
    return value is None or (isinstance(value, float) and bool(pd.isna(value)))
