"""The points at which an arm is tuned: a list that is known, and the same for every arm, before the first of them is tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from bakeoff import seeds
from bakeoff.config.search_space import SearchSpace
from bakeoff.errors import PlanError
from bakeoff.sweep.spec import MAX_TRIALS, MODELS, Budget

DIGITS = 6
"""Significant digits of a point: enough for any range, and a command line stays readable."""
Point = dict[str, Any]


def points(spaces: Mapping[str, SearchSpace], *, budget: Budget, seed: int, studies: int = 1) -> tuple[Point, ...]:
    """The points of the first `studies` studies in turn. `PlanError` where a grid does not come out."""
    return tuple(point for study in range(studies) for point in study_points(spaces, budget=budget, seed=seed, study=study))


def study_points(spaces: Mapping[str, SearchSpace], *, budget: Budget, seed: int, study: int) -> tuple[Point, ...]:
    """The points of one study, one value a key: scrambled Halton (Halton 1960; Owen 2017), uniform draws, or a grid.

    The same seed gives arms with equally many keys the same places in their spaces, so that they are tuned alike; every study has a
    list of its own. Without spaces there is one point, since more would be the same run again; for samplers that ask in turn they are
    empty. `PlanError` where a grid does not come out.
    """
    if not spaces:
        return ({},)
    if budget.sampler in MODELS:
        return ({},) * budget.trials
    if budget.sampler == "grid":
        return grid(spaces, budget=budget)
    rows = unit(len(spaces), trials=budget.trials, sampler=budget.sampler, seed=study_seed(seed, study))
    return tuple({key: place(spaces[key], float(at)) for key, at in zip(spaces, row, strict=True)} for row in rows)


def study_seed(seed: int, study: int) -> int:
    """The seed of a study's sampler: the run's own for the first, streams of their own for the others."""
    return seed if study == 0 else seeds.derive_seed(seed, "study", study)


def unit(dimensions: int, *, trials: int, sampler: str, seed: int) -> list[list[float]]:
    """`trials` rows of numbers in [0, 1)."""
    import numpy as np

    if sampler == "random":
        drawn: list[list[float]] = np.random.default_rng(seed).random((trials, dimensions)).tolist()
        return drawn
    from scipy.stats import qmc

    rows: list[list[float]] = qmc.Halton(d=dimensions, scramble=True, rng=np.random.default_rng(seed)).random(trials).tolist()
    return rows


def grid(spaces: Mapping[str, SearchSpace], *, budget: Budget) -> tuple[Point, ...]:
    """Every combination of evenly spaced values, both ends among them: `budget.points` an axis, or a whole root of `budget.trials`."""
    numeric = [key for key, space in spaces.items() if not space.choices]
    chosen = math.prod(len(space.choices) for space in spaces.values() if space.choices)
    count = budget.points
    if count is None:
        count = round((budget.trials / chosen) ** (1 / len(numeric))) if numeric else 1
        if max(1, count) ** len(numeric) * chosen != budget.trials:
            fits = (
                [n for k in range(1, budget.trials + 2) if (n := k ** len(numeric) * chosen) <= 4 * budget.trials] if numeric else [chosen]
            )
            near = sorted(set(fits), key=lambda n: (abs(n - budget.trials), n))[:2]
            suggestion = " or ".join(map(str, sorted(near))) or str(chosen)
            raise PlanError(
                f"budget.trials={budget.trials}: no grid over {', '.join(spaces)} has so many points; {suggestion} would be one"
            )
    if count ** len(numeric) * chosen > MAX_TRIALS:
        raise PlanError(f"budget.points={count}: a grid over {', '.join(spaces)} has more than {MAX_TRIALS} points")
    for key in numeric:
        space = spaces[key]
        if space.integer and count > space.high - space.low + 1:
            raise PlanError(f"budget.points={count}: {key} has {int(space.high - space.low) + 1} whole numbers only")
    axes = [space.choices or tuple(along(space, k / (count - 1) if count > 1 else 0.5) for k in range(count)) for space in spaces.values()]
    return tuple(dict(zip(spaces, row, strict=True)) for row in itertools.product(*axes))


def place(space: SearchSpace, at: float) -> Any:
    """The value at a share `at` in [0, 1) of a space's width, on the space's own scale; choices have equal shares."""
    if space.choices:
        return space.choices[math.floor(at * len(space.choices))]
    if space.integer:
        return int(space.low) + math.floor(at * (int(space.high) - int(space.low) + 1))
    return along(space, at)


def along(space: SearchSpace, at: float) -> float | int:
    """The number at a share `at` in [0, 1] of the way from the low end to the high one."""
    if space.integer:
        return round(space.low + at * (space.high - space.low))
    if space.complement:
        value = 1 - (1 - space.low) * ((1 - space.high) / (1 - space.low)) ** at
    else:
        value = space.low * (space.high / space.low) ** at if space.log else space.low + at * (space.high - space.low)
    # Rounding must not leave the space.
    return min(max(float(f"{value:.{DIGITS}g}"), space.low), space.high)


def ends(space: SearchSpace) -> tuple[Any, ...]:
    """The outermost values of a space, or all of its choices."""
    if space.choices:
        return space.choices
    return (int(space.low), int(space.high)) if space.integer else (space.low, space.high)


def shown(value: Any, digits: int = 6) -> str:
    """A point's value in a message."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
