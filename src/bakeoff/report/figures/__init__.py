"""The figures of a report: each once as marks, drawn from these on the page and on paper."""

from __future__ import annotations

import dataclasses
from collections import Counter

from bakeoff.rendering.marks import FigureSpec
from bakeoff.report.analysis import Analysis
from bakeoff.report.figures import comparisons, curves, factors, tuning
from bakeoff.report.figures.context import FigureContext

#: Arms in the page's first picture.
FIRST = 10


def all_of(found: Analysis) -> tuple[FigureSpec, ...]:
    """Every figure that has numbers, in the page's order; no two share a name, which is the stem of their files."""
    scene, seen, drawn = FigureContext(found), Counter[str](), list[FigureSpec]()
    for room in (comparisons, factors, curves, tuning):
        for drawing in room.all_of(scene):
            seen[drawing.name] += 1
            again = seen[drawing.name]
            drawn.append(dataclasses.replace(drawing, name=f"{drawing.name}-{again}") if again > 1 else drawing)
    return tuple(drawn)


def first(found: Analysis) -> FigureSpec | None:
    """The page's first picture: the best arms' scores; where there is no confirm run, what tuning has found."""
    scene = FigureContext(found)
    if found.arm_means[scene.main]:
        return comparisons.scores(scene, scene.main, most=FIRST)
    plan = found.sweep.design
    pairs = ((block, key) for key in plan.numeric_keys for block in plan.blocks)
    beginning = next((drawn for block, key in pairs if (drawn := tuning.tuning(scene, block, key)) is not None), None)
    return None if beginning is None else dataclasses.replace(beginning, name="first-look")


def with_first(found: Analysis, drawn: tuple[FigureSpec, ...]) -> tuple[FigureSpec, ...]:
    """The figures of `all_of` and the first picture, each name once."""
    beginning = first(found)
    return drawn if beginning is None or any(one.name == beginning.name for one in drawn) else (beginning, *drawn)


__all__ = ["all_of", "first", "with_first"]
