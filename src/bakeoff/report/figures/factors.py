"""Factorials: the mean of every factor's values, every two factors together; and how often runs were diagnosed with what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import pandas as pd

from bakeoff.rendering.marks import FigureSpec, Frame, Heat, Interval, Mark
from bakeoff.report import formatting
from bakeoff.report.figures.context import CELLS, FigureContext, axis, place, squared, stem, tall, unit
from bakeoff.stats.paired import ALL_BLOCKS, mean_over_blocks

#: The column of `Sweep.runs` with the names of a run's diagnoses, a space between.
DIAGNOSES = "diagnoses"


def all_of(scene: FigureContext) -> Iterator[FigureSpec]:
    """Every figure of the factors that has numbers, and the diagnoses where runs have any."""
    for each in scene.found.factorials:
        yield from (levels(scene, each.block, factor) for factor in dict.fromkeys(one.factor for one in each.levels))
        varied = list(dict.fromkeys(one.factor for one in each.levels))
        yield from (together(scene, each.block, a, b) for a, b in combinations(varied, 2))
    told = diagnoses(scene)
    if told is not None:
        yield told


def levels(scene: FigureContext, block: str, factor: str) -> FigureSpec:
    """The mean score with each value of one factor, over all values of the others."""
    metric, scale = scene.found.sweep.score_metric, unit(scene.found.sweep.score_metric)
    each = next(one for one in scene.found.factorials if one.block == block)
    told = sorted((one for one in each.levels if one.factor == factor), key=lambda one: one.interval.mean)
    told = told if scene.found.sweep.design.goal == "maximize" else told[::-1]
    marks, rows = list[Mark](), list[dict[str, object]]()
    for row, one in enumerate(told):
        low, high = (None if end is None else scale * end for end in (one.interval.low, one.interval.high))
        words = f"{factor} = {one.value}: mean {formatting.score(one.interval.mean, metric)}, n = {one.interval.n} seeds"
        marks.append(Interval(scale * one.interval.mean, row, low, high, "", words))
        rows.append({"block": block, "factor": factor, "value": one.value, **vars(one.interval)})
    frame = Frame(x=axis(metric), rows=[one.value for one in told], height=tall(len(told)))
    name = stem("levels", factor, place(block) if scene.several else "")
    return FigureSpec(name, "effects", scene.titled(f"By {factor}", block), marks, frame, pd.DataFrame(rows))


def together(scene: FigureContext, block: str, first: str, second: str) -> FigureSpec:
    """The mean score of every combination of two factors' values, over all else."""
    sweep, plan = scene.found.sweep, scene.found.sweep.design
    metric, scale = sweep.score_metric, unit(sweep.score_metric)
    table: Mapping[str, Mapping[int, float]] = mean_over_blocks(sweep.scores(), plan.arms) if block == ALL_BLOCKS else sweep.scores()[block]
    choices = {cell.arm: cell.choices for cell in plan.planned_arms}
    rows = [
        {first: str(choices[arm].get(first)), second: str(choices[arm].get(second)), "score": score}
        for arm, seeds in table.items()
        for score in seeds.values()
    ]
    data = pd.DataFrame(rows).groupby([first, second], sort=False)["score"].agg(["mean", "count"]).reset_index()
    down, across = list(dict.fromkeys(data[first])), list(dict.fromkeys(data[second]))
    means = {(a, b): float(m) for a, b, m in zip(data[first], data[second], data["mean"], strict=True)}
    values = [[scale * means[a, b] if (a, b) in means else None for b in across] for a in down]
    seen = [value for row in values for value in row if value is not None]
    low, high = min(seen), max(seen)
    few = len(across) <= CELLS
    cells = [["" if v is None or not few else f"{v:.4g}" for v in row] for row in values]
    words = [[f"{a}, {b}: {formatting.score(means.get((a, b)), metric)}" for b in across] for a in down]
    name = stem("together", first, second, place(block) if scene.several else "")
    heat = Heat(across, down, values, cells, words, top=high, bottom=low if low < high else low - 1.0)
    title = scene.titled(f"{first} by {second}, mean {axis(metric)}", block)
    return FigureSpec(name, "effects", title, [heat], Frame(height=squared(across, len(down), each=34)), data)


def diagnoses(scene: FigureContext) -> FigureSpec | None:
    """How many runs of each arm have each diagnosis; None where no run has any."""
    runs = scene.found.full_sweep.runs
    if DIAGNOSES not in runs.columns or not runs[DIAGNOSES].astype(bool).any():
        return None
    told = runs.assign(name=runs[DIAGNOSES].str.split()).explode("name").dropna(subset=["name"])
    counts, totals = told.groupby(["arm", "name"]).size().to_dict(), runs.groupby("arm").size().to_dict()
    names = [str(name) for name in told["name"].value_counts().index]
    arms = [arm for arm in scene.order if arm in totals]
    values = [[counts.get((arm, name), 0) for name in names] for arm in arms]
    cells = [[str(v) if v else "" for v in row] for row in values]
    words = [
        [f"{arm}: {v} of {totals[arm]} runs {name}" for name, v in zip(names, row, strict=True)]
        for arm, row in zip(arms, values, strict=True)
    ]
    data = pd.DataFrame(
        [
            {"arm": a, "diagnosis": n, "runs": v, "of": totals[a]}
            for a, r in zip(arms, values, strict=True)
            for n, v in zip(names, r, strict=True)
        ]
    )
    spaced = [name.replace("_", " ") for name in names]
    heat = Heat(spaced, arms, [[float(v) for v in row] for row in values], cells, words, top=float(max(map(max, values))))
    height = squared(spaced, len(arms), each=30 if len(arms) <= CELLS else 19)
    return FigureSpec(
        "diagnoses", "diagnoses", "Runs with each diagnosis", [heat], Frame(height=height), data, scene.looks, wide=len(names) > 5
    )
