"""Mean ranks of arms over blocks, and which of them cannot be distinguished."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.scores import Goal, Scores, goal_sign

#: From this many blocks on, arms are ranked once per block; below it once per seed and block (Demsar 2006 asks for more than five).
MIN_BLOCKS = 5


@dataclass(frozen=True)
class MeanRanks:
    """Mean ranks of the arms, the best first.

    Attributes:
        arms: the arms, by mean rank.
        ranks: their mean ranks; 1 is best.
        rankings: how many rankings were averaged.
        unit: `block`, where each block gave one ranking, so that the result speaks of blocks like these; or `seed`, where each seed in
            each block gave one, so that it speaks of these blocks alone.
        p: Friedman's test that all arms rank alike.
        critical_difference: Nemenyi's critical difference of two mean ranks at 5 %.
        pairwise_p: p of every pair, `(arms, arms)`.
        cliques: the largest groups of arms that cannot be distinguished.
    """

    arms: tuple[str, ...]
    ranks: tuple[float, ...]
    rankings: int
    unit: str
    p: float
    critical_difference: float
    pairwise_p: tuple[tuple[float, ...], ...]
    cliques: tuple[tuple[str, ...], ...]


def mean_ranks(scores: Scores, arms: Sequence[str], *, goal: Goal) -> MeanRanks | None:
    """Rank the arms with Friedman's test and Nemenyi's comparisons (Friedman 1937; Nemenyi 1963; Demsar 2006).

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms to rank.
        goal: whether larger or smaller scores are better.

    Returns:
        The mean ranks; None with fewer than three arms or rankings, or where every ranking is a tie.
    """
    import scikit_posthocs

    rows, unit = ranking_rows(scores, arms) if len(arms) > 2 else ([], "")
    if len(rows) < 3:
        return None
    losses = np.array(rows) * -goal_sign(goal)
    ranks = stats.rankdata(losses, axis=1)
    means = ranks.mean(axis=0)
    order = np.argsort(means, kind="stable")
    if float(np.ptp(ranks, axis=0).max()) == 0 and float(np.ptp(means)) == 0:
        return None
    friedman = stats.friedmanchisquare(*losses.T)
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(pd.DataFrame(losses, columns=list(arms))).to_numpy()[np.ix_(order, order)]
    critical = critical_difference(len(arms), len(rows))
    sorted_arms, sorted_means = [arms[i] for i in order], means[order].tolist()
    return MeanRanks(
        arms=tuple(sorted_arms),
        ranks=tuple(sorted_means),
        rankings=len(rows),
        unit=unit,
        p=float(friedman.pvalue),
        critical_difference=critical,
        pairwise_p=tuple(tuple(map(float, row)) for row in nemenyi),
        cliques=cliques(sorted_arms, sorted_means, critical),
    )


def ranking_rows(scores: Scores, arms: Sequence[str]) -> tuple[list[list[float]], str]:
    """The scores by which arms are ranked, from blocks and seeds in which all arms have one.

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms to rank.

    Returns:
        (one row of scores per ranking, in the order of `arms`; `block` or `seed`).
    """
    shared = {name: sorted(set.intersection(*(set(block.get(arm, {})) for arm in arms))) for name, block in scores.items()}
    if sum(bool(seeds) for seeds in shared.values()) >= MIN_BLOCKS:
        return [[float(np.mean([scores[b][arm][s] for s in seeds])) for arm in arms] for b, seeds in shared.items() if seeds], "block"
    return [[scores[b][arm][s] for arm in arms] for b, seeds in shared.items() for s in seeds], "seed"


def critical_difference(arms: int, rankings: int) -> float:
    """Nemenyi's critical difference, q sqrt(k (k + 1) / (6 N)).

    q is the quantile of the studentized range over sqrt 2 (Demsar 2006, equation 5).

    Args:
        arms: k, the number of arms.
        rankings: N, the number of rankings.

    Returns:
        The difference of two mean ranks that is significant at 5 %.
    """
    q = float(stats.studentized_range.ppf(1 - ALPHA, arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * rankings))


def cliques(arms: Sequence[str], means: Sequence[float], critical: float) -> tuple[tuple[str, ...], ...]:
    """The largest groups of neighbouring ranks that are less than the critical difference apart.

    Args:
        arms: the arms, best first.
        means: their mean ranks, growing.
        critical: the critical difference.

    Returns:
        The groups of two or more arms.
    """
    groups: list[tuple[int, int]] = []
    for start in range(len(arms)):
        end = max(j for j in range(start, len(arms)) if means[j] - means[start] < critical)
        if end > start and (not groups or end > groups[-1][1]):
            groups.append((start, end))
    return tuple(tuple(arms[start : end + 1]) for start, end in groups)
