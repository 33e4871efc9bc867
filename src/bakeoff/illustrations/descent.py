"""Paths of the real optimizer classes over a surface, and the search for the learning rate at which each is quickest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bakeoff import builders
from bakeoff.config.schema import RunConfig
from bakeoff.illustrations.surfaces import Surface

DECADES = (-4, 1)  # powers of ten between which rates are tried
SETTLED = 10  # steps that a path must stay as low before it counts as having come down
LOST = 1e8  # a path higher than this many times its start has diverged


@dataclass(frozen=True)
class Path:
    """Points (x, y) and their height above the floor as a share of the start's, from the start on; `rate` is its learning rate.

    `diverged` says that the path was left off there. `steps` is the most that it could have had.
    """

    points: list[tuple[float, float]]
    shares: list[float]
    rate: float
    diverged: bool

    def first(self, tolerance: float) -> int | None:
        """Steps until the height above the floor is, and for `SETTLED` steps stays, at most `tolerance` of the start's; or None.

        A path that only passes through the lowest point on its way to the other side has not come down.
        """
        below = 0
        for step, share in enumerate(self.shares):
            below = below + 1 if share <= tolerance else 0
            if below == SETTLED:
                return step - SETTLED + 1
        return None

    def strays(self, surface: Surface) -> bool:
        """Whether the path leaves the surface's window by more than half its width or height."""
        left, right, low, high = surface.window
        wide, tall = (right - left) / 2, (high - low) / 2
        return any(not (left - wide <= x <= right + wide and low - tall <= y <= high + tall) for x, y in self.points)


def path(run: RunConfig, surface: Surface, *, rate: float, steps: int, stop: float | None = None) -> Path:
    """The path of the run's optimizer from the surface's start, at learning rate `rate`, in float64, without weight decay.

    The point is the weight of a linear layer with two inputs and one output, so that optimizers for matrices see a 1 x 2 matrix;
    a layer of scores behind it, which takes no part, makes it a hidden weight, which some treat apart. Weight decay is off: it would
    move the lowest point. An optimizer with iterations inside a step (L-BFGS) makes one a step. Ends early where the path diverges,
    or has come down to the share `stop`.
    """
    layer, scores = (nn.Linear(inputs, 1, bias=False, dtype=torch.float64) for inputs in (2, 1))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([surface.start], dtype=torch.float64))
    here = {"lr": rate, "weight_decay": 0.0, "max_iter": 1}
    leaf = {key: here.get(key, value) for key, value in run.optimizer.items()}
    optimizer = builders.make_optimizer(run.replace(optimizer=leaf), nn.Sequential(layer, scores))

    def closure() -> Any:
        optimizer.zero_grad()
        with torch.enable_grad():
            height = surface.height(*layer.weight[0])
        height.backward()
        return height

    whole = surface.height(*surface.start) - surface.floor
    points, shares, below = [surface.start], [1.0], 0
    for _ in range(steps):
        if hasattr(optimizer, "train"):
            optimizer.train()
        optimizer.step(closure)
        # Schedule-free optimizers keep the point at which they would be judged apart from the one where they take gradients.
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        ((x, y),) = layer.weight.tolist()
        share = (surface.height(x, y) - surface.floor) / whole if abs(x) + abs(y) < LOST else math.inf
        if not math.isfinite(share) or share > LOST:
            return Path(points, shares, rate, True)
        points.append((x, y))
        shares.append(share)
        below = below + 1 if stop is not None and share <= stop else 0
        if below == SETTLED:
            break
    return Path(points, shares, rate, False)


def rates(per_decade: int) -> list[float]:
    """The rates that are tried, so many a decade, the ends included."""
    low, high = DECADES
    return [float(f"{10 ** (low + i / per_decade):.3g}") for i in range((high - low) * per_decade + 1)]


def best(run: RunConfig, surface: Surface, *, steps: int, tolerance: float, tried: Sequence[float]) -> Path:
    """The path at the rate, of those tried, that comes down to `tolerance` in the fewest steps; where none does, the lowest at its end.

    Rates at which the path strays from the window come after all others. One that has not come down within the steps of the best so
    far is left there.
    """
    found: tuple[tuple[float, ...], float] | None = None
    most = steps
    for rate in sorted(tried, key=lambda rate: abs(math.log10(rate) + 1.5)):
        one = path(run, surface, rate=rate, steps=most, stop=tolerance)
        hit = one.first(tolerance)
        score: tuple[float, ...] = (0, hit, one.shares[hit]) if hit is not None else (2 if one.diverged else 1, one.shares[-1])
        score = (one.strays(surface), *score)
        if found is None or score < found[0]:
            found = (score, rate)
        if hit is not None and not score[0]:
            most = min(most, hit + SETTLED)
    assert found is not None, "at least one rate is tried"
    return path(run, surface, rate=found[1], steps=steps, stop=tolerance)


def needs(leaf: dict[str, Any]) -> str | None:
    """Why an optimizer cannot be drawn with a rate of its own, or None."""
    return None if "lr" in leaf else "it has no argument lr, so there is no rate to choose"
