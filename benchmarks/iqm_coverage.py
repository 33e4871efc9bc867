"""How often the bootstrap interval of the interquartile mean holds the truth: the numbers of `bakeoff.stats.aggregates.COVERAGE`.

python benchmarks/iqm_coverage.py [--times 4000]
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from bakeoff.stats.aggregates import bootstrap_interval, interquartile_mean

SEEDS, BLOCKS = (3, 5, 10, 20, 50), (1, 2, 4, 8)


def coverage(seeds: int, blocks: int, *, times: int) -> float:
    """Normal scores of sd 1, block means three apart; the truth from a sample of a million."""
    rng = np.random.default_rng(seeds * 100 + blocks)
    means = 3.0 * np.arange(blocks)
    truth = float(interquartile_mean(*(rng.normal(mean, 1, 10**6 // blocks) for mean in means)))
    held = 0
    for number in range(times):
        low, high = bootstrap_interval([rng.normal(mean, 1, seeds) for mean in means], seed=number)
        held += low <= truth <= high
    return held / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=4000)
    times = parser.parse_args().times
    for blocks in BLOCKS:
        told = ", ".join(f"({seeds}, {blocks}): {coverage(seeds, blocks, times=times):.2f}" for seeds in SEEDS)
        print(f"    {told},  # +-{2 * math.sqrt(0.9 * 0.1 / times):.2f}", flush=True)


if __name__ == "__main__":
    main()
