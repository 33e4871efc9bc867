"""The choice of test images as a source of variance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bakeoff.stats.alpha_spending import SequentialDesign
from bakeoff.stats.image_sampling import image_variance, pair_image_variances
from bakeoff.stats.paired import Family, compare_family


def test_the_variance_of_image_effects_is_found_beside_that_of_seeds() -> None:
    rng, images = np.random.default_rng(0), 355
    estimates = []
    for _ in range(300):
        image_effects, seed_effects = rng.normal(0, 0.15, images), rng.normal(0, 0.01, (10, 1))
        estimates.append(image_variance(image_effects + seed_effects + rng.normal(0, 0.3, (10, images))))
    assert np.mean(estimates) == pytest.approx(0.15**2 / images, rel=0.05)


def test_images_that_no_run_disagrees_on_add_nothing() -> None:
    assert image_variance(np.zeros((5, 100))) == 0.0
    assert image_variance(np.ones((1, 1))) == 0.0


def test_arms_that_are_equal_over_all_images_are_rarely_told_apart_on_a_few() -> None:
    """Per-image differences of standard deviation .15 on one fixed set of 355 images: seeds alone call most of these pairs different."""
    rng, images, seeds, times = np.random.default_rng(1), 355, 50, 200
    called = {"with": 0, "without": 0}
    for _ in range(times):
        shift = rng.normal(0, 0.15, images)
        chance = np.clip(np.stack([0.9 + shift / 2, 0.9 - shift / 2]), 0, 1)
        correct = rng.random((2, seeds, images)) < chance[:, None]
        by_arm = {arm: dict(enumerate(correct[row])) for row, arm in enumerate("ab")}
        for kind, known in (("with", {"all": by_arm}), ("without", {})):
            family = Family("all", ["a", "b"], correct.mean(axis=2), range(seeds), known)
            (pair,) = compare_family(family, goal="maximize", margin=0.01, design=SequentialDesign((seeds,)), permutation_tests=False)
            called[kind] += pair.grade == "supported"
            assert pair.images == (images if known else None)
    assert called["with"] / times <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / times)
    assert called["without"] / times > 0.3


def test_blocks_average_their_images_and_missing_predictions_are_said() -> None:
    rng = np.random.default_rng(2)
    correct = {block: {arm: {seed: rng.random(200) < 0.8 for seed in range(4)} for arm in "ab"} for block in ("first", "second")}
    both, images = pair_image_variances(correct, ["a", "b"], [(0, 1)], range(4))
    one, _ = pair_image_variances({"first": correct["first"]}, ["a", "b"], [(0, 1)], range(4))
    assert images == 200 and 0 <= both[0] <= one[0] + 1e-3
    lacking = {**correct, "second": {"a": correct["second"]["a"], "b": {}}}
    assert np.isnan(pair_image_variances(lacking, ["a", "b"], [(0, 1)], range(4))[0]).all()
    assert np.isnan(pair_image_variances({}, ["a", "b"], [(0, 1)], range(4))[0]).all()
