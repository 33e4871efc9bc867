"""The page shell: a single file that loads nothing and escapes every text."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import pytest

from bakeoff.rendering.page import (
    INTERACTIVE_POLICY,
    STATIC_POLICY,
    Bullets,
    Cell,
    Code,
    Definitions,
    Details,
    Download,
    Grid,
    Legend,
    LegendEntry,
    Picture,
    Plot,
    Section,
    Table,
    Text,
    render_page,
)
from bakeoff.rendering.palette import style

HOSTILE = "<script>alert('a&b')</script>\""
ESCAPED = "&lt;script&gt;alert(&#39;a&amp;b&#39;)&lt;/script&gt;&#34;"
SPEC: dict[str, Any] = {"data": [{"type": "scatter", "name": HOSTILE, "x": [1], "y": [2]}], "layout": {"height": 200}}


def test_a_static_page_has_no_script_and_loads_nothing() -> None:
    page = render_page(title="A title", kicker="bakeoff check", blocks=[Section("Empty", [Picture.png(b"x", alt="nothing", width=10)])])
    assert f'content="{STATIC_POLICY}"' in page
    assert "<script" not in page and "plotly" not in page and "@import" not in page and "url(" not in page
    assert re.findall(r'(?:src|href)="([^"]{0,22})', page) == ["data:image/png;base64,"]
    assert page.count("<h1>A title</h1>") == 1


def test_every_text_is_escaped() -> None:
    style_of = style(9)
    blocks = [
        Section(HOSTILE, [Text(HOSTILE), Code(HOSTILE), Bullets([HOSTILE, (HOSTILE, HOSTILE)]), Definitions({HOSTILE: HOSTILE}, HOSTILE)]),
        Grid([Section("", [Table([HOSTILE] * 2, [[HOSTILE] * 2, [Cell(HOSTILE, css_class=HOSTILE), HOSTILE]], code_column=1)], [HOSTILE])]),
        Details(HOSTILE, [Picture.svg("<svg/>", alt=HOSTILE)]),
        Legend([LegendEntry(HOSTILE, style_of)]),
        Plot("p", SPEC, title=HOSTILE, command=HOSTILE, download=Download.csv("p", HOSTILE)),
    ]
    page = render_page(title=HOSTILE, kicker=HOSTILE, notes=[HOSTILE], blocks=blocks)
    assert page.count("<script>alert") == 0 and page.count(ESCAPED) == 28
    assert json.loads(re.findall(r'<script type="application/json">(.*?)</script>', page)[0]) == SPEC


def test_an_interactive_page_includes_plotly_and_its_script_once() -> None:
    page = render_page(title="Plots", interactive=True, light_only=True, blocks=[Plot("one", SPEC), Plot("two", SPEC, min_width=400)])
    assert INTERACTIVE_POLICY in page and page.count("plotly.js v") == 1 and page.count('"use strict";\nconst dark') == 1
    assert 'id="figure-one"' in page and "height:200px;min-width:400px" in page and '<html lang="en" class="light">' in page


def test_numbers_that_json_lacks_are_errors() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_page(title="Plots", blocks=[Plot("one", {"data": [float("nan")], "layout": {"height": 1}})])


def test_large_csv_files_are_compressed() -> None:
    small, large = Download.csv("a", "x\n1\n"), Download.csv("b", "x\n" * 40_000)
    assert (small.file, large.file) == ("a.csv", "b.csv.gz")
    assert gzip.decompress(base64.b64decode(large.url.split(",")[1])) == b"x\n" * 40_000
