"""Group sequential designs: how the 5 % chance of a false positive is shared out over interim analyses.

The design names the numbers of seeds of the first analysis and of the last. Analysis k is made at a fixed number of seeds n(k), and by
then 0.05 (n(k) / n_max)^(1/4) of the error may be spent (Lan and DeMets 1983, with the power family of Kim and DeMets 1987). The exponent
1/4 gives two thirds of the error to the first analysis of five, where most sweeps end, and about 1 % to each later one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.scores import Array

#: (alpha, share of all seeds) -> the error that may be spent by then.
SpendingFunction = Callable[[float, float], float]

SPENDING_EXPONENT = 0.25
#: Nodes of the Gauss-Legendre rule; they give boundaries to six digits.
QUADRATURE_NODES = 80
#: Error rates at which boundaries are computed; between them their logarithms are interpolated.
ERROR_RATES = tuple(sorted({*np.geomspace(1e-9, 0.999, 60).tolist(), *(ALPHA / m for m in range(1, 11))}))


def spent_alpha(alpha: float, share: float) -> float:
    """The error that may be spent once a share of all seeds is in: alpha share^(1/4) (Kim and DeMets 1987)."""
    return float(alpha * share**SPENDING_EXPONENT)


@dataclass(frozen=True)
class SequentialDesign:
    """The numbers of seeds at which a sweep is analysed.

    Attributes:
        sizes: seeds at each analysis, growing; the last is the most there can be.
        studies: independent tunings of each arm at the first analysis. With more than one, seeds are dealt out to them in turn and the
            study means are tested.
        assignment: the study of the seed at each position, where it is not position modulo `studies` (see `growing`).

    Raises:
        ValueError: there are no sizes, they do not grow, or the assignment is not as long as the last.
    """

    sizes: tuple[int, ...]
    studies: int = 1
    assignment: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that the sizes grow."""
        if not self.sizes or any(b <= a for a, b in itertools.pairwise((0, *self.sizes))):
            raise ValueError(f"analyses at {self.sizes}: the numbers of seeds must grow")
        if self.assignment and len(self.assignment) != self.sizes[-1]:
            raise ValueError(f"{len(self.assignment)} seeds have a study: the last analysis has {self.sizes[-1]}")

    @classmethod
    def growing(cls, sizes: tuple[int, ...], studies: int) -> SequentialDesign:
        """The design whose every analysis adds as many seeds and as many studies, each tuned anew, as the first one has.

        Args:
            sizes: seeds at each analysis: multiples of the first, which is a multiple of `studies`.
            studies: studies of the first analysis.
        """
        if studies == 1:
            return cls(sizes)
        first = sizes[0]
        return cls(sizes, studies, tuple(i // first * studies + i % first % studies for i in range(sizes[-1])))

    @property
    def has_studies(self) -> bool:
        """Whether studies, and not seeds, are the independent values."""
        return self.studies > 1 or bool(self.assignment)

    @property
    def units(self) -> tuple[int, ...]:
        """The independent values at each analysis: studies, or seeds with a single study."""
        if not self.has_studies:
            return self.sizes
        return tuple(len({self.study_at(i) for i in range(size)}) for size in self.sizes)

    @property
    def levels(self) -> tuple[float, ...]:
        """The two-sided level of the test at each analysis; all of them together have an error rate of 5 %."""
        return self.nominal_levels(ALPHA)

    def nominal_levels(self, alpha: float) -> tuple[float, ...]:
        """The two-sided level of each analysis at which all of them together have the error rate `alpha`."""
        units = self.units
        if any(b <= a for a, b in itertools.pairwise(units)):
            return bonferroni_levels(self.sizes, alpha)
        return nominal_levels(units, alpha)

    def study_at(self, position: int) -> int:
        """The independent unit of the seed at a position of the plan's order: its study, or the seed itself with a single study."""
        if self.assignment:
            return self.assignment[position] if position < len(self.assignment) else position
        return position % self.studies if self.studies > 1 else position

    def completed_analyses(self, seeds: int) -> int:
        """How many analyses can be made with the first `seeds` seeds."""
        return sum(size <= seeds for size in self.sizes)

    def sequential_p(self, ps: Sequence[Array]) -> Array:
        """The p values over all analyses so far: the smallest error rate at which some analysis would have crossed its boundary.

        They are valid for any reason to stop (Jennison and Turnbull 2000, section 9.4), so they may be corrected by Holm's method.

        Args:
            ps: for each analysis so far, the p values `(pairs,)` of its own test; NaN where there was nothing to test.

        Returns:
            One p per pair, `(pairs,)`; NaN where no analysis has one.
        """
        log_rates = np.log(ERROR_RATES)
        smallest = np.full(np.shape(ps[0]), np.nan)
        for k, p in enumerate(ps):
            if len(self.sizes) == 1:
                rate = np.asarray(p, float)
            else:
                log_levels = np.log([self.nominal_levels(rate)[k] for rate in ERROR_RATES])
                with np.errstate(divide="ignore"):
                    rate = np.exp(np.interp(np.log(p), log_levels, log_rates, left=-np.inf, right=0.0))
                rate = np.where(np.isnan(p), np.nan, rate)
            smallest = np.fmin(smallest, rate)
        return smallest


@lru_cache(maxsize=4096)
def nominal_levels(sizes: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """The two-sided level of each analysis at which all of them together have the error rate `alpha`.

    Student's t statistics of few seeds are less correlated from analysis to analysis than a Brownian motion is: with n seeds at the first
    analysis the later ones would err by about 1 / n of their share too often (measured for n from 2 to 10), so they spend that much less.

    Args:
        sizes: seeds at each analysis.
        alpha: error rate of all analyses together.

    Returns:
        One level per analysis.
    """
    shares = tuple(size / sizes[-1] for size in sizes)
    first, kept = spent_alpha(alpha, shares[0]), 1 - 1 / max(2, sizes[0])
    z_values = boundaries(shares, alpha, spending=lambda alpha, share: first + kept * (spent_alpha(alpha, share) - first))
    return tuple(float(2 * ndtr(-z)) for z in z_values)


def bonferroni_levels(sizes: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """What each analysis may spend, as its own level: valid whatever the correlation of the analyses.

    Means of a fixed number of studies need this: their correlation depends on the unknown variance of tuning.
    """
    totals = [0.0, *(spent_alpha(alpha, size / sizes[-1]) for size in sizes)]
    return tuple(b - a for a, b in itertools.pairwise(totals))


def boundaries(shares: Sequence[float], alpha: float, *, spending: SpendingFunction = spent_alpha) -> list[float]:
    """The stopping boundary |z| of each analysis.

    The sums of the data are a Brownian motion. Its density inside the boundaries is carried from analysis to analysis by numerical
    integration (Armitage, McPherson and Rowe 1969). For small samples the levels, not the z values, are carried over to Student's t.

    Args:
        shares: share of all information at each analysis, growing to 1.
        alpha: error rate of all analyses together.
        spending: the spending function.

    Returns:
        One |z| per analysis.
    """
    z_values: list[float] = []
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    spent_before, share_before = 0.0, 0.0
    points: Array = np.zeros(1)
    mass: Array = np.ones(1)
    for share in shares:
        spent = spending(alpha, share)
        to_spend, step_sd, sd = spent - spent_before, math.sqrt(share - share_before), math.sqrt(share)

        def excess(
            z: float, points: Array = points, mass: Array = mass, step_sd: float = step_sd, sd: float = sd, to_spend: float = to_spend
        ) -> float:
            edge = z * sd
            return float(mass @ (ndtr((points - edge) / step_sd) + ndtr((-edge - points) / step_sd))) - to_spend

        low, high = 0.0, float(-ndtri(1e-15)) + 2
        z = float(brentq(excess, low, high, xtol=1e-10)) if excess(high) < 0 < excess(low) else high
        z_values.append(z)
        new_points = nodes * z * sd
        density = np.exp(-0.5 * ((new_points[:, None] - points[None, :]) / step_sd) ** 2) / (step_sd * math.sqrt(2 * math.pi))
        mass = weights * z * sd * (density @ mass)
        points, spent_before, share_before = new_points, spent, share
    return z_values
