"""How often the log-rank test tells equal arms apart, with a target from the runs themselves and with one from the tuning runs.

python benchmarks/logrank_error.py [--sweeps 2000] [--seeds 10] [--trials 16]

Learning curves rise to a last value with a time constant, both with noise of their own for each run, and are seen at 20 checkpoints. Tuning
runs lose 0.05 times the square of the decades between their learning rate, drawn over four decades, and the best one. No run shares noise
with another: shared seeds make the test more careful.
"""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy import special

from bakeoff.stats import CensoredTimes, log_rank_tests

Array = npt.NDArray[np.float64]
CHECKPOINTS, MARGIN, RUN_SD = 20, 0.005, 0.007


def simulate_last_values(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Last validation accuracies of runs of equal arms at the best learning rate."""
    return rng.normal(0.9, RUN_SD, shape)


def simulate_curves(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Validation accuracies `(*shape, CHECKPOINTS)` of confirm runs."""
    last = simulate_last_values(rng, (*shape, 1))
    pace = rng.lognormal(math.log(3.0), 0.3, (*shape, 1))
    return last - 0.8 * np.exp(-np.arange(1, CHECKPOINTS + 1) / pace) + rng.normal(0, 0.002, (*shape, CHECKPOINTS))


def reach_times(curves: Array, target: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The first checkpoint that reaches the target of each sweep, or else the last one, and whether one does: `(sweeps, arms, seeds)`."""
    hits = curves >= target[:, None, None, None]
    reached: npt.NDArray[np.bool_] = np.any(hits, axis=-1)
    return np.where(reached, hits.argmax(axis=-1), CHECKPOINTS - 1) + 1.0, reached


def log_rank_p(times: Array, reached: npt.NDArray[np.bool_], pairs: list[tuple[int, int]]) -> Array:
    """Mantel's two-sided p of every pair, `(sweeps, pairs)`; NaN where no run of the pair reaches the target."""
    checkpoints = np.arange(1.0, CHECKPOINTS + 1)
    at_risk = (times[..., None] >= checkpoints).sum(axis=2)
    events = ((times[..., None] == checkpoints) & reached[..., None]).sum(axis=2)
    first, second = (list(side) for side in zip(*pairs, strict=True))
    n, d = at_risk[:, first] + at_risk[:, second], events[:, first] + events[:, second]
    share = at_risk[:, first] / np.maximum(n, 1)
    variance = (d * share * (1 - share) * (n - d) / np.maximum(n - 1, 1)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (events[:, first] - d * share).sum(axis=-1) / np.sqrt(variance)
    p: Array = 2 * special.ndtr(-np.abs(z))
    return p


def check_against_package(times: Array, reached: npt.NDArray[np.bool_], p: Array, pairs: list[tuple[int, int]]) -> None:
    """Compare the p values of one sweep with those of `bakeoff.stats`."""
    tests = log_rank_tests({str(arm): CensoredTimes(times[arm], reached[arm]) for arm in range(len(times))})
    expected = {frozenset((test.faster, test.slower)): test.p for test in tests}
    for (first, second), value in zip(pairs, p, strict=True):
        if not math.isnan(value):
            np.testing.assert_allclose(value, expected[frozenset((str(first), str(second)))], rtol=1e-9)


def error_rates(arms: int, *, sweeps: int, seeds: int, trials: int) -> dict[str, tuple[float, float, float]]:
    """Where the target is from -> errors per pair, of whole sweeps after Holm's correction, and the share of runs that reach the target."""
    rng = np.random.default_rng(arms)
    confirm = simulate_curves(rng, (sweeps, arms, seeds))
    decades = rng.uniform(-2, 2, (sweeps, arms, trials))
    best_trials = (simulate_last_values(rng, decades.shape) - 0.05 * decades**2).max(axis=-1)
    targets = {
        "confirm runs": np.median(np.median(confirm[..., -1], axis=-1), axis=-1),
        "tuning runs": np.median(best_trials, axis=-1) - MARGIN,
    }
    pairs, rates = list(itertools.combinations(range(arms), 2)), dict[str, tuple[float, float, float]]()
    for source, target in targets.items():
        times, reached = reach_times(confirm, target)
        p = log_rank_p(times, reached, pairs)
        for sweep in range(20):
            check_against_package(times[sweep], reached[sweep], p[sweep], pairs)
        # After Holm's correction some pair is significant exactly where the smallest p times the number of tests is.
        known = ~np.isnan(p)
        smallest = np.where(known, p, 1.0).min(axis=1) * np.maximum(known.sum(axis=1), 1)
        rates[source] = float(np.mean(p < 0.05)), float(np.mean(smallest < 0.05)), float(reached.mean())
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for option, default in (("sweeps", 2000), ("seeds", 10), ("trials", 16)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = vars(parser.parse_args())
    print("arms  target from    error per pair    error per sweep   runs that reach it")
    for arms in (2, 3, 6):
        for source, (pair, sweep, reached) in error_rates(arms, **options).items():
            # Pairs of one sweep share arms: the standard error of their rate is at most that of the sweeps.
            pair_error, sweep_error = (math.sqrt(rate * (1 - rate) / options["sweeps"]) for rate in (pair, sweep))
            print(f"{arms:4}  {source:12}   {pair:.4f} +- {pair_error:.4f}  {sweep:.4f} +- {sweep_error:.4f}  {reached:.0%}", flush=True)


if __name__ == "__main__":
    main()
