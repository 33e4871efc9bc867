"""The best score against the number of tuning runs, and from how many on one arm is ahead of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bakeoff.report import formatting
from bakeoff.report.design import INDEPENDENT_SAMPLERS
from bakeoff.report.results import SweepResults
from bakeoff.stats.intervals import ALPHA

Array = npt.NDArray[np.float64]
#: Beyond this many trials the tight bands of Learned-Miller and DeStefano take long; Kolmogorov and Smirnov's are as valid.
MOST_TIGHT = 64
LEAST = 4


@dataclass(frozen=True)
class Curve:
    """The median, over draws of `budget` tuning runs, of the best score among them, for budgets from 1 to as many as were run.

    `low`..`high` hold over all budgets at once with 95 %; `bands` names their kind. An end is open (None) where so few trials rule
    nothing out and the score has no bound of its own.
    """

    arm: str
    block: str
    n: int
    budgets: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    bands: str


@dataclass(frozen=True)
class Overtake:
    """From `budget` to `until` tuning runs `better` is ahead of `worse` in median best score; beyond, these trials cannot tell.

    All such statements of a block hold at once with 95 %. Of budgets near the number of trials little can be said: what lies above the
    best score that was seen, and how often, is not known.
    """

    block: str
    better: str
    worse: str
    budget: int
    until: int


@dataclass(frozen=True)
class Budgets:
    """Budget curves and what follows from them; `missing` says in a sentence why there are none."""

    curves: tuple[Curve, ...] = ()
    overtakes: tuple[Overtake, ...] = ()
    missing: str = ""


def budgets(sweep: SweepResults) -> Budgets:
    """Median tuning curves with simultaneous bands (Lourie, Cho and He 2024; the library is theirs).

    They hold where points are drawn independently of the scores; a sampler that learns, and a pruner, are refused. Trials that
    diverged count as worse than all others.
    """
    plan = sweep.design
    if plan.sampler not in INDEPENDENT_SAMPLERS:
        reason = f"Budget curves hold for independent draws only, and sampler {plan.sampler} chose its points by the scores before them."
        return Budgets(missing=reason if plan.sampler != "grid" else "Budget curves hold for independent draws only, and a grid has none.")
    if plan.pruner is not None:
        return Budgets(missing=f"Budget curves need every trial's final score, and pruner {plan.pruner} stopped some.")
    curves, overtakes = list[Curve](), list[Overtake]()
    for block in plan.blocks:
        tried = {arm: _scores(sweep, arm, block) for arm in plan.arms}
        tried = {arm: values for arm, values in tried.items() if len(values) >= LEAST}
        wide = {arm: curve(values, level=1 - ALPHA / len(tried), minimize=plan.goal == "minimize") for arm, values in tried.items()}
        for arm, values in tried.items():
            low, median, high, kind = curve(values, level=1 - ALPHA, minimize=plan.goal == "minimize")
            bounds = _bounds(plan.metric)
            count = tuple(range(1, len(values) + 1))
            curves.append(Curve(arm, block, len(values), count, _finite(median, bounds), _finite(low, bounds), _finite(high, bounds), kind))  # type: ignore[arg-type]
        overtakes += _overtakes(block, wide, minimize=plan.goal == "minimize")
    if not curves:
        return Budgets(missing=f"No arm has {formatting.count_noun(LEAST, 'tuning run')} with a score, so there is no budget curve.")
    return Budgets(tuple(curves), tuple(overtakes))


def _bounds(metric: str) -> tuple[float, float]:
    return (0.0, 1.0) if metric.endswith("accuracy") else (0.0, np.inf)


def _finite(values: Array, bounds: tuple[float, float]) -> tuple[float | None, ...]:
    clipped = np.clip(values, *bounds)
    return tuple(float(value) if np.isfinite(value) else None for value in clipped)


def _scores(sweep: SweepResults, arm: str, block: str) -> Array:
    rows = sweep.stage_runs("tune")
    rows = rows[(rows["arm"] == arm) & (rows["block"] == block) & rows["state"].isin(["finished", "diverged"])]
    lost = -np.inf if sweep.design.goal == "maximize" else np.inf
    return rows["score"].where(rows["state"] == "finished", lost).dropna().to_numpy(dtype=float)


def curve(values: Array, *, level: float, minimize: bool) -> tuple[Array, Array, Array, str]:
    """(low, median, high, kind of the band) of the tuning curve at budgets 1 to n.

    A quantile of the best of k commutes with every growing function, so the library works on the ranks 1 to n, whose bands depend on n
    alone, and 0 and n + 1 stand for what lies beyond the sample.
    """
    places, kind = rank_bands(len(values), level, minimize)
    steps = np.concatenate([[-np.inf], np.sort(values), [np.inf]])
    low, median, high = (steps[place] for place in places)
    return low, median, high, kind


@lru_cache(maxsize=256)
def rank_bands(n: int, level: float, minimize: bool) -> tuple[tuple[npt.NDArray[np.int64], ...], str]:
    """Ranks of the lower band, the median curve and the upper band at budgets 1 to n, and the kind of the band."""
    from opda.nonparametric import EmpiricalDistribution

    kind = "ld_highest_density" if n <= MOST_TIGHT // 4 else "ld_equal_tailed" if n <= MOST_TIGHT else "ks"
    bands = EmpiricalDistribution.confidence_bands(
        np.arange(1.0, n + 1), confidence=level, a=0.0, b=n + 1.0, generator=np.random.default_rng(0), method=kind, n_jobs=1
    )
    curves = [band.quantile_tuning_curve(np.arange(1, n + 1), minimize=minimize) for band in bands]
    middle = curves[1]
    outer = np.sort([curves[0], curves[2]], axis=0)
    return tuple(np.rint(ranks).astype(int) for ranks in (outer[0], middle, outer[1])), kind


def _overtakes(block: str, bands: dict[str, tuple[Array, Array, Array, str]], *, minimize: bool) -> Sequence[Overtake]:
    overtakes: list[Overtake] = []
    for a, (low_a, _, high_a, _) in bands.items():
        for b, (low_b, _, high_b, _) in bands.items():
            n = min(len(low_a), len(low_b))
            ahead = (high_a[:n] < low_b[:n]) if minimize else (low_a[:n] > high_b[:n])
            if a != b and ahead.any():
                first = int(np.argmax(ahead))
                behind = np.flatnonzero(~ahead[first:])
                overtakes.append(Overtake(block, a, b, first + 1, first + int(behind[0]) if len(behind) else n))
    return overtakes
