"""Means, intervals and paired differences: plain numbers in, plain numbers out.

Everything is computed from `Scores`: block -> arm -> seed -> score. A seed is shared by all arms, so arms are compared seed by seed.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bakeoff.stats.alpha_spending import ALPHA, SequentialDesign
from bakeoff.stats.repeated_intervals import additional_seeds, repeated_confidence_intervals, study_means

Scores = Mapping[str, Mapping[str, Mapping[int, float]]]
Grade = Literal["supported", "tie", "under-powered", "unknown", "interim", "exploratory"]
Goal = Literal["maximize", "minimize"]
Array = npt.NDArray[np.float64]

LEVEL = 1 - ALPHA
#: The name of the comparison over all blocks.
ALL_BLOCKS = "all blocks"
#: Of a permutation test; up to 13 seeds all sign flips are tried and the test is exact.
N_PERMUTATIONS = 9999
#: With more pairs than this, permutation tests are made against the arm with the best mean alone.
MAX_PERMUTED_PAIRS = 200


@dataclass(frozen=True)
class MeanInterval:
    """A mean and its Student t interval; `low` and `high` are None where fewer than two values leave the spread unknown."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedDifference:
    """How far `better` is ahead of `worse` on the seeds that both have.

    `advantage` is in units of the score and is >= 0 for either goal. `low`..`high` is what the looks so far (`look` of them) leave of
    it, for this one comparison: 95 % over all looks that the plan declares. `p` is the two-sided p of the paired t test over the looks,
    `p_holm` the same corrected over all pairs of the family (this block, or all blocks), `p_permutation` that of flipping the signs of
    the differences (None: not made). `ahead` is the share of seeds on which `better` is ahead, level ones counted half, with its 95 %
    interval. `more` is how many more seeds a power calculation asks for (None: none needed, or more than the plan has). Where tuning was
    repeated, a study counts once, with the mean of its seeds: `sd` is that of the `studies` means, and tests and shares are on them.
    """

    block: str
    better: str
    worse: str
    n: int
    advantage: float
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    grade: Grade
    more_seeds: int | None
    analyses: int = 1
    p_permutation: float | None = None
    ahead: float | None = None
    ahead_low: float | None = None
    ahead_high: float | None = None
    studies: int | None = None


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> MeanInterval:
    """The mean with Student's t interval, mean +- t(1 - (1-level)/2, n-1) sd / sqrt(n). ValueError where there is no value."""
    if not values:
        raise ValueError("mean_interval: no values")
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return MeanInterval(n, mean, None, None, None)
    sd = statistics.stdev(values)
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return MeanInterval(n, mean, sd, mean - half, mean + half)


def clustered_mean_interval(values: Mapping[int, float], unit_of: Mapping[int, int], *, level: float = LEVEL) -> MeanInterval:
    """`mean_interval` of seed -> value where a unit counts once, by its mean: seeds of one study share its setting, so they are one unit.

    n and sd are of all values.
    """
    whole = mean_interval(list(values.values()), level=level)
    groups: dict[int, list[float]] = {}
    for seed, value in values.items():
        groups.setdefault(unit_of[seed], []).append(value)
    told = mean_interval([statistics.fmean(group) for group in groups.values()], level=level)
    return replace(told, n=whole.n, sd=whole.sd)


def mean_over_blocks(scores: Scores, arms: Sequence[str]) -> dict[str, dict[int, float]]:
    """arm -> seed -> mean over the blocks, for seeds that the arm has in every block."""
    result: dict[str, dict[int, float]] = {}
    for arm in arms:
        per_block = [block.get(arm, {}) for block in scores.values()]
        shared = set.intersection(*(set(seeds) for seeds in per_block)) if per_block else set()
        result[arm] = {seed: statistics.fmean(seeds[seed] for seeds in per_block) for seed in sorted(shared)}
    return result


def compare_pairs(
    scores: Scores,
    arms: Sequence[str],
    *,
    goal: Goal,
    margin: float,
    looks: SequentialDesign | None = None,
    order: Sequence[int] = (),
    permuted: bool = True,
) -> list[PairedDifference]:
    """Every pair of arms over the blocks, where there is more than one, and in every block.

    Over the blocks a seed's score is its mean over the blocks: the claim is about the mean of these very blocks. Each block's pairs, and
    the pairs over the blocks, are a family of their own for Holm's correction; the verdict rests on one family only. `order` is the
    order of the seeds in the plan, which says at which look each came in; without `looks` all seeds are one look. `permuted`: permutation
    tests are made, too.
    """
    found: list[PairedDifference] = []
    tables = {ALL_BLOCKS: mean_over_blocks(scores, arms)} if len(scores) > 1 else {}
    tables |= {block: {arm: dict(seeds.get(arm, {})) for arm in arms} for block, seeds in scores.items()}
    for block, table in tables.items():
        seeds = list(dict.fromkeys([*order, *sorted({seed for own in table.values() for seed in own})]))
        seen = looks or SequentialDesign((max(1, len(seeds)),))
        found += compare_family(block, table, arms, goal=goal, margin=margin, looks=seen, seeds=seeds, permuted=permuted)
    return found


