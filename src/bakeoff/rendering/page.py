"""Self-contained HTML pages: they use no network, no storage and no other file, and open from disk and inside a frame.

A page is a title and a list of blocks. Blocks are data; the macros in `templates/blocks.html.j2` turn them into HTML and escape all
text:

    loss = Picture.svg(matplotlib_backend.svg(figure), alt="loss by step")
    render_page(
        title="Digits with VGG",
        kicker="bakeoff diagnostics",
        blocks=[
            Section("Diagnoses", [Bullets([("dead_relus", "40 % of the units of layer 3 are 0")])], notes=["64 images are the probe."]),
            Grid([Section("Loss", [loss]), Section("Layers", [Table(head, rows)])]),
        ],
    )

`Plot` blocks are interactive: pass `interactive=True`, which adds plotly.js and the script to the page. A page that needs more than a
list of blocks has its own template, in the `templates` folder of its package: it extends `base.html.j2`; `{{ block }}` prints a block.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bakeoff.rendering.palette import DASHES, Style

#: Content security policies, with which a browser loads nothing from anywhere, even if a library tries.
STATIC_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
INTERACTIVE_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
#: Bytes of CSV above which a page contains it compressed.
LARGE_CSV = 40_000


class Block:
    """A part of a page. `{{ block }}` in a template prints its HTML, from the macro named `macro`."""

    macro: ClassVar[str]

    def __html__(self) -> str:
        """Return the block's HTML (the protocol of markupsafe)."""
        return str(getattr(_blocks(), self.macro)(self))


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; `note` prints it in the secondary style."""

    macro = "text"
    text: str
    note: bool = False


@dataclass(frozen=True)
class Code(Block):
    """A shell command."""

    macro = "code"
    text: str


@dataclass(frozen=True)
class Bullets(Block):
    """A list; an item is a text, or (label, text) with the label in bold. `warning` colours the labels."""

    macro = "bullets"
    items: Sequence[str | tuple[str, str]]
    title: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Definitions(Block):
    """Names with their values, below an optional title."""

    macro = "definitions"
    items: Mapping[str, str]
    title: str = ""


@dataclass(frozen=True)
class Cell:
    """A table cell with a background colour, or with a CSS class, such as `wrong` (red)."""

    text: str
    background: str = ""
    light_text: bool = False
    css_class: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A table that scrolls horizontally if it is too wide for the page.

    Attributes:
        head: The names of the columns.
        rows: The cells of each row.
        title: A heading above the table.
        bold: The row with this text in a cell is bold.
        code_column: Index of a column of plain texts in a monospaced font.
        row_headers: Whether the first cell of each row names the row.
        tall: Whether the table scrolls in a box of limited height.
        wrap: Whether long texts wrap.
        heatmap: Whether cells are adjacent tiles with background colours.
    """

    macro = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    title: str = ""
    bold: str | None = None
    code_column: int | None = None
    row_headers: bool = False
    tall: bool = False
    wrap: bool = False
    heatmap: bool = False


@dataclass(frozen=True)
class Picture(Block):
    """An image inside the page; `source` is a data URL, `width` is in CSS pixels."""

    macro = "picture"
    source: str
    alt: str
    width: int | None = None

    @classmethod
    def png(cls, content: bytes, *, alt: str, width: int | None = None) -> Picture:
        """Return a picture from the bytes of a PNG file."""
        return cls(data_url("image/png", content), alt, width)

    @classmethod
    def svg(cls, content: str, *, alt: str, width: int | None = None) -> Picture:
        """Return a picture from the text of an SVG file."""
        return cls(data_url("image/svg+xml", content.encode()), alt, width)


