"""Looking again after more seeds: how the 5 % chance of a false claim is shared out over the looks that the plan declares.

The plan names the seeds of the first look and the most there can ever be. Look k is made at a fixed number of seeds n(k), and by then
0.05 (n(k) / n_max)^(1/4) of the error may be spent (Lan and DeMets 1983, with the power family of Kim and DeMets 1987). The exponent
1/4 gives two thirds of the error to the first look of five, where most sweeps end, and keeps the later looks at about 1 % each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Array = npt.NDArray[np.float64]
Spending = Callable[[float, float], float]

#: The error that all looks together may spend.
ALPHA = 0.05
EXPONENT = 0.25
NODES = 80  # of the Gauss-Legendre rule; boundaries are right to six digits
#: Error rates for which boundaries are known; between them their logarithms are interpolated.
RATES = tuple(sorted({*np.geomspace(1e-9, 0.999, 60).tolist(), *(ALPHA / m for m in range(1, 11))}))


def spent_alpha(alpha: float, share: float) -> float:
    """The error that may be spent once a share of all seeds is in: alpha share^(1/4) (Kim and DeMets 1987)."""
    return float(alpha * share**EXPONENT)


@dataclass(frozen=True)
class SequentialDesign:
    """The numbers of seeds at which a sweep is looked at, from few to many. ValueError unless they grow.

    With `studies` > 1 seeds are dealt out to as many tunings in turn, and a test is on the studies' means: see `statistics.over_looks`.
    """

    sizes: tuple[int, ...]
    studies: int = 1

    def __post_init__(self) -> None:
        if not self.sizes or any(b <= a for a, b in itertools.pairwise((0, *self.sizes))):
            raise ValueError(f"looks at {self.sizes}: the numbers of seeds must grow")

    @property
    def levels(self) -> tuple[float, ...]:
        """The two-sided level of the test at each look: together they err in 5 % of the cases."""
        return self.nominal_levels(ALPHA)

    def nominal_levels(self, alpha: float) -> tuple[float, ...]:
        """The two-sided level of each look at which the looks together err at `alpha`."""
        return nominal_levels(self.sizes, alpha) if self.studies == 1 else bonferroni_levels(self.sizes, alpha)

    def study_at(self, position: int) -> int:
        """Which independent value the seed at a place of the plan's order belongs to: its study where there are several, else itself."""
        return position % self.studies if self.studies > 1 else position

    def completed_analyses(self, seeds: int) -> int:
        """How many looks are complete with the first `seeds` seeds in."""
        return sum(size <= seeds for size in self.sizes)

    def sequential_p(self, ps: Sequence[Array]) -> Array:
        """One p a pair from its p at each look so far: the least error rate at which some look would have crossed its boundary.

        Valid whatever made the sweep stop (Jennison and Turnbull 2000, section 9.4), so Holm's correction may be laid over it. NaN at a
        look, where there was nothing to test, counts as no crossing; NaN at all of them stays NaN.
        """
        grid = np.log(RATES)
        best = np.full(np.shape(ps[0]), np.nan)
        for k, p in enumerate(ps):
            if len(self.sizes) == 1:
                rate = np.asarray(p, float)
            else:
                levels = np.log([self.nominal_levels(rate)[k] for rate in RATES])
                with np.errstate(divide="ignore"):
                    rate = np.exp(np.interp(np.log(p), levels, grid, left=-np.inf, right=0.0))
                rate = np.where(np.isnan(p), np.nan, rate)
            best = np.fmin(best, rate)
        return best


@lru_cache(maxsize=4096)
def nominal_levels(sizes: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """The two-sided level of each look at which the looks together err at `alpha`.

    Student's t of few seeds goes along with itself from look to look less than a Brownian motion does: with n seeds at the first look
    the later ones would err by about 1 / n of their share too often (measured for n from 2 to 10), so they spend that much less.
    """
    shares = tuple(size / sizes[-1] for size in sizes)
    early, kept = spent_alpha(alpha, shares[0]), 1 - 1 / max(2, sizes[0])
    slower = boundaries(shares, alpha, spending=lambda alpha, share: early + kept * (spent_alpha(alpha, share) - early))
    return tuple(float(2 * ndtr(-z)) for z in slower)


def bonferroni_levels(sizes: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """What each look may spend, as its own level (Bonferroni): right however the looks go along with each other.

    For means of studies, whose number stays: how much of one look the next one repeats depends on the unknown share of tuning.
    """
    totals = [0.0, *(spent_alpha(alpha, size / sizes[-1]) for size in sizes)]
    return tuple(b - a for a, b in itertools.pairwise(totals))


def boundaries(shares: Sequence[float], alpha: float, *, spending: Spending = spent_alpha) -> list[float]:
    """|z| at which each look stops, for looks at these shares of all information.

    The sums of the data are a Brownian motion; its density inside the boundaries goes from look to look by numerical integration
    (Armitage, McPherson and Rowe 1969). With small samples the levels, not the z values, are carried over to Student's t.
    """
    found: list[float] = []
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    before, time = 0.0, 0.0
    at: Array = np.zeros(1)
    mass: Array = np.ones(1)
    for share in shares:
        total = spending(alpha, share)
        left, scale, root = total - before, math.sqrt(share - time), math.sqrt(share)

        def excess(z: float, at: Array = at, mass: Array = mass, scale: float = scale, root: float = root, left: float = left) -> float:
            edge = z * root
            return float(mass @ (ndtr((at - edge) / scale) + ndtr((-edge - at) / scale))) - left

        low, high = 0.0, float(-ndtri(1e-15)) + 2
        z = float(brentq(excess, low, high, xtol=1e-10)) if excess(high) < 0 < excess(low) else high
        found.append(z)
        points = nodes * z * root
        kernel = np.exp(-0.5 * ((points[:, None] - at[None, :]) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
        mass = weights * z * root * (kernel @ mass)
        at, before, time = points, total, share
    return found