def compare_family(
    block: str,
    table: Mapping[str, Mapping[int, float]],
    arms: Sequence[str],
    *,
    goal: Goal,
    margin: float,
    looks: SequentialDesign,
    seeds: Sequence[int],
    permuted: bool = True,
) -> list[PairedDifference]:
    """All pairs of one family that share a seed, with Holm's p, a grade and the seeds that are missing.

    supported: Holm's p is below 5 % (for one pair that is: the interval excludes zero); tie: the interval lies within +-`margin`;
    under-powered: neither, and `more` seeds bring the next look that would find a difference as large as the one seen, or as the margin
    if that is larger, with 80 % power at that look's level divided by the number of pairs.
    """
    held = np.array([[table[arm].get(seed, math.nan) for seed in seeds] for arm in arms]).reshape(len(arms), len(seeds))
    first, second = np.triu_indices(len(arms), 1)
    gaps = (held[first] - held[second]) * (1.0 if goal == "maximize" else -1.0)
    shared = ~np.isnan(gaps).all(axis=1) if gaps.size else np.zeros(len(first), bool)
    gaps, first, second = gaps[shared], first[shared], second[shared]
    if not len(gaps):
        return []
    swap = np.where(np.nanmean(gaps, axis=1) < 0, -1.0, 1.0)
    gaps = gaps * swap[:, None]
    told = repeated_confidence_intervals(gaps, looks)
    corrected = holm(told.p)
    few = np.full(len(gaps), len(gaps) <= MAX_PERMUTED_PAIRS)
    chosen = (few | _against_best(held, first, second, goal)) & permuted
    votes = study_means(gaps, looks.studies)
    flipped = permutation_p(votes, chosen=chosen)
    ahead = win_shares(votes)
    more = additional_seeds(told, looks, margin=margin, pairs=len(gaps))
    result: list[PairedDifference] = []
    for i in range(len(gaps)):
        a, b = (first[i], second[i]) if swap[i] > 0 else (second[i], first[i])
        numbers = {k: _known(v[i]) for k, v in (("low", told.low), ("high", told.high), ("sd", told.sd), ("p", told.p))}
        grade = grade_difference(numbers["low"], numbers["high"], _known(corrected[i]), margin=margin)
        result.append(
            PairedDifference(
                block, arms[a], arms[b], int(told.n[i]), float(told.mean[i]), numbers["sd"], numbers["low"], numbers["high"], numbers["p"],
                _known(corrected[i]), grade, int(more[i]) if grade == "under-powered" and more[i] > 0 else None, int(told.look[i]),
                _known(flipped[i]), float(ahead[0][i]), float(ahead[1][i]), float(ahead[2][i]),
                int(told.units[i]) if looks.studies > 1 else None,
            )
        )  # fmt: skip
    return result


def grade_difference(low: float | None, high: float | None, p_holm: float | None, *, margin: float) -> Grade:
    """The grade of one comparison, of which `low`..`high` is the interval of the advantage."""
    if low is None or high is None or p_holm is None:
        return "unknown"
    if p_holm < ALPHA and low > 0:
        return "supported"
    if low >= -margin and high <= margin:
        return "tie"
    return "unknown" if low == high else "under-powered"


def holm(ps: Array) -> Array:
    """Holm's step-down correction (Holm 1979) over the p that are known; the rest stays NaN."""
    from statsmodels.stats.multitest import multipletests

    known, corrected = ~np.isnan(ps), ps.copy()
    if known.sum() > 1:
        # multipletests begins with a full collection, which takes half a second of a report's memory for each family.
        gc.freeze()
        try:
            corrected[known] = multipletests(ps[known], method="holm")[1]
        finally:
            gc.unfreeze()
    return corrected


def permutation_p(gaps: Array, *, chosen: npt.NDArray[np.bool_]) -> Array:
    """Two-sided p of each chosen pair when the signs of its differences are flipped (Fisher 1935); NaN for the others."""
    result, n = np.full(len(gaps), np.nan), (~np.isnan(gaps)).sum(axis=1)
    for size in sorted(set(n[chosen & (n > 1)].tolist())):
        rows = np.flatnonzero(chosen & (n == size))
        values = np.array([row[~np.isnan(row)] for row in gaps[rows]])
        told = stats.permutation_test(
            (values,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True, axis=1,
            n_resamples=N_PERMUTATIONS, batch=max(1, 200_000 // len(rows)), rng=np.random.default_rng(0),
        )  # fmt: skip
        result[rows] = told.pvalue
    return result


def _against_best(held: Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], goal: Goal) -> npt.NDArray[np.bool_]:
    filled = np.where(np.isnan(held).all(axis=1, keepdims=True), -np.inf if goal == "maximize" else np.inf, held)
    means = np.nanmean(filled, axis=1)
    best = int(np.argmax(means) if goal == "maximize" else np.argmin(means))
    found: npt.NDArray[np.bool_] = (first == best) | (second == best)
    return found


def win_shares(gaps: Array) -> tuple[Array, Array, Array]:
    """The share of seeds on which each pair's first arm is ahead, level ones counted half, and its interval."""
    n, wins = (~np.isnan(gaps)).sum(axis=1), (gaps > 0).sum(axis=1) + 0.5 * (gaps == 0).sum(axis=1)
    return wins / n, *clopper_pearson(wins, n)


def clopper_pearson(hits: Array, n: Any) -> tuple[Array, Array]:
    """The Clopper-Pearson interval (1934) of a share at 95 %: it holds at least as often as it says. `hits` need not be whole."""
    low = np.where(hits > 0, special.betaincinv(np.maximum(hits, 1e-9), n - hits + 1, ALPHA / 2), 0.0)
    high = np.where(hits < n, special.betaincinv(hits + 1, np.maximum(n - hits, 1e-9), 1 - ALPHA / 2), 1.0)
    return low, high


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
