"""The page: one HTML file that needs no network, no storage and no other file."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from bakeoff.report import figures, tables, wording
from bakeoff.report.figures import QUARTILES, Spec, Style
from bakeoff.report.statistics import LEVEL, OVERALL
from bakeoff.report.tidy import Sweep
from bakeoff.report.verdict import Verdict, standing

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
MOST_RUNS = 400  # rows of a runs table in the page; runs.csv has them all


def page(sweep: Sweep, verdict: Verdict, table: pd.DataFrame) -> str:
    """The whole page as text, with the table of `tables.arms`; plotly.js is in it once."""
    from plotly.offline import get_plotlyjs

    drawn: dict[str, Spec] = {}
    body = "".join(
        (
            _top(sweep, verdict),
            _legend(sweep),
            _finals(sweep, verdict, drawn),
            _gaps(sweep, verdict, drawn),
            _curves(sweep, drawn),
            _tuning(sweep, drawn),
            _arms(sweep, verdict, table),
            _pairs(sweep, verdict),
            _runs(sweep),
            _origin(sweep),
        )
    )
    parts = files("bakeoff.report")
    style, script = (parts.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    specs = json.dumps(drawn, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_t(sweep.design.question)}</title>'
        f"<style>{style}</style></head>\n<body><main>{body}</main>\n"
        f'<script type="application/json" id="figures">{specs}</script>\n<script>{get_plotlyjs()}</script>\n<script>{script}</script>\n'
        "</body></html>\n"
    )


def write(sweep: Sweep, verdict: Verdict, table: pd.DataFrame, out: Path) -> Path:
    """Writes index.html into `out`, which is there."""
    path = out / "index.html"
    path.write_text(page(sweep, verdict, table), encoding="utf-8")
    return path


def _t(text: object) -> str:
    return html.escape(str(text))


def _section(title: str, note: str, *parts: str) -> str:
    return f'<section><h2>{_t(title)}</h2><p class="note">{_t(note)}</p>{"".join(parts)}</section>'


def _figure(drawn: dict[str, Spec], title: str, spec: Spec | None, *, wide: bool = False) -> str:
    if spec is None:
        return ""
    name = f"figure-{len(drawn) + 1}"
    drawn[name] = spec
    head = f"<h3>{_t(title)}</h3>" if title else ""
    height = spec["layout"]["height"]
    place = f'<div class="plot" id="{name}" role="img" aria-label="{_t(title or "figure")}" style="min-height:{height}px">'
    return f"<figure{' class=wide' if wide else ''}>{head}{place}</div></figure>"


def _grid(parts: Iterable[str]) -> str:
    return f'<div class="grid">{"".join(parts)}</div>'


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, best: str | None = None, code: int | None = None, tall: bool = False
) -> str:
    top = "".join(f'<th scope="col">{_t(name)}</th>' for name in head)
    lines = []
    for row in rows:
        cells = "".join(f"<td><code>{_t(cell)}</code></td>" if i == code else f"<td>{_t(cell)}</td>" for i, cell in enumerate(row))
        lines.append(f"<tr{' class=best' if best is not None and best in row[:2] else ''}>{cells}</tr>")
    return f'<div class="scroll{" tall" if tall else ""}"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _top(sweep: Sweep, verdict: Verdict) -> str:
    plan = sweep.design
    counted = sweep.runs["stage"].value_counts()
    facts = [
        ("arms", len(plan.arms)),
        ("blocks", len(plan.blocks)),
        ("tuning runs", f"{counted.get('tune', 0)} of {plan.trials}"),
        ("confirm runs", f"{counted.get('confirm', 0)} of {plan.confirms}"),
        ("score", wording.metric_name(sweep.scored)),
        ("margin", wording.gap(plan.margin, sweep.scored)),
    ]
    shown = "".join(f"<span>{_t(name)} <b>{_t(value)}</b></span>" for name, value in facts)
    details = "".join(f"<p>{_t(line)}</p>" for line in verdict.details)
    caveats = "".join(f"<li>{_t(line)}</li>" for line in verdict.caveats)
    opened = " open" if len(verdict.caveats) <= 4 else ""
    before = f"<details{opened}><summary>Before you use this ({len(verdict.caveats)})</summary><ul class=caveats>{caveats}</ul></details>"
    return (
        f'<p class="kicker">bakeoff report &middot; {_t(sweep.title)}</p><h1>{_t(plan.question)}</h1>'
        f'<section class="verdict {verdict.kind}"><span class="grade">{_t(GRADES[verdict.kind])}</span>'
        f'<p class="headline">{_t(verdict.headline)}</p>{details}<div class="facts">{shown}</div>{before if caveats else ""}</section>'
    )


def _legend(sweep: Sweep) -> str:
    looks = figures.styles(sweep.design.arms)
    start = '<button type="button" aria-pressed="true" data-arm='
    buttons = (f'{start}"{_t(arm)}">{_swatch(look)}{_t(arm)}</button>' for arm, look in looks.items())
    return f'<div class="legend" role="group" aria-label="Arms: press to hide or show">{"".join(buttons)}</div>'


def _swatch(look: Style) -> str:
    dashes = {"solid": "", "dash": "7 3", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 3", "longdashdot": "11 3 2 3"}
    return (
        f'<svg width="30" height="10" aria-hidden="true"><line x1="0" y1="5" x2="30" y2="5" stroke="{look.colour}" stroke-width="2.5" '
        f'stroke-dasharray="{dashes[look.dash]}"/></svg>'
    )


def _finals(sweep: Sweep, verdict: Verdict, drawn: dict[str, Spec]) -> str:
    if verdict.kind == "exploratory":
        return ""
    order = list(standing(sweep, OVERALL if len(sweep.design.blocks) > 1 else sweep.design.blocks[0]))
    order += [arm for arm in sweep.design.arms if arm not in order]
    plots = [_figure(drawn, _name(sweep, block), figures.finals(sweep, block, order)) for block in sweep.design.blocks]
    seeds = "a small dot is one seed; the large mark is the mean, with its 95 % t interval (none for a single seed)"
    note = f"{wording.metric_name(sweep.scored).capitalize()}: {seeds}. Data: arms.csv, runs.csv."
    return _section("Final score of every arm", note, _grid(plots))


def _gaps(sweep: Sweep, verdict: Verdict, drawn: dict[str, Spec]) -> str:
    blocks = [*([OVERALL] if len(sweep.design.blocks) > 1 else []), *sweep.design.blocks]
    plots = []
    for block in blocks:
        means = standing(sweep, block)
        family = [d for d in verdict.differences if d.block == block]
        if family and means:
            plots.append(_figure(drawn, _name(sweep, block), figures.gaps(family, sweep, next(iter(means))), wide=block == OVERALL))
    note = (
        "Differences seed by seed, against the arm with the best mean, each with its own 95 % interval. Left of zero is behind. The grey "
        "band is the margin: differences within it do not matter. With several pairs the grade rests on p corrected by Holm. "
        "Data: differences.csv."
    )
    return _section("How sure is the difference?", note, _grid(plots)) if plots else ""


def _curves(sweep: Sweep, drawn: dict[str, Spec]) -> str:
    plots = []
    for metric in dict.fromkeys((sweep.design.metric, "train/loss")):
        for block in sweep.design.blocks:
            title = " · ".join(word for word in (wording.metric_name(metric), _name(sweep, block)) if word)
            plots.append(_figure(drawn, title, figures.curves(sweep, block, metric)))
    confirmed = len(sweep.stage("confirm")) > 0
    band = f"the middle half of the seeds from {QUARTILES} seeds on, else lowest to highest"
    note = f"Line: median over the confirm seeds; band: {band}." if confirmed else "The best tuning run of each arm: one run, so no band."
    return _section("Learning curves", f"{note} Data: curves.csv.", _grid(plots)) if any(plots) else ""


def _tuning(sweep: Sweep, drawn: dict[str, Spec]) -> str:
    plots = [
        _figure(drawn, " · ".join(word for word in (key, _name(sweep, block)) if word), figures.tuning(sweep, block, key))
        for key in sweep.design.tuned
        for block in sweep.design.blocks
    ]
    note = (
        f"Every tuning run, by {wording.metric_name(sweep.design.metric)}; the ring is each arm's best, 'edge' where that lies within the "
        "outer tenth of its space. An x at the foot is a run that diverged. Data: runs.csv."
    )
    return _section("Score against what was tuned", note, _grid(plots)) if any(plots) else ""


def _arms(sweep: Sweep, verdict: Verdict, table: pd.DataFrame) -> str:
    head, rows = tables.shown(sweep, table)
    at, columns = head.index("trials"), [f"space of {key}" for key in sweep.design.tuned]
    head = [*head[:at], *columns, *head[at:]]
    spaces = [["" if pd.isna(row[name]) else str(row[name]) for name in columns] for row in table.to_dict("records")]
    rows = [[*row[:at], *space, *row[at:]] for row, space in zip(rows, spaces, strict=True)]
    note = (
        f"n confirm runs with a score; {wording.percent(LEVEL)} Student t intervals of the mean. Validation: the mean of the confirm runs, "
        "else the best tuning run's. Data: arms.csv."
    )
    return _section("Arms", note, _table(head, rows, best=verdict.winner))


def _pairs(sweep: Sweep, verdict: Verdict) -> str:
    if not verdict.differences:
        return ""
    metric, several = sweep.scored, len(sweep.design.blocks) > 1
    head = [*(["block"] if several else []), "ahead", "behind", "n", "advantage", "95 % interval", "p (Holm)", "grade", "more seeds"]
    rows = [
        [
            *([d.block] if several else []), d.better, d.worse, str(d.n), wording.gap(d.advantage, metric),
            "none" if d.low is None else f"{wording.gap(d.low, metric, unit=False)} to {wording.gap(d.high, metric, unit=False)}",
            "n/a" if d.p_holm is None else f"{d.p_holm:.3g}", d.grade, "" if d.more is None else str(d.more),
        ]
        for d in verdict.differences
    ]  # fmt: skip
    note = "All pairs, on the seeds that both arms have. More seeds: what a power calculation (80 %) asks for. Data: differences.csv."
    table = _table(head, rows, tall=len(rows) > 15)
    return _section("Paired differences", note, table)


def _runs(sweep: Sweep) -> str:
    lines = tables.commands(sweep)
    parts = [f"<pre>{_t(lines['sweep'])}\n{_t(lines['report'])}</pre>"]
    table = tables.runs(sweep)
    for stage, title in (("confirm", "Confirm runs"), ("tune", "Tuning runs")):
        rows = table[table["stage"] == stage]
        if rows.empty:
            continue
        cut = f", the first {MOST_RUNS} of them here" if len(rows) > MOST_RUNS else ""
        parts.append(f"<details{' open' if len(rows) <= 30 and stage == 'confirm' else ''}><summary>{title} ({len(rows):,}{cut})</summary>")
        parts += [_run_table(sweep, rows.head(MOST_RUNS), stage), "</details>"]
    return _section("The command for every number", "The whole sweep, this report, and each run. Data: runs.csv.", *parts)


def _run_table(sweep: Sweep, rows: pd.DataFrame, stage: str) -> str:
    plan, metric = sweep.design, sweep.scored if stage == "confirm" else sweep.design.metric
    at = "seed" if stage == "confirm" else "point"
    head = [*(["block"] if len(plan.blocks) > 1 else []), "arm", at, *plan.tuned, wording.metric_name(metric), "state", "command"]
    lines: list[list[str]] = []
    for row in rows.to_dict("records"):
        cells = [row["block"]] if len(plan.blocks) > 1 else []
        cells += [row["arm"], f"{row[at]:.0f}", *("" if pd.isna(row[key]) else wording.plain(row[key]) for key in plan.tuned)]
        lines.append([*cells, wording.score(row["score"], metric), _state(row), row["command"]])
    return _table(head, lines, code=len(head) - 1, tall=True)


def _state(row: dict[Any, Any]) -> str:
    reason = str(row["reason"])
    return f"{row['state']}: {reason[:80]}" if reason and row["state"] in ("failed", "diverged", "killed") else str(row["state"])


def _origin(sweep: Sweep) -> str:
    fixed = {key: wording.value(value) for key, value in sweep.design.fixed.items()}
    origin = {key: ", ".join(values[:4]) + (" ..." if len(values) > 4 else "") for key, values in sweep.origin.items()}
    lists = []
    for title, items in (("Fixed for every arm", fixed), ("Code and machine", origin)):
        if items:
            lists.append(f"<h3>{title}</h3><dl>{''.join(f'<div><dt>{_t(k)}</dt><dd>{_t(v)}</dd></div>' for k, v in items.items())}</dl>")
    plan = sweep.design
    each = max(cell.trials for cell in plan.cells)
    budget = f"{wording.count(each, 'tuning run')} an arm and block (sampler: {plan.sampler}), {wording.count(plan.seeds, 'confirm seed')}."
    return _section("How it was made", f"{budget} Several values mean that the runs differ.", *lists)


def _name(sweep: Sweep, block: str) -> str:
    """A block's title; none where there is one block only."""
    return block if len(sweep.design.blocks) > 1 else ""
