"""The report as one page: verdict, evidence, and where the numbers come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bakeoff.rendering.marks import FigureSpec
from bakeoff.rendering.page import Bullets, Download, Legend, LegendEntry, Plot, Section, Table, render_page
from bakeoff.rendering.plotly_backend import plotly_spec
from bakeoff.report import formatting, origin_sections, sections, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures import leading_figure
from bakeoff.report.figures.context import FigureContext
from bakeoff.report.results import SweepResults
from bakeoff.report.verdict import Verdict

GRADES = {"unknown": "undecided", "interim": "unfinished"}
#: Section -> its name in the line of links at the top, where that is not the section's key.
LINKS = {
    "families": "simultaneous",
    "aggregate": "profiles",
    "effects": "factors",
    "curves": "learning curves",
    "target": "time to target",
    "search": "tuning",
    "tuning": "repeated tuning",
    "region": "sensitivity",
    "again": "reproduce",
}
#: Sentences of the verdict that are shown at first; the others are folded.
MAX_DETAILS = 3
#: Caveats beyond which their list starts folded.
MAX_CAVEATS = 6

#: Sweeps that are compared with each other, each with its own verdict.
Parts = Sequence[tuple[SweepResults, Verdict]]


def report_page(analysis: Analysis, arm_rows: pd.DataFrame, figures: Sequence[FigureSpec], *, parts: Parts = ()) -> str:
    """The whole page.

    Args:
        analysis: What is reported.
        arm_rows: The table of `tables.arms_table`.
        figures: The figures of the sections.
        parts: Where several sweeps are compared: each of them with its own verdict.

    Returns:
        HTML that needs no network, no storage and no other file.
    """
    leading = leading_figure(analysis)
    # Where all arms are in the leading figure, it is not shown again among the evidence.
    plots: dict[str, list[Plot]] = {}
    for figure in figures:
        if leading is None or figure.name != leading.name:
            plots.setdefault(figure.section, []).append(plot_block(figure, analysis))
    evidence = sections.evidence_sections(analysis, arm_rows, plots)
    missing = sections.missing_evidence(analysis, {figure.section for figure in figures})
    closing = [Section("What is missing, and why", [Bullets(missing)], key="missing")] if missing else []
    closing += origin_sections.origin_sections(analysis)
    verdict, design = analysis.verdict, analysis.sweep.design
    return render_page(
        "report.html.j2",
        package="bakeoff.report",
        interactive=True,
        title=design.question,
        kicker=f"bakeoff report \N{MIDDLE DOT} {analysis.full_sweep.title}",
        grade=verdict.grade.replace(" ", "-"),
        grade_label=GRADES.get(verdict.grade, verdict.grade),
        headline=verdict.headline,
        details=verdict.details[:MAX_DETAILS],
        more_details=verdict.details[MAX_DETAILS:],
        facts=_facts(analysis),
        caveats=verdict.caveats,
        caveats_open=len(verdict.caveats) <= MAX_CAVEATS,
        leading=plot_block(leading, analysis) if leading is not None else None,
        parts=_parts_section(parts) if parts else None,
        links={section.key: LINKS.get(section.key, section.key) for section in (*evidence, *closing) if section.key != "missing"},
        legend=_legend(analysis) if figures else None,
        sections=[*evidence, *closing],
    )


def plot_block(figure: FigureSpec, analysis: Analysis) -> Plot:
    """A figure with its numbers as CSV and the command that makes it again."""
    command = f"{tables.reproduction_commands(analysis.full_sweep)['report']} --figure {shlex.quote(figure.name)}"
    download = Download.csv(figure.name, figure_csv(figure))
    return Plot(figure.name, plotly_spec(figure), figure.title, wide=figure.wide, download=download, command=command)


def figure_csv(figure: FigureSpec) -> str:
    """The numbers of a figure as CSV."""
    return formatting.inert_cells(figure.data).to_csv(index=False, lineterminator="\n")


def write_page(analysis: Analysis, arm_rows: pd.DataFrame, figures: Sequence[FigureSpec], folder: Path, *, parts: Parts = ()) -> Path:
    """Writes the page.

    Args:
        analysis: What is reported.
        arm_rows: The table of `tables.arms_table`.
        figures: The figures of the sections.
        folder: Where index.html goes; it exists.
        parts: Where several sweeps are compared: each of them with its own verdict.

    Returns:
        The path of index.html.
    """
    path = folder / "index.html"
    path.write_text(report_page(analysis, arm_rows, figures, parts=parts), encoding="utf-8")
    return path


def _facts(analysis: Analysis) -> Mapping[str, str]:
    """The size of the sweep, as planned and as it is."""
    sweep, design = analysis.full_sweep, analysis.sweep.design
    counts = sweep.runs["stage"].value_counts()
    tune, confirm = int(counts.get("tune", 0)), int(counts.get("confirm", 0))
    return {
        "arms": str(len(design.arms)),
        "blocks": str(len(design.blocks)),
        "studies of each": str(design.studies),
        "tuning runs": f"{tune} of {design.trials}" if design.declared and tune != design.trials else str(tune),
        "confirm runs": f"{confirm} of {design.confirm_runs}" if design.declared and confirm < design.confirm_runs else str(confirm),
        "score": formatting.metric_name(sweep.score_metric),
        "margin": formatting.difference(design.margin, sweep.score_metric),
    }


def _legend(analysis: Analysis) -> Legend:
    context = FigureContext(analysis)
    visible = context.visible_arms
    entries = [LegendEntry(arm, context.styles[arm], not visible or arm in visible) for arm in context.arm_order]
    return Legend(entries, label="Arms: press to hide or show")


def _parts_section(parts: Parts) -> Section:
    """Each of several sweeps by itself: its question, grade and verdict are planned, unlike what is compared across sweeps."""
    rows = []
    for sweep, verdict in parts:
        arms, confirm_runs = str(len(sweep.design.arms)), str(len(sweep.stage_runs("confirm")))
        grade, command = GRADES.get(verdict.grade, verdict.grade), tables.reproduction_commands(sweep)["report"]
        rows.append([sweep.title, sweep.design.question, grade, verdict.headline, arms, confirm_runs, command])
    head = ["sweep", "question", "grade", "verdict", "arms", "confirm runs", "its own report"]
    note = "Each sweep was planned and has its own verdict. The rest of this page compares runs across sweeps, which no plan declared."
    return Section("The sweeps", [Table(head, rows, code_column=len(head) - 1, wrap=True)], [note], key="sweeps")
