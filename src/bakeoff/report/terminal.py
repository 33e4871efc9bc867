"""The report as text for a terminal, 80 columns wide or as wide as the window is."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from bakeoff.rendering.marks import shorten
from bakeoff.report import formatting
from bakeoff.report.analysis import Analysis
from bakeoff.stats.intervals import LEVEL

#: Columns of text where there is no window, and the most that are used of a wide one.
DEFAULT_WIDTH, MAX_WIDTH = 80, 110
#: The longest name of an arm that is printed in full.
MAX_NAME = 26
#: Caveats that are printed; the page has all.
MAX_CAVEATS = 6


def terminal_text(analysis: Analysis, page: Path) -> str:
    """The report as text: question, verdict, a table for each block, caveats and the page.

    Args:
        analysis: What is reported.
        page: The path of the HTML page.

    Returns:
        Lines no wider than the window, except for commands and paths, which stay on one line.
    """
    width = min(MAX_WIDTH, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)
    verdict = analysis.verdict
    lines = [*_wrap(analysis.sweep.design.question, width), "", *_wrap(verdict.headline, width)]
    for detail in verdict.details:
        sentence, colon, command = detail.partition(": bakeoff ")
        lines += _wrap(sentence + colon[:1], width, first="  ", rest="  ")
        lines += [f"  bakeoff {command}"] if command else []  # on a line of its own, so that it can be copied
    for block in analysis.blocks:
        lines += ["", *_block_table(analysis, block, width)]
    caveats = verdict.caveats[:MAX_CAVEATS]
    lines += [""] if caveats else []
    lines += [line for caveat in caveats for line in _wrap(f"note: {caveat}", width, rest="  ")]
    if len(verdict.caveats) > len(caveats):
        lines.append(f"{formatting.count_noun(len(verdict.caveats) - len(caveats), 'more note')} on the page.")
    return "\n".join([*lines, "", f"page: {page.resolve()}"])


def _wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most `width`, except for single words that are longer."""
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False) or [""]


def _block_table(analysis: Analysis, block: str, width: int) -> Iterator[str]:
    """The arms of one block, best first, as lines of columns."""
    sweep, design, metric = analysis.sweep, analysis.sweep.design, analysis.sweep.score_metric
    means, is_planned_block = analysis.arm_means[block], block in design.blocks
    key = design.numeric_keys[0] if len(design.numeric_keys) == 1 and is_planned_block else None
    head = ["arm", "n", f"mean {formatting.metric_name(metric)}", f"{formatting.percent(LEVEL)} interval"]
    head += [*([f"chosen {key.rpartition('.')[2]}"] if key else []), "trials", "diverged or failed"]
    runs = analysis.full_sweep.runs
    runs = runs[runs["block"] == block] if is_planned_block else runs
    trials = runs[runs["stage"] == "tune"].groupby("arm").size().to_dict()
    lost = runs[runs["state"].isin(["diverged", "failed", "killed"])].groupby("arm").size().to_dict()
    failed = {rate.arm: f"{rate.failed} of {rate.n}" for rate in analysis.verdict.failure_rates.get(block, ()) if rate.failed}
    if failed:
        head.insert(4, "failed")
    rows: list[list[str]] = []
    for arm in [*means, *(arm for arm in design.arms if arm not in means and (design.declared or trials.get(arm)))]:
        mean = means.get(arm)
        cells = [shorten(arm, length=MAX_NAME), str(mean.n if mean else 0), formatting.score(mean.mean if mean else None, metric)]
        cells.append("none" if mean is None or mean.low is None else _format_interval(mean.low, mean.high, metric))
        if failed:
            cells.append(failed.get(arm, ""))
        if key:
            cells.append(formatting.chosen_settings(sweep.settings(arm, block, key)))
        rows.append([*cells, str(trials.get(arm, 0)), str(lost.get(arm, 0) or "")])
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    if len(design.blocks) > 1:
        yield f"{block}:"
    yield from _align_columns(head, rows, width)


def _format_interval(low: float, high: float | None, metric: str) -> str:
    if metric.endswith("accuracy"):  # Student's t knows no ends of a scale
        low, high = max(0.0, low), high if high is None else min(1.0, high)
    return f"{formatting.score(low, metric).removesuffix(' %')} to {formatting.score(high, metric)}"


def _align_columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Plain columns, numbers to the right; columns at the end that do not fit are left out."""
    sizes = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    fitting = max(n for n in range(1, len(sizes) + 1) if n <= 4 or sum(sizes[:n]) + 2 * (n - 1) <= width)
    for line in (head, *rows):
        cells = [
            cell.ljust(size) if i == 0 else cell.rjust(size) for i, (cell, size) in enumerate(zip(line[:fitting], sizes, strict=False))
        ]
        yield "  ".join(cells).rstrip()
