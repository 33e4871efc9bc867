"""Factorials: the mean of every value of a factor and of every pair of values; and how often runs have each diagnosis."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pandas as pd

from bakeoff.rendering.marks import FigureSpec, Heatmap, Mark
from bakeoff.report import formatting
from bakeoff.report.figures.context import MAX_LABELLED, FigureContext, axis_label, heatmap_axes, row_axes
from bakeoff.stats.factorial import FactorialAnova

#: The column of the table of runs with the names of a run's diagnoses, separated by spaces.
DIAGNOSES = "diagnoses"


def factor_figures(context: FigureContext) -> Iterator[FigureSpec]:
    """Every figure of the factors that has numbers, and the diagnoses where runs have any."""
    for anova in context.analysis.factorials:
        factors = list(dict.fromkeys(level.factor for level in anova.levels))
        yield from (level_figure(context, anova, factor) for factor in factors)
        yield from (interaction_figure(context, anova.block, first, second) for first, second in combinations(factors, 2))
    diagnoses = diagnosis_figure(context)
    if diagnoses is not None:
        yield diagnoses


def level_figure(context: FigureContext, anova: FactorialAnova, factor: str) -> FigureSpec:
    """The mean score with each value of one factor, over all values of the others; the best on top."""
    levels = [level for level in anova.levels if level.factor == factor]
    levels.sort(key=lambda level: level.interval.mean, reverse=context.design.goal != "maximize")
    marks, rows = list[Mark](), list[dict[str, object]]()
    for row, level in enumerate(levels):
        marks.append(context.mean_bar(level.interval, row, "", f"{factor} = {level.value}"))
        rows.append({"block": anova.block, "factor": factor, "value": level.value, **vars(level.interval)})
    axes = row_axes(axis_label(context.metric), [level.value for level in levels])
    name, title = context.name("levels", factor, block=anova.block), context.title(f"By {factor}", anova.block)
    return context.figure("effects", name, title, marks, axes, data=pd.DataFrame(rows))


def interaction_figure(context: FigureContext, block: str, first: str, second: str) -> FigureSpec:
    """The mean score of every combination of two factors' values, over all values of the others."""
    metric, scale = context.metric, context.scale
    choices = {planned.arm: planned.choices for planned in context.design.planned_arms}
    rows = [
        {first: str(choices[arm].get(first)), second: str(choices[arm].get(second)), "score": score}
        for arm, seeds in context.scores(block).items()
        for score in seeds.values()
    ]
    data = pd.DataFrame(rows).groupby([first, second], sort=False)["score"].agg(["mean", "count"]).reset_index()
    row_values, column_values = list(dict.fromkeys(data[first])), list(dict.fromkeys(data[second]))
    means = {(a, b): float(mean) for a, b, mean in zip(data[first], data[second], data["mean"], strict=True)}
    values = [[scale * means[a, b] if (a, b) in means else None for b in column_values] for a in row_values]
    low, high = scale * min(means.values()), scale * max(means.values())
    labelled = len(column_values) <= MAX_LABELLED
    labels = [["" if value is None or not labelled else f"{value:.4g}" for value in row] for row in values]
    hover = [[f"{a}, {b}: {formatting.score(means.get((a, b)), metric)}" for b in column_values] for a in row_values]
    heatmap = Heatmap(column_values, row_values, values, labels, hover, low=low if low < high else low - 1.0, high=high)
    axes = heatmap_axes(column_values, row_values, row_height=34)
    title = context.title(f"{first} by {second}, mean {axis_label(metric)}", block)
    return context.figure("effects", context.name("together", first, second, block=block), title, [heatmap], axes, data=data)


def diagnosis_figure(context: FigureContext) -> FigureSpec | None:
    """How many runs of each arm have each diagnosis; None where no run has any."""
    runs = context.analysis.full_sweep.runs
    if DIAGNOSES not in runs.columns or not runs[DIAGNOSES].astype(bool).any():
        return None
    diagnosed = runs.assign(name=runs[DIAGNOSES].str.split()).explode("name").dropna(subset=["name"])
    counts, totals = diagnosed.groupby(["arm", "name"]).size().to_dict(), runs.groupby("arm").size().to_dict()
    names = [str(name) for name in diagnosed["name"].value_counts().index]
    arms = [arm for arm in context.arm_order if arm in totals]
    values = [[float(counts.get((arm, name), 0)) for name in names] for arm in arms]
    labels = [[f"{count:.0f}" if count else "" for count in row] for row in values]
    hover, rows = list[list[str]](), list[dict[str, object]]()
    for arm in arms:
        hover.append([f"{arm}: {counts.get((arm, name), 0)} of {totals[arm]} runs {name}" for name in names])
        rows += [{"arm": arm, "diagnosis": name, "runs": counts.get((arm, name), 0), "of": totals[arm]} for name in names]
    columns = [name.replace("_", " ") for name in names]
    heatmap = Heatmap(columns, arms, values, labels, hover, high=max(map(max, values)))
    axes = heatmap_axes(columns, arms)
    title, data = "Runs with each diagnosis", pd.DataFrame(rows)
    return context.figure("diagnoses", "diagnoses", title, [heatmap], axes, data=data, wide=len(names) > 5)
