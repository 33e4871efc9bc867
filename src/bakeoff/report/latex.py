"""The arms as LaTeX tables for papers, in the style of the package booktabs: one for all blocks together, and one for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bakeoff.report import formatting, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures.context import block_stem, file_stem
from bakeoff.stats.intervals import LEVEL

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "\n": " ",
    "\r": " ",
}
#: Rows beyond which a table goes over several pages.
LONG = 40
#: Tuned settings that are given a column.
SETTINGS = 2


def escape(text: object) -> str:
    """Any text as LaTeX sets it."""
    return "".join(ESCAPES.get(letter, letter) for letter in str(text))


def write_latex_tables(analysis: Analysis, out: Path) -> list[Path]:
    """Write arms-<block>.tex for each block with scores into the existing folder `out`."""
    written: dict[str, Path] = {}
    for block in analysis.blocks:
        if analysis.arm_means[block]:
            name = file_stem("arms", block_stem(block))
            while name in written:
                name += "-2"
            written[name] = out / f"{name}.tex"
            written[name].write_text(latex_table(analysis, block, name), encoding="utf-8")
    return list(written.values())


def latex_table(analysis: Analysis, block: str, name: str) -> str:
    r"""One table: n, mean, interval, the paired difference to the leader (or the baseline) with Holm's p, and tuned settings.

    `\usepackage{booktabs}`, and for more than `LONG` arms `\usepackage{longtable}`.
    """
    sweep, plan, metric = analysis.sweep, analysis.sweep.design, analysis.sweep.score_metric
    means = analysis.arm_means[block]
    against = plan.baseline if plan.baseline is not None and plan.baseline in means else next(iter(means))
    pairs = {(d.better, d.worse): d for d in analysis.verdict.differences if d.block == block}
    keys = (
        (*plan.numeric_keys, *(key for key in plan.categorical_keys if key not in plan.numeric_keys))[:SETTINGS]
        if block in plan.blocks
        else ()
    )
    percent = metric.endswith("accuracy")
    level = formatting.percent(LEVEL).replace(" ", r"\,")
    units = " (%)" if percent else ""
    head = ["Arm", "$n$", f"{formatting.metric_name(metric).capitalize()}{units}", f"{level} interval", f"$-$ {against}", "interval", "$p$"]
    head = [title if title.startswith("$") and "$-$" not in title else escape(title) for title in head]
    head[3], head[4] = level.replace("%", r"\%") + " interval", "$-$ " + escape(against)
    head += [escape(key) for key in keys]
    lines: list[list[str]] = []
    for arm, interval in means.items():
        cells = [escape(arm), str(interval.n), _score(interval.mean, percent), _ends(interval.low, interval.high, percent)]
        d = pairs.get((arm, against)) or pairs.get((against, arm))
        if d is None:
            cells += ["", "", ""]
        else:
            sign = 1 if d.better == arm else -1
            low, high = (None, None) if d.low is None or d.high is None else sorted((sign * d.low, sign * d.high))
            cells += [_score(sign * d.advantage, percent, signed=True), _ends(low, high, percent), _p(d.p_holm)]
        best = sweep.best_trial(arm, block) if keys else None
        cells += [
            "" if best is None else escape(formatting.significant(best[key]) if key in plan.numeric_keys else best[key]) for key in keys
        ]
        lines.append(cells)
    where = f" ({block})" if len(plan.blocks) > 1 else ""
    caption = (
        f"{plan.question}{where} Mean {formatting.metric_name(metric)} over the seeds with Student's t interval; paired differences to "
        f"{against} with intervals for one comparison, $p$ corrected by Holm. Margin: {formatting.difference(plan.margin, metric)}."
    )
    caption = escape(caption).replace(r"\$p\$", "$p$")
    return _framed(
        lines,
        head,
        caption,
        label=f"tab:{file_stem(plan.name, name)}",
        line=tables.reproduction_commands(analysis.full_sweep)["report"],
        long=len(lines) > LONG,
    )


def _framed(lines: Sequence[Sequence[str]], head: Sequence[str], caption: str, *, label: str, line: str, long: bool) -> str:
    columns = "l" + "r" * (len(head) - 1)
    top = [r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    body = [" & ".join(cells) + r" \\" for cells in lines]
    comment = "% " + line.replace("\n", " ")
    if long:
        return "\n".join(
            [
                comment,
                rf"\begin{{longtable}}{{{columns}}}",
                rf"\caption{{{caption}}}\label{{{label}}}\\",
                *top,
                r"\endfirsthead",
                *top,
                r"\endhead",
                *body,
                r"\bottomrule",
                r"\end{longtable}",
                "",
            ]
        )
    return "\n".join(
        [
            comment,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *top,
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _score(value: float, percent: bool, *, signed: bool = False) -> str:
    number = f"{100 * value:{'+' if signed else ''}.2f}" if percent else f"{value:{'+' if signed else ''}.4g}"
    return f"${number}$" if number.startswith(("-", "+")) else number


def _ends(low: float | None, high: float | None, percent: bool) -> str:
    return "" if low is None or high is None else f"{_score(low, percent)} to {_score(high, percent)}"


def _p(p: float | None) -> str:
    return "" if p is None else "$<$0.001" if p < 0.001 else f"{p:.3f}"
