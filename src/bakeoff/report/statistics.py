"""Means, intervals and paired differences: plain numbers in, plain numbers out.

Everything is computed from `Scores`: block -> arm -> seed -> score. A seed is shared by all arms, so arms are compared seed by seed.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import special

Scores = Mapping[str, Mapping[str, Mapping[int, float]]]
Grade = Literal["supported", "tie", "under-powered", "unknown", "interim"]
Goal = Literal["maximize", "minimize"]

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 1000
#: The name of the comparison over all blocks.
OVERALL = "all blocks"


@dataclass(frozen=True)
class Interval:
    """A mean and its Student t interval; `low` and `high` are None where fewer than two values leave the spread unknown."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """How far `better` is ahead of `worse` on the seeds that both have.

    `advantage` is in units of the score and is >= 0 for either goal; `low`..`high` is its interval at `LEVEL`, for this one comparison;
    `p` is the two-sided p of the paired t test, `p_holm` the same corrected over all pairs of the family (this block, or all blocks).
    `more` is how many more seeds a power calculation asks for (None: none needed, or not to be told).
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
    more: int | None


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval:
    """The mean with Student's t interval, mean +- t(1 - (1-level)/2, n-1) sd / sqrt(n). ValueError where there is no value."""
    if not values:
        raise ValueError("mean_interval: no values")
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(n, mean, None, None, None)
    sd = statistics.stdev(values)
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half)


def paired_p(differences: Sequence[float]) -> float | None:
    """The two-sided p of the paired t test; None where it cannot be told.

    Equal differences on every seed leave no spread to test against: p is 1 where they are all zero and unknown otherwise (with scores
    that come in steps this happens by chance, so it is no evidence).
    """
    n = len(differences)
    if n < 2:
        return None
    mean, sd = statistics.fmean(differences), statistics.stdev(differences)
    if _flat(mean, sd):
        return 1.0 if abs(mean) < 1e-12 else None
    return float(2 * special.stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


def _flat(mean: float, sd: float) -> bool:
    """Whether a spread is no more than the rounding of floating-point subtraction."""
    return sd <= 1e-12 * max(1.0, abs(mean))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): p(i) -> max over j <= i of (m - j) p(j), at most 1, in the order given."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected


def seeds_needed(delta: float, *, sd: float, alpha: float = 1 - LEVEL, power: float = POWER) -> int | None:
    """The smallest n at which a paired t test finds a true difference `delta` with `power`; None beyond MOST_SEEDS.

    The power is that of the noncentral t with n - 1 degrees of freedom and noncentrality delta sqrt(n) / sd (Cohen 1988, chapter 2).
    """
    if delta <= 0:
        return None
    low, high = 1, MOST_SEEDS  # the power grows with n: bisect for the first n that reaches it
    if _power(high, delta, sd, alpha) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, delta, sd, alpha) >= power else (middle, high)
    return high


def _power(n: int, delta: float, sd: float, alpha: float) -> float:
    if n < 2:
        return 0.0
    critical, shift = float(special.stdtrit(n - 1, 1 - alpha / 2)), delta * math.sqrt(n) / sd
    if shift - critical > 8:
        return 1.0  # beyond this the noncentral t loses its digits, not its answer
    # The chance of finding the difference with the wrong sign is left out: it is no success.
    return 1.0 - float(special.nctdtr(n - 1, shift, critical))


def averaged(scores: Scores, arms: Sequence[str]) -> dict[str, dict[int, float]]:
    """arm -> seed -> mean over the blocks, for seeds that the arm has in every block."""
    result: dict[str, dict[int, float]] = {}
    for arm in arms:
        per_block = [block.get(arm, {}) for block in scores.values()]
        shared = set.intersection(*(set(seeds) for seeds in per_block)) if per_block else set()
        result[arm] = {seed: statistics.fmean(seeds[seed] for seeds in per_block) for seed in sorted(shared)}
    return result


def difference(
    block: str, first: tuple[str, Mapping[int, float]], second: tuple[str, Mapping[int, float]], *, goal: Goal
) -> Difference | None:
    """The paired difference of two arms, not yet graded; None where they share no seed."""
    (a, of_a), (b, of_b) = first, second
    shared = sorted(set(of_a) & set(of_b))
    if not shared:
        return None
    sign = 1.0 if goal == "maximize" else -1.0
    gaps = [sign * (of_a[seed] - of_b[seed]) for seed in shared]
    if statistics.fmean(gaps) < 0:
        a, b, gaps = b, a, [-gap for gap in gaps]
    told = mean_interval(gaps)
    return Difference(block, a, b, told.n, told.mean, told.sd, told.low, told.high, paired_p(gaps), None, "unknown", None)


def graded(family: Sequence[Difference], *, margin: float) -> list[Difference]:
    """The family with Holm's p, a grade and the seeds that are missing.

    supported: Holm's p is below 5 % (for one pair that is: the 95 % interval excludes zero); tie: the interval lies within +-`margin`;
    under-powered: neither, and `more` seeds would find a difference as large as the one seen, or as the margin if that is larger,
    with 80 % power at 5 % divided by the number of pairs.
    """
    known = [d.p for d in family if d.p is not None]
    corrected = iter(holm(known))
    return [_grade(d, next(corrected) if d.p is not None else None, len(family), margin) for d in family]


def _grade(d: Difference, p_holm: float | None, pairs: int, margin: float) -> Difference:
    if p_holm is None or d.low is None or d.high is None or d.sd is None:
        return replace(d, grade="unknown")
    if p_holm < 1 - LEVEL and d.low > 0:
        return replace(d, p_holm=p_holm, grade="supported")
    if d.low >= -margin and d.high <= margin:
        return replace(d, p_holm=p_holm, grade="tie")
    needed = seeds_needed(max(margin, d.advantage), sd=d.sd, alpha=(1 - LEVEL) / pairs) if d.sd > 0 else None
    return replace(d, p_holm=p_holm, grade="under-powered", more=max(1, needed - d.n) if needed is not None else None)


def compare(scores: Scores, arms: Sequence[str], *, goal: Goal, margin: float) -> list[Difference]:
    """Every pair of arms over the blocks, where there is more than one, and in every block.

    Over the blocks a seed's score is its mean over the blocks: the claim is about the mean of these very blocks. Each block's pairs, and
    the pairs over the blocks, are a family of their own for Holm's correction; the verdict rests on one family only.
    """
    found: list[Difference] = []
    tables = {OVERALL: averaged(scores, arms)} if len(scores) > 1 else {}
    tables |= {block: {arm: dict(seeds.get(arm, {})) for arm in arms} for block, seeds in scores.items()}
    for block, table in tables.items():
        pairs = itertools.combinations(arms, 2)
        told = (difference(block, (a, table[a]), (b, table[b]), goal=goal) for a, b in pairs)
        found += graded([d for d in told if d is not None], margin=margin)
    return found
