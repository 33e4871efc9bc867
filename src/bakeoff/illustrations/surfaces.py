"""Surfaces of two variables with known minima, for the paths of optimizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Number = Any  # a float or a tensor, and the height is of the same kind


@dataclass(frozen=True)
class Surface:
    """A function `height` of two floats or tensors, with minima `lowest` of height `floor`; `window` is (x from, x to, y from, y to)."""

    about: str
    height: Callable[[Number, Number], Number]
    window: tuple[float, float, float, float]
    start: tuple[float, float]
    lowest: tuple[tuple[float, float], ...]
    floor: float = 0.0


def beale(x: Number, y: Number) -> Number:
    """Return Beale's function (1958): (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2, 0 at (3, 0.5)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(x: Number, y: Number) -> Number:
    """Return Rosenbrock's function (1960): (1 - x)^2 + 100 (y - x^2)^2, 0 at (1, 1)."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def saddle(x: Number, y: Number) -> Number:
    """Return x^2 / 2 - y^2 / 2 + y^4 / 4: a saddle at (0, 0) with a minimum on either side, -1/4 at (0, 1) and (0, -1)."""
    return x**2 / 2 - y**2 / 2 + y**4 / 4


def ravine(x: Number, y: Number) -> Number:
    """Return x^2 / 20 + 5 y^2, 0 at (0, 0): a quadratic bowl a hundred times as steep across as along (condition number 100)."""
    return x**2 / 20 + 5 * y**2


SURFACES = {
    "beale": Surface("a flat valley between steep walls", beale, (-0.5, 4.5, -1.2, 2.0), (1.0, 1.5), ((3.0, 0.5),)),
    "rosenbrock": Surface("a curved valley with an almost level floor", rosenbrock, (-1.8, 1.8, -0.8, 2.2), (-1.2, 1.0), ((1.0, 1.0),)),
    "saddle": Surface(
        "a saddle; the path starts 0.001 from its ridge", saddle, (-1.6, 1.2, -1.5, 1.5), (-1.3, 0.001), ((0.0, 1.0), (0.0, -1.0)), -0.25
    ),
    "ravine": Surface("a bowl that is 100 times as steep across as along", ravine, (-4.5, 1.5, -1.6, 1.6), (-4.0, 1.2), ((0.0, 0.0),)),
}
