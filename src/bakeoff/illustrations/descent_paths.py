"""Paths of the optimizer classes on a surface, and the search for the best learning rate of each."""

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
SETTLED = 10  # steps that a path must stay below a tolerance to have reached it
DIVERGED = 1e8  # multiple of the start's height beyond which a path has diverged


@dataclass(frozen=True)
class DescentPath:
    """The path of an optimizer from the start: `shares` are the heights of its points (x, y) above the minimum, relative to the start."""

    points: list[tuple[float, float]]
    shares: list[float]
    rate: float
    diverged: bool

    def steps_to(self, tolerance: float) -> int | None:
        """Return the steps until the relative height is at most `tolerance` for `SETTLED` steps, or None if that never happens."""
        below = 0
        for step, share in enumerate(self.shares):
            below = below + 1 if share <= tolerance else 0
            if below == SETTLED:
                return step - SETTLED + 1
        return None

    def leaves(self, surface: Surface) -> bool:
        """Whether the path leaves the surface's window by more than half its width or height."""
        left, right, low, high = surface.window
        margin_x, margin_y = (right - left) / 2, (high - low) / 2
        return any(not (left - margin_x <= x <= right + margin_x and low - margin_y <= y <= high + margin_y) for x, y in self.points)


def descend(run: RunConfig, surface: Surface, *, rate: float, steps: int, stop: float | None = None) -> DescentPath:
    """Follow the run's optimizer from the surface's start, in float64 and without weight decay, which would move the minimum.

    The point is the weight of a linear layer with two inputs and one output, so that optimizers for matrices see a 1 x 2 matrix. An
    unused layer of scores after it makes it a hidden weight, since some optimizers treat the last weight separately. An optimizer with
    inner iterations (L-BFGS) makes one per step. The path ends after `steps` steps, when it diverges, or when it has stayed below the
    relative height `stop` for `SETTLED` steps.
    """
    layer, scores = (nn.Linear(inputs, 1, bias=False, dtype=torch.float64) for inputs in (2, 1))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([surface.start], dtype=torch.float64))
    changes = {"lr": rate, "weight_decay": 0.0, "max_iter": 1}
    config = {key: changes.get(key, value) for key, value in run.optimizer.items()}
    optimizer = builders.make_optimizer(run.replace(optimizer=config), nn.Sequential(layer, scores))

    def closure() -> Any:
        optimizer.zero_grad()
        with torch.enable_grad():
            height = surface.height(*layer.weight[0])
        height.backward()
        return height

    start_height = surface.height(*surface.start) - surface.floor
    points, shares, below = [surface.start], [1.0], 0
    for _ in range(steps):
        if hasattr(optimizer, "train"):
            optimizer.train()
        optimizer.step(closure)
        # Schedule-free optimizers evaluate at another point than that of their gradients.
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        ((x, y),) = layer.weight.tolist()
        share = (surface.height(x, y) - surface.floor) / start_height if abs(x) + abs(y) < DIVERGED else math.inf
        if not math.isfinite(share) or share > DIVERGED:
            return DescentPath(points, shares, rate, True)
        points.append((x, y))
        shares.append(share)
        below = below + 1 if stop is not None and share <= stop else 0
        if below == SETTLED:
            break
    return DescentPath(points, shares, rate, False)


def candidate_rates(per_decade: int) -> list[float]:
    """Return the learning rates to try, including both ends of the range."""
    low, high = DECADES
    return [float(f"{10 ** (low + i / per_decade):.3g}") for i in range((high - low) * per_decade + 1)]


def best_path(run: RunConfig, surface: Surface, *, steps: int, tolerance: float, rates: Sequence[float]) -> DescentPath:
    """Return the path at the rate that reaches the relative height `tolerance` in the fewest steps, or else is lowest at its end.

    Rates at which the path leaves the window rank after all others. A rate is abandoned after the number of steps of the best so far.
    """
    best: tuple[tuple[float, ...], float] | None = None
    max_steps = steps
    for rate in sorted(rates, key=lambda rate: abs(math.log10(rate) + 1.5)):
        path = descend(run, surface, rate=rate, steps=max_steps, stop=tolerance)
        needed = path.steps_to(tolerance)
        outcome = (0, needed, path.shares[needed]) if needed is not None else (2 if path.diverged else 1, path.shares[-1])
        score: tuple[float, ...] = (path.leaves(surface), *outcome)
        if best is None or score < best[0]:
            best = (score, rate)
        if needed is not None and not score[0]:
            max_steps = min(max_steps, needed + SETTLED)
    assert best is not None, "at least one rate is tried"
    return descend(run, surface, rate=best[1], steps=steps, stop=tolerance)
