"""What all figures of a report share: the arms' order and looks, and the units of the axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bakeoff.rendering.palette import Style, styles
from bakeoff.rendering.plotly_backend import shortened, upright
from bakeoff.report import formatting
from bakeoff.report.analysis import Analysis
from bakeoff.stats.paired import ALL_BLOCKS

#: With more arms than this, figures with a line an arm begin with the best few of them.
MANY, FEW = 12, 8
#: Up to so many arms, cells of a table of colours have room for numbers.
CELLS = 12


@dataclass(frozen=True)
class FigureContext:
    """An analysis with what its figures have in common."""

    found: Analysis

    @property
    def blocks(self) -> tuple[str, ...]:
        """All blocks together, where there are several, and each."""
        return self.found.blocks

    @property
    def main(self) -> str:
        """The block that the verdict rests on: all together where there are several."""
        return self.found.blocks[0]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The arms, best first; those without a confirm score by their best tuning run, or at the end."""
        plan, sweep = self.found.sweep.design, self.found.sweep
        sign = -1.0 if plan.goal == "maximize" else 1.0
        ranked = [*self.found.arm_means[self.main]]
        tuned = {arm: [float(best["score"]) for b in plan.blocks if (best := sweep.best_trial(arm, b)) is not None] for arm in plan.arms}
        rest = [arm for arm in plan.arms if arm not in ranked]
        rest.sort(key=lambda arm: (not tuned[arm], sign * sum(tuned[arm]) / max(1, len(tuned[arm]))))
        return (*ranked, *rest)

    @cached_property
    def shown(self) -> frozenset[str]:
        """The arms with which figures of lines begin; empty where all of them fit."""
        plan = self.found.sweep.design
        if len(plan.arms) <= MANY:
            return frozenset()
        return frozenset(self.order[:FEW]) | ({plan.baseline} if plan.baseline is not None else set())

    @cached_property
    def looks(self) -> dict[str, Style]:
        """Each arm's look, those that are shown at first before the others, so that they are easiest to tell apart."""
        arms = self.found.sweep.design.arms
        return styles([*(arm for arm in arms if arm in self.shown), *(arm for arm in arms if arm not in self.shown)])

    @property
    def several(self) -> bool:
        """Whether there is more than one block."""
        return len(self.found.sweep.design.blocks) > 1

    def titled(self, text: str, block: str) -> str:
        """A title with its block, where there are several."""
        return f"{text}, {block}" if self.several else text


def unit(metric: str) -> float:
    """What scores are multiplied by where they are drawn: accuracies are in percent."""
    return 100.0 if metric.endswith("accuracy") else 1.0


def axis(metric: str) -> str:
    """The name of a metric's axis."""
    return f"{formatting.metric_name(metric)} (%)" if metric.endswith("accuracy") else formatting.metric_name(metric)


def stem(*parts: str) -> str:
    """A file's name without ending: plain letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(part for part in parts if part).lower()).strip("-")[:80] or "figure"


def place(block: str) -> str:
    """A block as part of a file's name."""
    return "overall" if block == ALL_BLOCKS else block


def squared(columns: Sequence[str], rows: int, *, each: int) -> int:
    """The height of a table of colours with rows of so many pixels, its columns' names upright where they do not fit side by side."""
    names = 7 * max(len(shortened(name)) for name in columns) if upright(columns) else 24
    return 34 + names + rows * each


def tall(rows: int) -> int:
    """The height of a figure with so many rows, in pixels."""
    return 84 + round(rows * (32 if rows <= 12 else 24 if rows <= 24 else 18))