@dataclass(frozen=True)
class Download:
    """A link that contains a file: its name, and its content as a data URL."""

    file: str
    label: str
    url: str

    @classmethod
    def csv(cls, name: str, text: str) -> Download:
        """Return the download of the CSV file `<name>.csv`, compressed if it is large."""
        content = text.encode()
        if len(content) > LARGE_CSV:
            return cls(f"{name}.csv.gz", "csv.gz", data_url("application/gzip", gzip.compress(content, mtime=0)))
        return cls(f"{name}.csv", "csv", data_url("text/csv;charset=utf-8", content))


@dataclass(frozen=True)
class Plot(Block):
    """An interactive plot, drawn by the page's script.

    Attributes:
        name: Unique in the page; the element's id is `figure-<name>`.
        spec: A plotly specification: `data`, `layout` (with its `height` in pixels) and, for an animation, `frames`.
        title: A heading above the plot, also the text for screen readers unless `alt` replaces it.
        wide: Whether it has the full width of a grid.
        min_width: Pixels; it scrolls in a narrower window.
        download: The data of the plot.
        command: The shell command that reproduces the plot.
    """

    macro = "plot"
    name: str
    spec: Mapping[str, Any]
    title: str = ""
    alt: str = ""
    wide: bool = False
    min_width: int = 0
    download: Download | None = None
    command: str = ""


@dataclass(frozen=True)
class LegendEntry:
    """A button of a legend: the name of a series in the plots, and whether it is shown at first."""

    name: str
    style: Style
    shown: bool = True


@dataclass(frozen=True)
class Legend(Block):
    """Buttons that show and hide series in all plots; `sets` adds buttons for the first, all and none if some series start hidden."""

    macro = "legend"
    entries: Sequence[LegendEntry]
    sets: bool = True
    label: str = "Press to show or hide"


@dataclass(frozen=True)
class Grid(Block):
    """Blocks side by side, as far as they fit."""

    macro = "grid"
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Details(Block):
    """Blocks that the reader opens and closes."""

    macro = "details"
    summary: str
    blocks: Sequence[Block]
    open: bool = False


@dataclass(frozen=True)
class Section(Block):
    """A box with a heading, lines of explanation, and blocks; `key` is its id for links, `wide` gives it the full width of a grid."""

    macro = "section"
    title: str
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = ()
    key: str = ""
    wide: bool = False


def render_page(
    template: str = "base.html.j2", *, title: str, package: str = "bakeoff.rendering", interactive: bool = False, **context: Any
) -> str:
    """Return the text of an HTML page.

    Args:
        template: A template's file name; the default prints `kicker`, the title, `notes` and `blocks`.
        title: The page's title and heading.
        package: The package whose folder `templates` contains the template.
        interactive: Whether the page has `Plot` blocks: it then includes plotly.js (about 5 MB) and a script.
        **context: Values for the template: `kicker` (a line above the heading), `notes` (texts), `blocks`, `light_only` (no dark mode).
    """
    plotly_js = ""
    if interactive:
        from plotly.offline import get_plotlyjs

        plotly_js = Markup(get_plotlyjs())
    page_template = _environment(package).get_template(template)
    return page_template.render(title=title, plotly_js=plotly_js, policy=INTERACTIVE_POLICY if interactive else STATIC_POLICY, **context)


def data_url(media_type: str, content: bytes) -> str:
    """Return a data URL with these bytes."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def dash_array(dash: str, *, width: float) -> str:
    """Return a dash of the palette as SVG's stroke-dasharray for a line of `width` pixels."""
    return " ".join(f"{length * width:g}" for length in DASHES[dash])


@cache
def _environment(package: str) -> Environment:
    loaders = [PackageLoader(name) for name in dict.fromkeys((package, "bakeoff.rendering"))]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    # Style and script are not templates, so that Jinja does not interpret their braces.
    assets = files("bakeoff.rendering").joinpath("templates")
    environment.globals |= {name: Markup(assets.joinpath(f"page.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    environment.globals["dash_array"] = dash_array
    return environment


@cache
def _blocks() -> Any:
    return _environment("bakeoff.rendering").get_template("blocks.html.j2").module
