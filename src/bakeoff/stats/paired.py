"""Paired comparisons of arms on shared seeds: differences with intervals, corrected p values, and grades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.image_sampling import CorrectImages, pair_image_variances
from bakeoff.stats.intervals import ALPHA, clopper_pearson
from bakeoff.stats.multiple_comparisons import holm
from bakeoff.stats.repeated_intervals import additional_seeds, repeated_confidence_intervals, unit_means
from bakeoff.stats.scores import ALL_BLOCKS, Array, Goal, Scores, goal_sign, mean_over_blocks, score_matrix

Grade = Literal[
    "supported", "as tuned", "tie", "tie as tuned", "identical", "nothing learned", "under-powered", "unknown", "interim", "exploratory"
]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Resamples of a permutation test; up to 13 seeds all sign flips are tried and the test is exact.
N_PERMUTATIONS = 9999
#: With more pairs than this, permutation tests are made against the arm with the best mean alone.
MAX_PERMUTED_PAIRS = 200


@dataclass(frozen=True)
class PairedDifference:
    """How far one arm is ahead of another on the seeds that both have.

    Attributes:
        block: the block, or `ALL_BLOCKS`.
        better: the arm that is ahead.
        worse: the arm that is behind.
        n: shared seeds.
        advantage: mean difference in units of the score; never negative, whichever way scores are better.
        sd: standard deviation of the differences (of the study means where there are several studies).
        low: lower end of the interval of the advantage, for this one comparison: 95 % over all analyses of the design.
        high: upper end.
        p: two-sided p of the paired t test over the analyses.
        p_holm: `p`, corrected by Holm's method over all pairs of the family (one block, or all blocks together).
        grade: what the comparison supports.
        more_seeds: how many more seeds a power calculation asks for; None where none are needed or the design has too few.
        analyses: analyses made so far.
        p_permutation: p of a permutation test that flips the signs of the differences; None where none was made.
        ahead: share of seeds (or studies) on which `better` is ahead; ties count half.
        ahead_low: lower end of the 95 % interval of `ahead`.
        ahead_high: upper end.
        studies: studies whose means were tested; None with a single study.
        images: test images whose choice the interval allows for; None where it is about these images alone.
        image_sd: standard deviation of the advantage over the choice of so many images; None where it is unknown.
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
    images: int | None = None
    image_sd: float | None = None


@dataclass(frozen=True)
class Family:
    """Arms that are compared with each other, over whose pairs p values are corrected.

    Attributes:
        block: the block, or `ALL_BLOCKS`.
        arms: the arms.
        scores: `(arms, seeds)`, seeds in the order of the plan; NaN where there is no score.
        seeds: the seeds; needed for `correct` alone.
        correct: block -> arm -> seed -> whether each test image was classified correctly, where that is known.
    """

    block: str
    arms: Sequence[str]
    scores: Array
    seeds: Sequence[int] = ()
    correct: CorrectImages = field(default_factory=dict)


def compare_pairs(
    scores: Scores,
    arms: Sequence[str],
    *,
    goal: Goal,
    margin: float,
    design: SequentialDesign | None = None,
    seed_order: Sequence[int] = (),
    correct: CorrectImages | None = None,
) -> list[PairedDifference]:
    """Compare every pair of arms in every block and, where there are several, over all blocks.

    Over all blocks a seed's score is its mean over the blocks, so the comparison is about the mean of these blocks. Each block, and all
    blocks together, are a family of their own for Holm's correction.

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms to compare.
        goal: whether larger or smaller scores are better.
        margin: the difference below which none matters, in units of the score.
        design: the analyses that were planned; without one, all seeds are analysed once.
        seed_order: the seeds in the order of the plan, which says at which analysis each came in; others follow by number.
        correct: block -> arm -> seed -> whether each test image was classified correctly. Intervals then allow for the choice of the
            images; without it they are about these images alone.

    Returns:
        One difference for each block and each pair that shares a seed.
    """
    differences: list[PairedDifference] = []
    families = {ALL_BLOCKS: mean_over_blocks(scores, arms)} if len(scores) > 1 else {}
    families |= {block: {arm: dict(by_arm.get(arm, {})) for arm in arms} for block, by_arm in scores.items()}
    for block, scores_by_arm in families.items():
        all_seeds = {seed for by_seed in scores_by_arm.values() for seed in by_seed}
        seeds = list(dict.fromkeys([*seed_order, *sorted(all_seeds)]))
        known = correct or {}
        shown = known if block == ALL_BLOCKS else {block: known[block]} if block in known else {}
        differences += compare_family(
            Family(block, arms, score_matrix(scores_by_arm, arms, seeds), seeds, shown),
            goal=goal,
            margin=margin,
            design=design or SequentialDesign((max(1, len(seeds)),)),
        )
    return differences


