"""What all figures of a report share: the order and the styles of the arms, units, names of files and heights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from bakeoff.rendering.marks import AxesSpec, ErrorBar, FigureSpec, Mark, needs_upright_names, shorten
from bakeoff.rendering.palette import Style, styles
from bakeoff.report import formatting
from bakeoff.report.analysis import Analysis
from bakeoff.report.design import SweepDesign
from bakeoff.report.results import SweepResults
from bakeoff.stats.intervals import MeanInterval
from bakeoff.stats.scores import ALL_BLOCKS, mean_over_blocks

#: With more arms than this, figures with a line for each arm start with the best few of them.
MANY_ARMS, FEW_ARMS = 12, 8
#: Up to so many arms, the cells of a heatmap have room for numbers.
MAX_LABELLED = 12


@dataclass(frozen=True)
class FigureContext:
    """An analysis and what its figures have in common."""

    analysis: Analysis

    @property
    def sweep(self) -> SweepResults:
        """The runs that the verdict rests on."""
        return self.analysis.sweep

    @property
    def design(self) -> SweepDesign:
        """The plan of the sweep."""
        return self.analysis.sweep.design

    @property
    def metric(self) -> str:
        """The metric that arms are scored by."""
        return self.analysis.sweep.score_metric

    @property
    def scale(self) -> float:
        """What scores are multiplied by in figures."""
        return display_scale(self.metric)

    @property
    def main_block(self) -> str:
        """The block that the verdict rests on: all together where there are several."""
        return self.analysis.blocks[0]

    @property
    def has_several_blocks(self) -> bool:
        """Whether the sweep has more than one block."""
        return len(self.design.blocks) > 1

    @cached_property
    def arm_order(self) -> tuple[str, ...]:
        """The arms, best first; those without a confirm score by their best tuning run, or at the end."""
        sign = -1.0 if self.design.goal == "maximize" else 1.0
        ranked = list(self.analysis.arm_means[self.main_block])
        tuned: dict[str, list[float]] = {}
        for arm in self.design.arms:
            trials = [self.sweep.best_trial(arm, block) for block in self.design.blocks]
            tuned[arm] = [float(trial["score"]) for trial in trials if trial is not None]
        rest = [arm for arm in self.design.arms if arm not in ranked]
        rest.sort(key=lambda arm: (not tuned[arm], sign * sum(tuned[arm]) / max(1, len(tuned[arm]))))
        return (*ranked, *rest)

    @cached_property
    def visible_arms(self) -> frozenset[str]:
        """The arms that figures of lines start with; empty where all of them fit."""
        if len(self.design.arms) <= MANY_ARMS:
            return frozenset()
        return frozenset(self.arm_order[:FEW_ARMS]) | ({self.design.baseline} if self.design.baseline is not None else set())

    @cached_property
    def styles(self) -> dict[str, Style]:
        """The style of each arm; arms that are shown at first come first, which keeps them easiest to tell apart."""
        return styles(sorted(self.design.arms, key=lambda arm: arm not in self.visible_arms))

    def scores(self, block: str) -> Mapping[str, Mapping[int, float]]:
        """The confirm scores of a block, arm -> seed -> score; of all blocks together their means."""
        scores = self.sweep.scores()
        return mean_over_blocks(scores, self.design.arms) if block == ALL_BLOCKS else scores[block]

    def title(self, text: str, block: str) -> str:
        """A title with its block, where there are several."""
        return f"{text}, {block}" if self.has_several_blocks else text

    def name(self, *parts: str, block: str) -> str:
        """The stem of a figure's files, with its block where there are several."""
        return file_stem(*parts, block_stem(block) if self.has_several_blocks else "")

    def error_bar(self, value: float, low: float | None, high: float | None, row: int, arm: str, hover: str) -> ErrorBar:
        """A value with its interval on a row, in the unit that figures show."""
        low, high = (None if end is None else self.scale * end for end in (low, high))
        return ErrorBar(self.scale * value, row, low, high, arm, hover)

    def describe_interval(self, value: float, low: float | None, high: float | None) -> str:
        """A score with its interval, where there is one."""
        text, *ends = (formatting.score(number, self.metric) for number in (value, low, high))
        return text if low is None else f"{text}, {ends[0]} to {ends[1]}"

    def mean_bar(self, mean: MeanInterval, row: int, arm: str, label: str) -> ErrorBar:
        """A mean with its interval on a row."""
        ends = mean.mean, mean.low, mean.high
        return self.error_bar(*ends, row, arm, f"{label}: mean {self.describe_interval(*ends)}, n = {mean.n}")

    def figure(
        self, section: str, name: str, title: str, marks: Sequence[Mark], axes: AxesSpec, *, data: pd.DataFrame, wide: bool = False
    ) -> FigureSpec:
        """A figure in a section of the report, with the styles of the arms and all of them shown."""
        return FigureSpec(name, title, marks, axes, styles=self.styles, data=data, section=section, wide=wide)

    def line_figure(self, section: str, name: str, title: str, marks: Sequence[Mark], axes: AxesSpec, *, data: pd.DataFrame) -> FigureSpec:
        """A figure with lines, which starts with the visible arms."""
        return dataclasses.replace(self.figure(section, name, title, marks, axes, data=data), visible=self.visible_arms)


def display_scale(metric: str) -> float:
    """What scores are multiplied by in figures: accuracies are shown in percent."""
    return 100.0 if metric.endswith("accuracy") else 1.0


def axis_label(metric: str) -> str:
    """The title of a metric's axis."""
    return f"{formatting.metric_name(metric)} (%)" if metric.endswith("accuracy") else formatting.metric_name(metric)


def file_stem(*parts: str) -> str:
    """A file's name without suffix: plain letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(part for part in parts if part).lower()).strip("-")[:80] or "figure"


def block_stem(block: str) -> str:
    """A block as part of a file's name."""
    return "overall" if block == ALL_BLOCKS else block


def heatmap_axes(columns: Sequence[str], rows: Sequence[str], *, row_height: int | None = None) -> AxesSpec:
    """Axes high enough for the rows of a heatmap, of `row_height` pixels each, and the names of its columns above them."""
    row_height = row_height or (30 if len(rows) <= MAX_LABELLED else 19)
    names = 7 * max(len(shorten(name)) for name in columns) if needs_upright_names(columns) else 24
    return AxesSpec(height=34 + names + len(rows) * row_height)


def row_axes(label: str, rows: Sequence[str], *, log_x: bool = False) -> AxesSpec:
    """Axes high enough for named rows, from the bottom."""
    row_height = 32 if len(rows) <= 12 else 24 if len(rows) <= 24 else 18
    return AxesSpec(label, log_x=log_x, rows=rows, height=84 + len(rows) * row_height)
