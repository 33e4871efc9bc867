"""The figures of a report: each described once, and drawn from that on the page and in files for papers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import chain

from bakeoff.rendering.marks import FigureSpec
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures.comparisons import comparison_figures, score_figure
from bakeoff.report.figures.context import FigureContext
from bakeoff.report.figures.curves import curve_figures
from bakeoff.report.figures.factors import factor_figures
from bakeoff.report.figures.tuning import tuned_key_figure, tuning_figures

#: Arms in the page's first figure.
LEADING_ARMS = 10


def section_figures(analysis: Analysis) -> tuple[FigureSpec, ...]:
    """Every figure that has numbers, in the page's order; no two share a name."""
    context, names, figures = FigureContext(analysis), Counter[str](), list[FigureSpec]()
    for figure in chain(comparison_figures(context), factor_figures(context), curve_figures(context), tuning_figures(context)):
        names[figure.name] += 1
        count = names[figure.name]
        figures.append(dataclasses.replace(figure, name=f"{figure.name}-{count}") if count > 1 else figure)
    return tuple(figures)


def leading_figure(analysis: Analysis) -> FigureSpec | None:
    """The figure beside the verdict: the scores of the best arms; without confirm runs, the first figure of the tuning runs."""
    context = FigureContext(analysis)
    if analysis.arm_means[context.main_block]:
        return score_figure(context, context.main_block, max_arms=LEADING_ARMS)
    for key in context.design.numeric_keys:
        for block in context.design.blocks:
            figure = tuned_key_figure(context, block, key)
            if figure is not None:
                return dataclasses.replace(figure, name="first-look")
    return None


def all_figures(analysis: Analysis) -> tuple[FigureSpec, ...]:
    """The figures of the sections and the leading figure, each name once."""
    figures, leading = section_figures(analysis), leading_figure(analysis)
    return figures if leading is None or any(figure.name == leading.name for figure in figures) else (leading, *figures)


__all__ = ["all_figures", "leading_figure", "section_figures"]