def compare_family(
    family: Family, *, goal: Goal, margin: float, design: SequentialDesign, permutation_tests: bool = True
) -> list[PairedDifference]:
    """Compare all pairs of arms of one family.

    The grades are: identical, where no score differs; supported, where Holm's p is below 5 % (for a single pair: the interval excludes
    zero); tie, where the interval lies within +-`margin`; under-powered, where none of these holds. `more_seeds` then leads to the next
    analysis that would find a difference as large as the observed one, or as the margin if that is larger, with 80 % power at its level
    divided by the number of pairs.

    Args:
        family: the arms and their scores.
        goal: whether larger or smaller scores are better.
        margin: the difference below which none matters, in units of the score.
        design: the analyses that were planned.
        permutation_tests: whether permutation tests are made, too.

    Returns:
        One difference for each pair that shares a seed.
    """
    first, second, gaps = _oriented_differences(family.scores, goal)
    if not len(gaps):
        return []
    image_variances, n_images = _image_variances(family, first, second, design)
    intervals = repeated_confidence_intervals(gaps, design, image_variances=list(np.nan_to_num(image_variances)), n_images=n_images)
    allows = [len(image_variances) > 0 and not np.isnan(column).any() for column in image_variances.T]
    p_holm = holm(intervals.p)
    units = unit_means(gaps, design)
    permuted = np.full(len(gaps), len(gaps) <= MAX_PERMUTED_PAIRS) | _with_best_arm(family.scores, first, second, goal)
    p_permutation = permutation_p(units, chosen=permuted & permutation_tests)
    ahead, ahead_low, ahead_high = win_shares(units)
    more_seeds = additional_seeds(intervals, design, margin=margin, pairs=len(gaps))
    differences: list[PairedDifference] = []
    for i in range(len(gaps)):
        low, high, corrected = (_none_if_nan(column[i]) for column in (intervals.low, intervals.high, p_holm))
        identical = intervals.n[i] > 1 and not np.nan_to_num(gaps[i]).any()
        grade = "identical" if identical else grade_difference(low, high, corrected, margin=margin)
        differences.append(
            PairedDifference(
                block=family.block,
                better=family.arms[first[i]],
                worse=family.arms[second[i]],
                n=int(intervals.n[i]),
                advantage=float(intervals.mean[i]),
                sd=_none_if_nan(intervals.sd[i]),
                low=low,
                high=high,
                p=_none_if_nan(intervals.p[i]),
                p_holm=corrected,
                grade=grade,
                more_seeds=int(more_seeds[i]) if grade == "under-powered" and more_seeds[i] > 0 else None,
                analyses=int(intervals.analyses[i]),
                p_permutation=_none_if_nan(p_permutation[i]),
                ahead=float(ahead[i]),
                ahead_low=float(ahead_low[i]),
                ahead_high=float(ahead_high[i]),
                studies=int(intervals.units[i]) if design.has_studies else None,
                images=n_images if allows[i] else None,
                image_sd=math.sqrt(intervals.image_variance[i]) if allows[i] else None,
            )
        )
    return differences


