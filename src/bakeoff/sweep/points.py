"""The points at which an arm is tuned: a list that is known, and the same for every arm, before the first of them is tried."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bakeoff.composition import Space

DIGITS = 6
"""Significant digits of a point: enough for any range, and a command line stays readable."""
Point = dict[str, float | int]


def points(spaces: Mapping[str, Space], *, trials: int, sampler: str, seed: int) -> tuple[Point, ...]:
    """`trials` points of `spaces`, one a key; scrambled Halton (Owen 2017; Halton 1960) or independent uniform draws.

    The same seed gives arms with equally many keys the same places in their spaces, so that they are tuned alike. Without spaces there
    is one point, since more would be the same run again; for `tpe` they are empty: each is drawn when its turn comes.
    """
    if not spaces:
        return ({},)
    if sampler == "tpe":
        return ({},) * trials
    return tuple(
        {key: place(spaces[key], float(at)) for key, at in zip(spaces, row, strict=True)}
        for row in unit(len(spaces), trials=trials, sampler=sampler, seed=seed)
    )


def unit(dimensions: int, *, trials: int, sampler: str, seed: int) -> list[list[float]]:
    """`trials` rows of numbers in [0, 1)."""
    import numpy as np

    if sampler == "random":
        drawn: list[list[float]] = np.random.default_rng(seed).random((trials, dimensions)).tolist()
        return drawn
    from scipy.stats import qmc

    rows: list[list[float]] = qmc.Halton(d=dimensions, scramble=True, rng=np.random.default_rng(seed)).random(trials).tolist()
    return rows


def place(space: Space, at: float) -> float | int:
    """The value at a share `at` in [0, 1) of a space's width, on the space's own scale."""
    if space.integer:
        return int(space.low) + math.floor(at * (int(space.high) - int(space.low) + 1))
    value = space.low * (space.high / space.low) ** at if space.log else space.low + at * (space.high - space.low)
    # Rounding must not leave the space.
    return min(max(float(f"{value:.{DIGITS}g}"), space.low), space.high)
