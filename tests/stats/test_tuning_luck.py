"""The luck of a single tuning, estimated from its trials."""

from __future__ import annotations

import numpy as np
import pytest

from bakeoff.stats.tuning_luck import tuning_luck


def true_luck(curvature: float, noise: float, *, trials: int) -> float:
    """The standard deviation of the chosen settings' true scores, by tuning again on the true curve."""
    rng = np.random.default_rng(1)
    places = rng.random((20_000, trials))
    truth = -curvature * (places - 0.5) ** 2
    chosen = np.argmax(truth + rng.normal(0, noise, truth.shape), axis=1)
    return float(truth[np.arange(len(truth)), chosen].std())


@pytest.mark.parametrize(("curvature", "noise"), [(0.5, 0.01), (0.2, 0.02), (2.0, 0.01)])
def test_the_estimate_is_of_the_true_size(curvature: float, noise: float) -> None:
    rng, estimates = np.random.default_rng(2), []
    for _ in range(25):
        positions = rng.random((16, 1))
        luck = tuning_luck(positions, -curvature * (positions[:, 0] - 0.5) ** 2 + rng.normal(0, noise, 16))
        assert luck is not None
        estimates.append(luck.sd)
    assert 0.4 < np.median(estimates) / true_luck(curvature, noise, trials=16) < 2.5


def test_few_trials_or_no_tuned_keys_give_none() -> None:
    assert tuning_luck(np.random.default_rng(0).random((3, 1)), np.zeros(3)) is None
    assert tuning_luck(np.zeros((8, 0)), np.zeros(8)) is None
