"""Which place every arm takes, on average over blocks, and which places cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from bakeoff.stats.alpha_spending import ALPHA
from bakeoff.stats.paired import Goal, Scores

#: From this many blocks on a block is one vote; below it every seed in every block is (Demsar 2006 asks for more than five data sets).
MIN_BLOCKS = 5


@dataclass(frozen=True)
class MeanRanks:
    """Mean ranks, the best first; `votes` rankings were averaged, one a block, or (`unit`) one a seed and block.

    `p` is Friedman's test that all arms rank alike; `critical` is Nemenyi's critical difference of two mean ranks at 5 %; `apart` has
    p of every pair (rows and columns in the order of `arms`); `cliques` are the largest groups that cannot be told apart. Votes of seeds
    carry a claim about these blocks, votes of blocks about blocks like them.
    """

    arms: tuple[str, ...]
    ranks: tuple[float, ...]
    votes: int
    unit: str
    p: float
    critical: float
    apart: tuple[tuple[float, ...], ...]
    cliques: tuple[tuple[str, ...], ...]


def mean_ranks(scores: Scores, arms: Sequence[str], *, goal: Goal) -> MeanRanks | None:
    """Friedman's test and Nemenyi's comparisons (Friedman 1937; Nemenyi 1963; Demsar 2006); None with fewer than three arms or votes."""
    import scikit_posthocs

    rows, unit = ranking_rows(scores, arms) if len(arms) > 2 else ([], "")
    if len(rows) < 3:
        return None
    table = np.array(rows) * (-1.0 if goal == "maximize" else 1.0)
    places = stats.rankdata(table, axis=1)
    means = places.mean(axis=0)
    order = np.argsort(means, kind="stable")
    if float(np.ptp(places, axis=0).max()) == 0 and float(np.ptp(means)) == 0:
        return None  # every vote is level throughout
    told = stats.friedmanchisquare(*table.T)
    apart = scikit_posthocs.posthoc_nemenyi_friedman(pd.DataFrame(table, columns=list(arms))).to_numpy()[np.ix_(order, order)]
    critical = critical_difference(len(arms), len(rows))
    named, sorted_means = [arms[i] for i in order], means[order]
    return MeanRanks(
        tuple(named), tuple(map(float, sorted_means)), len(rows), unit, float(told.pvalue), critical,
        tuple(tuple(map(float, row)) for row in apart), cliques(named, sorted_means.tolist(), critical),
    )  # fmt: skip


def ranking_rows(scores: Scores, arms: Sequence[str]) -> tuple[list[list[float]], str]:
    """One row of scores a vote, in the order of `arms`, from blocks and seeds in which all arms have a score."""
    shared = {name: sorted(set.intersection(*(set(block.get(arm, {})) for arm in arms))) for name, block in scores.items()}
    if sum(bool(seeds) for seeds in shared.values()) >= MIN_BLOCKS:
        return [[float(np.mean([scores[b][arm][s] for s in seeds])) for arm in arms] for b, seeds in shared.items() if seeds], "block"
    return [[scores[b][arm][s] for arm in arms] for b, seeds in shared.items() for s in seeds], "seed"


def critical_difference(arms: int, votes: int) -> float:
    """q sqrt(k (k + 1) / (6 N)) with q the studentized range's over sqrt 2 (Demsar 2006, equation 5)."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * votes))


def cliques(arms: Sequence[str], means: Sequence[float], critical: float) -> tuple[tuple[str, ...], ...]:
    """The largest runs of neighbouring ranks that are less than the critical difference apart; `means` grow."""
    found: list[tuple[int, int]] = []
    for i in range(len(arms)):
        end = max(j for j in range(i, len(arms)) if means[j] - means[i] < critical)
        if end > i and (not found or end > found[-1][1]):
            found.append((i, end))
    return tuple(tuple(arms[i : end + 1]) for i, end in found)