def _image_variances(family: Family, first: Indices, second: Indices, design: SequentialDesign) -> tuple[Array, int]:
    """(variances `(analyses, pairs)` of the mean differences over the choice of test images, images), for the analyses so far."""
    variances, n_images = list[Array](), 0
    if family.correct:
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        for k, size in enumerate(design.sizes):
            seen = family.seeds if k + 1 == len(design.sizes) else family.seeds[:size]
            variance, n_images = pair_image_variances(family.correct, family.arms, pairs, seen)
            variances.append(variance)
            if size >= len(family.seeds):
                break
    return np.array(variances).reshape(len(variances), len(first)), n_images


def _oriented_differences(scores: Array, goal: Goal) -> tuple[Indices, Indices, Array]:
    """(better arm, worse arm, differences `(pairs, seeds)`) of each pair that shares a seed, with a mean that is not negative."""
    first, second = np.triu_indices(len(scores), 1)
    gaps = (scores[first] - scores[second]) * goal_sign(goal)
    comparable = ~np.isnan(gaps).all(axis=1) if gaps.size else np.zeros(len(first), bool)
    first, second, gaps = first[comparable], second[comparable], gaps[comparable]
    if not len(gaps):
        return first, second, gaps
    swapped = np.nanmean(gaps, axis=1) < 0
    better, worse = np.where(swapped, second, first), np.where(swapped, first, second)
    return better, worse, np.where(swapped[:, None], -1.0, 1.0) * gaps


def _with_best_arm(scores: Array, first: Indices, second: Indices, goal: Goal) -> Mask:
    """Whether the arm with the best mean is one of the two of each pair."""
    sign = goal_sign(goal)
    means = np.nanmean(np.where(np.isnan(scores).all(axis=1, keepdims=True), -sign * np.inf, scores), axis=1)
    best = int(np.argmax(sign * means))
    is_best: Mask = (first == best) | (second == best)
    return is_best


def grade_difference(low: float | None, high: float | None, p_holm: float | None, *, margin: float) -> Grade:
    """What one comparison supports.

    Args:
        low: lower end of the interval of the advantage; None where it is unknown.
        high: upper end.
        p_holm: the corrected p.
        margin: the difference below which none matters.

    Returns:
        supported, tie, under-powered or unknown.
    """
    if low is None or high is None or p_holm is None:
        return "unknown"
    if p_holm < ALPHA and low > 0:
        return "supported"
    if low >= -margin and high <= margin:
        return "tie"
    return "unknown" if low == high else "under-powered"


def permutation_p(differences: Array, *, chosen: Mask) -> Array:
    """Two-sided p values of permutation tests that flip the signs of paired differences (Fisher 1935).

    Args:
        differences: `(pairs, seeds)`, NaN where there is none.
        chosen: the pairs to test, `(pairs,)`.

    Returns:
        `(pairs,)`; NaN for pairs that were not chosen or have fewer than two differences.
    """
    p_values, n = np.full(len(differences), np.nan), (~np.isnan(differences)).sum(axis=1)
    for size in sorted(set(n[chosen & (n > 1)].tolist())):
        rows = np.flatnonzero(chosen & (n == size))
        values = np.array([row[~np.isnan(row)] for row in differences[rows]])
        test = stats.permutation_test(
            (values,),
            lambda x, axis: np.mean(x, axis=axis),
            permutation_type="samples",
            vectorized=True,
            axis=1,
            n_resamples=N_PERMUTATIONS,
            batch=max(1, 200_000 // len(rows)),
            rng=np.random.default_rng(0),
        )
        p_values[rows] = test.pvalue
    return p_values


def win_shares(differences: Array) -> tuple[Array, Array, Array]:
    """The share of seeds on which the first arm of each pair is ahead; ties count half.

    Args:
        differences: `(pairs, seeds)`, NaN where there is none.

    Returns:
        (share, low, high), each `(pairs,)`, with the exact 95 % interval.
    """
    n, wins = (~np.isnan(differences)).sum(axis=1), (differences > 0).sum(axis=1) + 0.5 * (differences == 0).sum(axis=1)
    return wins / n, *clopper_pearson(wins, n)


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
