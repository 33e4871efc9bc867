"""Learning-rate schedules with one interface: `step()` after every optimizer step, `epoch_end(value)` after every validation.

Each is a torch LRScheduler whose lengths come from the run's own number of steps. `warmup` is the fraction of all steps over which
the rate rises linearly: with W warm-up steps, step k (from 0) has (k + 1) / W of the schedule's rate, so the first is never zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bakeoff.errors import ChoiceError

# The names that a config may use as a target.
__all__ = ["constant", "cosine", "plateau", "step"]


def require(key: str, value: object, *, fits: bool, rule: str) -> None:
    """Raises ChoiceError naming `scheduler.<key>`, the value and the rule unless it fits."""
    if not fits:
        raise ChoiceError(f"scheduler.{key}={value}: {rule}")


class Schedule(LRScheduler):
    """The rate of step k is the optimizer's own times `factor_at(k)`; its state is made of plain numbers, lists and bools alone."""

    def __init__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float) -> None:
        require("total_steps", total_steps, fits=total_steps >= 1, rule="a run needs at least 1 step")
        require("steps_per_epoch", steps_per_epoch, fits=steps_per_epoch >= 1, rule="an epoch needs at least 1 step")
        require("warmup", warmup, fits=0 <= warmup < 1, rule="must be a fraction of all steps, at least 0 and below 1")
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = round(warmup * total_steps)
        super().__init__(optimizer)

    def shape(self, step: int) -> float:
        """Fraction of the optimizer's rate at `step`, warm-up aside."""
        return 1.0

    def factor_at(self, step: int) -> float:
        """Fraction of the optimizer's rate at `step`, counted in optimizer steps from 0."""
        rise = (step + 1) / self.warmup_steps if step < self.warmup_steps else 1.0
        return rise * self.shape(step)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The rates of the current step, one for each parameter group (torch calls this)."""
        factor = self.factor_at(self.last_epoch)
        return [float(rate) * factor for rate in self.base_lrs]

    def epoch_end(self, value: float) -> None:
        """Told the watched metric after each validation; only Plateau acts on it."""


class Step(Schedule):
    """Multiplied by `factor` at each fraction `at` of all steps (rounded to a step)."""

    def __init__(
        self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float, at: Sequence[float], factor: float
    ) -> None:
        ascending = all(a < b for a, b in pairwise(at))
        rule = "must be ascending fractions of all steps between 0 and 1"
        require("at", list(at), fits=ascending and all(0 < fraction < 1 for fraction in at), rule=rule)
        require("factor", factor, fits=0 < factor <= 1, rule="must be above 0 and at most 1")
        self.drops = [round(fraction * total_steps) for fraction in at]
        self.factor = factor
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)

    def shape(self, step: int) -> float:
        """factor to the power of the drops passed."""
        return self.factor ** sum(step >= drop for drop in self.drops)


class Cosine(Schedule):
    """Half a cosine from 1 after the warm-up down to `final`, which a step after the last would have."""

    def __init__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float, final: float) -> None:
        require("final", final, fits=0 <= final <= 1, rule="must be a fraction of the rate, between 0 and 1")
        self.final = final
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)

    def shape(self, step: int) -> float:
        """final + (1 - final) (1 + cos(pi t)) / 2 with t from 0 to 1 after the warm-up."""
        length = max(1, self.total_steps - self.warmup_steps)
        t = min(1.0, max(0, step - self.warmup_steps) / length)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * t)) / 2


class Plateau(Schedule):
    """Multiplied by `factor` each time the watched value, to be minimized, has not improved for more than `patience` validations.

    An improvement is a value below (best - threshold * |best|); nan and infinity are none. Validations within the warm-up set the
    best but are not counted as bad. The fraction never falls below `floor`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        steps_per_epoch: int,
        warmup: float,
        patience: int,
        factor: float,
        threshold: float,
        floor: float,
    ) -> None:
        require("patience", patience, fits=patience >= 0, rule="must be a number of epochs, at least 0")
        require("factor", factor, fits=0 < factor < 1, rule="must be above 0 and below 1")
        require("threshold", threshold, fits=0 <= threshold < 1, rule="must be at least 0 and below 1")
        require("floor", floor, fits=0 <= floor <= 1, rule="must be a fraction of the rate, between 0 and 1")
        self.patience = patience
        self.factor = factor
        self.threshold = threshold
        self.floor = floor
        self.level = 1.0
        self.best = math.inf
        self.bad = 0
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)

    def shape(self, step: int) -> float:
        """The level that the drops so far have left, whatever the step."""
        return self.level

    def epoch_end(self, value: float) -> None:
        """Counts this validation and, where patience is at its end, drops the rate for the next step at once."""
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if math.isfinite(value) and value < self.best - margin:
            self.best = float(value)
            self.bad = 0
        elif self.last_epoch >= self.warmup_steps:
            self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            self.level = max(self.floor, self.level * self.factor)
            rates = [float(rate) * self.factor_at(self.last_epoch) for rate in self.base_lrs]
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            self._last_lr = [*rates]


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float = 0.0) -> LRScheduler:
    """The optimizer's own rate throughout, after the warm-up."""
    return Schedule(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)


def step(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0.0,
    at: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> LRScheduler:
    """Multiplied by `factor` at each fraction `at` of all steps."""
    return Step(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, at=at, factor=factor)


def cosine(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float = 0.0, final: float = 0.0) -> LRScheduler:
    """Half a cosine down to the fraction `final`: Loshchilov, Hutter, SGDR (arXiv:1608.03983) without restarts."""
    return Cosine(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final)


def plateau(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0.0,
    patience: int = 2,
    factor: float = 0.1,
    threshold: float = 1e-4,
    floor: float = 1e-3,
) -> LRScheduler:
    """Dropped by `factor` when the validation loss stalls for more than `patience` epochs, the rule of the AlexNet and VGG papers."""
    return Plateau(
        optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup=warmup,
        patience=patience,
        factor=factor,
        threshold=threshold,
        floor=floor,
    )
