"""What a test set can show: the formula, and the share of intervals of simulated test sets that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from bakeoff.stats import images_resolution


def test_the_half_width_is_that_of_the_formula() -> None:
    assert images_resolution(355) == pytest.approx(0.02326, abs=1e-5)
    assert images_resolution(10_000) == pytest.approx(0.00438, abs=1e-5)
    assert images_resolution(400, 0.01) == pytest.approx(0.0098)


def test_nineteen_of_twenty_test_sets_lie_within_it() -> None:
    # Two equally good nets that disagree on 5 % of the images: the difference of their accuracies over 10,000 drawn test sets.
    counts = np.random.default_rng(0).multinomial(1000, [0.025, 0.025, 0.95], size=10_000)
    differences = (counts[:, 0] - counts[:, 1]) / 1000
    assert float(np.mean(np.abs(differences) <= images_resolution(1000))) == pytest.approx(0.95, abs=0.01)
