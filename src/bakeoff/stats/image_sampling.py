"""Test images as a sample: what a difference of accuracies owes to the choice of the images, which more seeds do not average away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bakeoff.stats.scores import Array

Correct = npt.NDArray[np.bool_]
#: Block -> arm -> seed -> whether the run classified each test image correctly, `(images,)`.
CorrectImages = Mapping[str, Mapping[str, Mapping[int, Correct]]]


def image_variance(differences: Array) -> float:
    """The variance of a mean difference over the choice of test images.

    In the model difference(seed, image) = mean + seed effect + image effect + rest, seeds and images are crossed. The variance of the
    image effects is the variance over images of the means over seeds, less the part of it that is the rest, averaged over the seeds
    (Searle, Casella and McCulloch 1992, section 4.3). The same decomposition is used in reader studies (Obuchowski and Rockette 1995).

    Args:
        differences: `(seeds, images)`: for each run of a pair and each image 1, 0 or -1.

    Returns:
        The variance of the image effects over the number of images, at least 0.
    """
    n, images = len(differences), int(differences.shape[1])
    if images < 2:
        return 0.0
    means = differences.mean(axis=0)
    rest = 0.0
    if n > 1:
        residuals = differences - means - differences.mean(axis=1, keepdims=True) + means.mean()
        rest = float((residuals**2).sum()) / ((n - 1) * (images - 1)) / n
    image_effects = max(0.0, float(means.var(ddof=1)) - rest)
    return image_effects / images


def pair_image_variances(
    correct: CorrectImages, arms: Sequence[str], pairs: Sequence[tuple[int, int]], seeds: Sequence[int]
) -> tuple[Array, int]:
    """The image variance of each pair of arms, over blocks that count alike.

    Args:
        correct: the predictions of the blocks of one family. Blocks with equally many test images are taken to share them; that is
            right for independent images, too, whose effects then average out.
        arms: the arms.
        pairs: positions of two arms.
        seeds: the seeds of the analysis.

    Returns:
        (variances `(pairs,)`, NaN where a pair shares no seed with predictions in some block; the smallest number of images).
    """
    by_size: dict[int, list[Mapping[str, Mapping[int, Correct]]]] = {}
    for by_arm in correct.values():
        sizes = {len(row) for by_seed in by_arm.values() for row in by_seed.values()}
        if len(sizes) == 1:
            by_size.setdefault(sizes.pop(), []).append(by_arm)
    known = sum(map(len, by_size.values()))
    if known < len(correct) or not correct:
        return np.full(len(pairs), np.nan), 0
    totals = np.zeros(len(pairs))
    for blocks in by_size.values():
        stacks = [_stack(blocks, arm, seeds) for arm in arms]
        for at, (first, second) in enumerate(pairs):
            shared = sorted(stacks[first].keys() & stacks[second].keys())
            if not shared:
                totals[at] = np.nan
                continue
            differences = np.stack([stacks[first][seed] - stacks[second][seed] for seed in shared])
            totals[at] += image_variance(differences) * (len(blocks) / len(correct)) ** 2
    return totals, min(by_size)


def _stack(blocks: Sequence[Mapping[str, Mapping[int, Correct]]], arm: str, seeds: Sequence[int]) -> dict[int, Array]:
    """Seed -> the mean over the blocks of whether each image was classified correctly, for seeds that all blocks have."""
    per_block = [by_arm.get(arm, {}) for by_arm in blocks]
    return {
        seed: np.mean([by_seed[seed] for by_seed in per_block], axis=0, dtype=float)
        for seed in seeds
        if all(seed in by_seed for by_seed in per_block)
    }
