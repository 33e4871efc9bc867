"""The page: one HTML file that needs no network, no storage and no other file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd

from bakeoff.rendering.marks import FigureSpec
from bakeoff.rendering.plotly_backend import spec
from bakeoff.report import formatting, provenance, sections, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures import first
from bakeoff.report.figures.context import FigureContext
from bakeoff.report.markup import figure, folded, legend, section, t, table
from bakeoff.report.results import SweepResults
from bakeoff.report.verdict import Verdict

#: Nothing may be loaded from anywhere: what a browser enforces even if a library should try.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
GRADES = {
    "supported": "supported",
    "tie": "tie",
    "under-powered": "under-powered",
    "unknown": "cannot be told",
    "interim": "not finished",
    "exploratory": "exploratory",
}
#: Words for the line of links at the top.
SHORT = {
    "scores": "scores", "differences": "differences", "families": "all at once", "ranks": "ranks", "aggregate": "profiles",
    "effects": "factors", "curves": "learning curves", "target": "time to target", "search": "tuning", "tuning": "repeated tuning",
    "region": "good region", "budget": "budget", "importance": "importance", "diagnoses": "diagnoses", "flags": "flags",
}  # fmt: skip
#: Sentences of the verdict that stand beside its picture; the others are below it.
BESIDE = 3

Parts = Sequence[tuple[SweepResults, Verdict]]


def page(found: Analysis, rows: pd.DataFrame, drawn: Sequence[FigureSpec], *, parts: Parts = ()) -> str:
    """The whole page as text, with the table of `tables.arms`; plotly.js is in it once. `parts`: sweeps that are compared, each judged."""
    from plotly.offline import get_plotlyjs

    scene, command = FigureContext(found), again(found)
    beginning = first(found)
    # Where all arms are in the first picture, it is not shown again among the evidence.
    below = [one for one in drawn if beginning is None or one.name != beginning.name]
    by_section = {key: [one for one in below if one.section == key] for key in dict.fromkeys(one.section for one in drawn)}
    evidence = list(sections.all_of(found, rows, by_section, command))
    shown = [*below, *([beginning] if beginning is not None else [])]
    links = "".join(f'<a href="#{t(key)}">{t(SHORT[key])}</a>' for key, _, _ in evidence)
    body = "".join(
        (
            _top(found, beginning, command),
            _sweeps(parts, found),
            f'<nav aria-label="Sections">{links}<a href="#plan">plan</a><a href="#machine">machine</a><a href="#again">reproduce</a></nav>',
            legend(scene.looks, scene.shown, scene.order) if drawn else "",
            *(whole for _, _, whole in evidence),
            _missing(found, {one.section: [one] for one in drawn}),
            provenance.plan(found),
            provenance.machine(found),
            provenance.again(found),
        )
    )
    held = files("bakeoff.report")
    style, script = (held.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    told = {"figures": {one.name: spec(one) for one in shown}, "few": sorted(scene.shown)}
    specs = json.dumps(told, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{t(found.sweep.design.question)}</title><style>{style}</style></head>\n<body><main>{body}</main>\n"
        f'<script type="application/json" id="figures">{specs}</script>\n<script>{get_plotlyjs()}</script>\n<script>{script}</script>\n'
        "</body></html>\n"
    )


def again(found: Analysis) -> Callable[[FigureSpec], str]:
    """The line that makes one figure again."""
    whole = tables.reproduction_commands(found.full_sweep)["report"]
    return lambda drawing: f"{whole} --figure {shlex.quote(drawing.name)}"


def write(found: Analysis, rows: pd.DataFrame, drawn: Sequence[FigureSpec], out: Path, *, parts: Parts = ()) -> Path:
    """Writes index.html into `out`, which is there."""
    path = out / "index.html"
    path.write_text(page(found, rows, drawn, parts=parts), encoding="utf-8")
    return path


def _top(found: Analysis, beginning: FigureSpec | None, command: Callable[[FigureSpec], str]) -> str:
    sweep, verdict, plan = found.full_sweep, found.verdict, found.sweep.design
    counted = sweep.runs["stage"].value_counts()
    tune, confirm = int(counted.get("tune", 0)), int(counted.get("confirm", 0))
    facts = [
        ("arms", len(plan.arms)),
        ("blocks", len(plan.blocks)),
        ("tuning runs", f"{tune} of {plan.trials}" if plan.declared and tune != plan.trials else tune),
        ("confirm runs", f"{confirm} of {plan.confirm_runs}" if plan.declared and confirm < plan.confirm_runs else confirm),
        ("score", formatting.metric_name(sweep.score_metric)),
        ("margin", formatting.difference(plan.margin, sweep.score_metric)),
    ]
    shown = "".join(f"<span>{t(name)} <b>{t(value)}</b></span>" for name, value in facts)
    details = "".join(f"<p>{t(line)}</p>" for line in verdict.details[:BESIDE])
    rest = "".join(f"<p>{t(line)}</p>" for line in verdict.details[BESIDE:])
    picture = f"<section>{figure(beginning, command(beginning))}</section>" if beginning is not None else ""
    side = f'<div class="side">{picture}{_before(found)}</div>'
    return (
        f'<header><p class="kicker">bakeoff report &middot; {t(sweep.title)}</p><h1>{t(plan.question)}</h1></header>'
        f'<div class="hero"><section class="verdict {t(verdict.grade)}"><span class="grade">{t(GRADES[verdict.grade])}</span>'
        f'<p class="headline">{t(verdict.headline)}</p>{details}{folded("more of the verdict", rest)}'
        f'<div class="facts">{shown}</div></section>'
        f"{side if picture or verdict.caveats else ''}</div>"
    )


def _before(found: Analysis) -> str:
    """What a reader must know before using the verdict."""
    caveats = found.verdict.caveats
    inside = f"<ul class=caveats>{''.join(f'<li>{t(line)}</li>' for line in caveats)}</ul>" if caveats else ""
    whole = folded(f"Before you use this ({len(caveats)})", inside, opened=len(caveats) <= 6)
    return f'<section class="before">{whole}</section>' if whole else ""


def _sweeps(parts: Parts, found: Analysis) -> str:
    """Each of several sweeps by itself: its own question, grade and verdict, which stand, unlike what is compared across them."""
    lines = [
        [
            sweep.title, sweep.design.question, GRADES[verdict.grade], verdict.headline, str(len(sweep.design.arms)),
            str(len(sweep.stage_runs("confirm"))), tables.reproduction_commands(sweep)["report"],
        ]
        for sweep, verdict in parts
    ]  # fmt: skip
    head = ["sweep", "question", "grade", "verdict", "arms", "confirm runs", "its own report"]
    note = "Each was planned, and has a verdict of its own. What follows compares runs across sweeps, which no plan declared."
    return section("sweeps", "The sweeps", [note], table(head, lines, code=len(head) - 1)) if lines else ""


def _missing(found: Analysis, drawn: sections.Figures) -> str:
    lines = sections.missing(found, drawn)
    inside = f"<ul>{''.join(f'<li>{t(line)}</li>' for line in lines)}</ul>" if lines else ""
    return section("missing", "What is not here, and why", [], inside)
