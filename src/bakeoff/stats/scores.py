"""Scores of arms over blocks and seeds, and their means.

All arms are trained with the same seeds, so they are compared seed by seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
#: Block -> arm -> seed -> score.
Scores = Mapping[str, Mapping[str, Mapping[int, float]]]
Goal = Literal["maximize", "minimize"]

#: The name of what is computed over all blocks together.
ALL_BLOCKS = "all blocks"


def goal_sign(goal: Goal) -> float:
    """1 where larger scores are better, -1 where smaller ones are."""
    return 1.0 if goal == "maximize" else -1.0


def score_matrix(scores_by_arm: Mapping[str, Mapping[int, float]], arms: Sequence[str], seeds: Sequence[int]) -> Array:
    """The scores as an array.

    Args:
        scores_by_arm: arm -> seed -> score.
        arms: the rows.
        seeds: the columns.

    Returns:
        An array `(arms, seeds)`; NaN where there is no score.
    """
    rows = [[scores_by_arm[arm].get(seed, math.nan) for seed in seeds] for arm in arms]
    return np.array(rows).reshape(len(arms), len(seeds))


def mean_over_blocks(scores: Scores, arms: Sequence[str]) -> dict[str, dict[int, float]]:
    """The mean score over the blocks, of the seeds that an arm has in every block.

    Args:
        scores: block -> arm -> seed -> score.
        arms: the arms to average.

    Returns:
        Arm -> seed -> mean score.
    """
    means: dict[str, dict[int, float]] = {}
    for arm in arms:
        per_block = [block.get(arm, {}) for block in scores.values()]
        shared = set.intersection(*(set(by_seed) for by_seed in per_block)) if per_block else set()
        means[arm] = {seed: statistics.fmean(by_seed[seed] for by_seed in per_block) for seed in sorted(shared)}
    return means


def group_by_study(scores_by_seed: Mapping[int, float], study_of_seed: Mapping[int, int]) -> dict[int, list[float]]:
    """Study -> the scores of its seeds, where `study_of_seed` says which study each seed belongs to."""
    groups: dict[int, list[float]] = {}
    for seed, score in scores_by_seed.items():
        groups.setdefault(study_of_seed[seed], []).append(score)
    return groups


def mean_over_studies(scores: Scores, study_of_seed: Mapping[int, int]) -> dict[str, dict[str, dict[int, float]]]:
    """The mean score over the seeds of each study.

    Args:
        scores: block -> arm -> seed -> score.
        study_of_seed: seed -> study.

    Returns:
        Block -> arm -> study -> mean score.
    """
    return {
        block: {
            arm: {study: statistics.fmean(group) for study, group in group_by_study(by_seed, study_of_seed).items()}
            for arm, by_seed in by_arm.items()
        }
        for block, by_arm in scores.items()
    }
