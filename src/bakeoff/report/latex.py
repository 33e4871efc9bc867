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
    """Text with LaTeX's special characters escaped."""
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
    against, differences = tables.reference_arm(analysis, block), tables.signed_differences(analysis, block)
    keys = tuple(dict.fromkeys((*plan.numeric_keys, *plan.categorical_keys)))[:SETTINGS] if block in plan.blocks else ()
    percent = metric.endswith("accuracy")
    level = formatting.percent(LEVEL).replace(" %", r"\,\%")
    name_of_score = escape(f"{formatting.metric_name(metric).capitalize()}{' (%)' if percent else ''}")
    head = ["Arm", "$n$", name_of_score, f"{level} interval", f"$-$ {escape(against)}", "interval", "$p$", *map(escape, keys)]
    lines: list[list[str]] = []
    for arm, interval in analysis.arm_means[block].items():
        cells = [escape(arm), str(interval.n), _score(interval.mean, percent), _ends(interval.low, interval.high, percent)]
        difference = differences.get((arm, against))
        if difference is None:
            cells += ["", "", ""]
        else:
            interval_text = _ends(difference.low, difference.high, percent)
            cells += [_score(difference.advantage, percent, signed=True), interval_text, _p(difference.p_holm)]
        cells += [escape(formatting.chosen_settings(sweep.settings(arm, block, key))) for key in keys]
        lines.append(cells)
    where = f" ({block})" if len(plan.blocks) > 1 else ""
    unit = "studies" if plan.studies > 1 else "seeds"
    caption = (
        f"{plan.question}{where} Mean {formatting.metric_name(metric)} over the {unit} that learned with Student's t interval; paired "
        f"differences to {against} with intervals that hold over all planned analyses, $p$ corrected by Holm. "
        f"Margin: {formatting.difference(plan.margin, metric)}."
    )
    failed = [f"{rate.arm} {rate.failed} of {rate.n}" for rate in analysis.verdict.failure_rates.get(block, ()) if rate.failed]
    caption += f" Failed, collapsed or no better than guessing ({unit}): {', '.join(failed)}." if failed else ""
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
    """A table with its caption and label below a comment; a long one goes over several pages."""
    columns = "l" + "r" * (len(head) - 1)
    top = [r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    body = [" & ".join(cells) + r" \\" for cells in lines]
    comment = "% " + " ".join(line.split())
    caption_line, label_line = rf"\caption{{{caption}}}", rf"\label{{{label}}}"
    if long:
        start = [rf"\begin{{longtable}}{{{columns}}}", rf"{caption_line}{label_line}\\", *top, r"\endfirsthead", *top, r"\endhead"]
        end = [r"\bottomrule", r"\end{longtable}", ""]
    else:
        start = [r"\begin{table}", r"\centering", caption_line, label_line, rf"\begin{{tabular}}{{{columns}}}", *top]
        end = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([comment, *start, *body, *end])


def _score(value: float, percent: bool, *, signed: bool = False) -> str:
    number = f"{100 * value:{'+' if signed else ''}.2f}" if percent else f"{value:{'+' if signed else ''}.4g}"
    return f"${number}$" if number.startswith(("-", "+")) else number


def _ends(low: float | None, high: float | None, percent: bool) -> str:
    return "" if low is None or high is None else f"{_score(low, percent)} to {_score(high, percent)}"


def _p(p: float | None) -> str:
    return "" if p is None else "$<$0.001" if p < 0.001 else f"{p:.3f}"
