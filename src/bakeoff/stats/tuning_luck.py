"""How much a tuned score owes to luck: the response of an arm's score to its settings, fitted to its trials, and tuned again on the fit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bakeoff.stats.scores import Array
from bakeoff.stats.smoothing import smoothed

#: Fewer trials than this show no response curve.
MIN_TRIALS = 4
#: Simulated repetitions of tuning.
RETUNINGS = 1000
#: Trials of simulated tunings that may be drawn beyond those that were made: places between them are read off the fitted curve.
GRID = 256


@dataclass(frozen=True)
class TuningLuck:
    """What a single tuning of an arm leaves to luck.

    Attributes:
        trials: trials that the curve was fitted to.
        sd: standard deviation, over repeated tunings, of the true score of the setting that tuning chooses.
        regret: by how much the chosen setting falls short of the best one, on average.
        noise_sd: standard deviation of a trial about the fitted curve.
    """

    trials: int
    sd: float
    regret: float
    noise_sd: float


def fit_response(positions: Array, values: Array) -> Any:
    """Fit a Gaussian process with a Matern 5/2 kernel and noise to scores (Rasmussen and Williams 2006, chapter 2).

    Args:
        positions: `(trials, keys)`, in [0, 1] on the scale of each space.
        values: `(trials,)`, larger is better.

    Returns:
        The regressor of scikit-learn; its `predict` gives scores in the units of `values`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    lengths = np.full(positions.shape[1], 0.3)
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(lengths, (0.1, 3.0), nu=2.5) + WhiteKernel(0.05, (1e-4, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(positions, values)


def tuning_luck(positions: Array, values: Array, *, smooth: bool = False, rng: np.random.Generator | None = None) -> TuningLuck | None:
    """Estimate what repeated tuning with as many trials would change, from the trials of one tuning.

    A curve is fitted to the trials. Tuning is then repeated on it: settings are drawn evenly from the space, each gets the curve's value
    plus noise, and the best one is chosen, as in the sweep. The estimate depends on the fit, so it is shown and decides nothing.

    Args:
        positions: `(trials, keys)`, in [0, 1] on the scale of each space.
        values: `(trials,)`, larger is better; trials that diverged are left out by the caller.
        smooth: whether the setting is chosen around which scores are best (see `smoothed`), instead of the best trial's.
        rng: source of the simulated tunings.

    Returns:
        The estimate; None with fewer than `MIN_TRIALS` trials or without tuned keys.
    """
    trials = len(values)
    if trials < MIN_TRIALS or positions.shape[1] == 0:
        return None
    rng = rng or np.random.default_rng(0)
    fit = fit_response(positions, values)
    residuals = values - fit.predict(positions)
    noise = float(np.sqrt(max(fit.kernel_.k2.noise_level * values.var(), (residuals**2).sum() / trials)))
    places = rng.random((GRID, positions.shape[1]))
    curve: npt.NDArray[np.float64] = fit.predict(places)
    drawn = rng.integers(0, GRID, (RETUNINGS, trials))
    scores = curve[drawn] + noise * rng.standard_normal(drawn.shape)
    if smooth:
        scores = np.array([smoothed(places[trial], row, keys=positions.shape[1]) for trial, row in zip(drawn, scores, strict=True)])
    chosen = np.argmax(scores, axis=1)
    true = curve[drawn[np.arange(RETUNINGS), chosen]]
    return TuningLuck(trials, float(true.std(ddof=1)), float(curve.max() - true.mean()), noise)
