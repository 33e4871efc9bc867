"""The report as text for a terminal, 80 columns wide or as wide as the window is."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from bakeoff.rendering.marks import shorten
from bakeoff.report import formatting
from bakeoff.report.analysis import Analysis
from bakeoff.stats.paired import LEVEL

#: Columns of text where there is no window.
NARROW = 80
#: Beyond this, lines are hard to read.
WIDEST = 110
#: The longest name of an arm that stands whole.
NAME = 26
#: Notes that are told; the page has all.
MOST_NOTES = 6


def text(found: Analysis, page: Path) -> str:
    """Question, verdict, a table an each block, the notes and where the page lies."""
    width = min(WIDEST, shutil.get_terminal_size((NARROW, 24)).columns)
    plan, verdict = found.sweep.design, found.verdict
    lines = [*_wrapped(plan.question, width), "", *_wrapped(verdict.headline, width)]
    for detail in verdict.details:
        told, colon, command = detail.partition(": bakeoff ")
        lines += _wrapped(told + colon[:1], width, first="  ", rest="  ")
        # A command stays whole on a line of its own, so that it can be copied.
        lines += [f"  bakeoff {command}"] if command else []
    for block in found.blocks:
        lines += ["", *_table(found, block, width)]
    notes = verdict.caveats[:MOST_NOTES]
    lines += [""] if notes else []
    lines += [line for note in notes for line in _wrapped(f"note: {note}", width, rest="  ")]
    if len(verdict.caveats) > len(notes):
        lines.append(f"{formatting.count_noun(len(verdict.caveats) - len(notes), 'more note')} on the page.")
    return "\n".join([*lines, "", f"page: {page.resolve()}"])


def _wrapped(told: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most `width`, but for single words that are longer."""
    return textwrap.wrap(told, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False) or [""]


def _table(found: Analysis, block: str, width: int) -> Iterator[str]:
    sweep, plan = found.sweep, found.sweep.design
    means, metric = found.arm_means[block], sweep.score_metric
    several = len(plan.blocks) > 1
    key = plan.numeric_keys[0] if len(plan.numeric_keys) == 1 and block in plan.blocks else None
    head = ["arm", "n", f"mean {formatting.metric_name(metric)}", f"{formatting.percent(LEVEL)} interval"]
    head += [f"best {key.rpartition('.')[2]}"] if key else []
    head += ["trials", "lost"]
    states = found.full_sweep.runs
    own = states if block not in plan.blocks else states[states["block"] == block]
    counts = own.groupby(["arm", "stage"]).size().to_dict()
    lost = own[own["state"].isin(["diverged", "failed", "killed"])].groupby("arm").size().to_dict()
    rows: list[list[str]] = []
    for arm in [*means, *(arm for arm in plan.arms if arm not in means)]:
        told, best = means.get(arm), sweep.best_trial(arm, block) if block in plan.blocks else None
        cells = [shorten(arm, length=NAME), str(told.n if told else 0), formatting.score(told.mean if told else None, metric)]
        cells.append("none" if told is None or told.low is None else _interval(told.low, told.high, metric))
        if key:
            cells.append("" if best is None or not math.isfinite(float(best[key])) else formatting.significant(float(best[key])))
        rows.append([*cells, str(counts.get((arm, "tune"), 0)), str(lost.get(arm, 0) or "")])
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    if several:
        yield f"{block}:"
    yield from _columns(head, rows, width)


def _interval(low: float, high: float | None, metric: str) -> str:
    return f"{formatting.score(low, metric).removesuffix(' %')} to {formatting.score(high, metric)}"


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Plain columns, numbers to the right; columns at the end are left out where they would not fit."""
    sizes = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    kept = max(n for n in range(1, len(sizes) + 1) if n <= 4 or sum(sizes[:n]) + 2 * (n - 1) <= width)
    for line in (head, *rows):
        cells = [cell.ljust(size) if i == 0 else cell.rjust(size) for i, (cell, size) in enumerate(zip(line[:kept], sizes, strict=False))]
        yield "  ".join(cells).rstrip()
