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
DIVERGED = 1e8  # a path higher than this many times its start has diverged


@dataclass(frozen=True)
class DescentPath:
    """The points of an optimizer, from the start on.

    Attributes:
        points: (x, y) each.
        shares: The height of each above the minimum, as a share of the start's.
        rate: The learning rate.
        diverged: Whether the path ends because it diverged.
    """

    points: list[tuple[float, float]]
    shares: list[float]
    rate: float
    diverged: bool

    def steps_to(self, tolerance: float) -> int | None:
        """Return the steps until the height is at most `tolerance` of the start's and stays so for `SETTLED` steps; None if never.

        A path that only passes through the lowest point on its way to the other side has not come down.
        """
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
    """Follow the run's optimizer from the surface's start, in float64 and without weight decay, which would move the lowest point.

    The point is the weight of a linear layer with two inputs and one output, so that optimizers for matrices see a 1 x 2 matrix. A layer
    of scores behind it, which takes no part, makes it a hidden weight, which some optimizers treat apart. An optimizer with iterations
    inside a step (L-BFGS) makes one per step.

    Args:
        run: The run, for its optimizer.
        surface: The surface.
        rate: The learning rate.
        steps: Most steps; a path that diverges is shorter.
        stop: Share of the start's height at which the path ends, once it has settled.
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
        # Schedule-free optimizers keep the point that they evaluate apart from the one where they take gradients.
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
    """Return the rates that are tried, so many per decade, both ends included."""
    low, high = DECADES
    return [float(f"{10 ** (low + i / per_decade):.3g}") for i in range((high - low) * per_decade + 1)]


def best_path(run: RunConfig, surface: Surface, *, steps: int, tolerance: float, rates: Sequence[float]) -> DescentPath:
    """Return the path at the rate that comes down in the fewest steps; where none does, the one that is lowest at its end.

    Rates at which the path leaves the window come after all others. One that has not come down within the steps of the best so far is
    left there.

    Args:
        run: The run, for its optimizer.
        surface: The surface.
        steps: Most steps.
        tolerance: Share of the start's height to come down to.
        rates: The rates to try.
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


def undrawable_reason(optimizer: dict[str, Any]) -> str | None:
    """Return why an optimizer's config cannot be drawn at a rate of its own; None where it can."""
    return None if "lr" in optimizer else "it has no argument lr, so there is no rate to choose"
