"""The shapes of learning-rate schedules: `step()` after every optimizer step, `epoch_end(value)` after every validation.

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

    watch: str = "error"
    """What `epoch_end` is to be told: error (1 - accuracy) or loss."""

    def epoch_end(self, value: float) -> None:
        """Told the watched value after each validation; only Plateau acts on it."""


class Step(Schedule):
    """Multiplied by the next of `factors` at each fraction `at` of all steps (rounded to a step)."""

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        steps_per_epoch: int,
        warmup: float,
        at: Sequence[float],
        factors: Sequence[float],
    ) -> None:
        ascending = all(a < b for a, b in pairwise(at))
        rule = "must be ascending fractions of all steps between 0 and 1"
        require("at", list(at), fits=ascending and all(0 < fraction < 1 for fraction in at), rule=rule)
        self.drops = [round(fraction * total_steps) for fraction in at]
        self.factors = [float(factor) for factor in factors]
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)

    def shape(self, step: int) -> float:
        """The product of the factors of the drops passed."""
        passed = self.factors[: sum(step >= drop for drop in self.drops)]
        # A power and a product differ in the last bit: equal factors are a power.
        return passed[0] ** len(passed) if len(set(passed)) == 1 else math.prod(passed)


class Descent(Schedule):
    """Falls from 1 after the warm-up to `final`, which a step after the last would have; `fall(t)` goes from 1 to 0 as t from 0 to 1."""

    def __init__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float, final: float) -> None:
        require("final", final, fits=0 <= final <= 1, rule="must be a fraction of the rate, between 0 and 1")
        self.final = final
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup)

    def fall(self, t: float) -> float:
        """What is left at a fraction t of the steps behind the warm-up."""
        raise NotImplementedError

    def shape(self, step: int) -> float:
        """final + (1 - final) fall(t)."""
        length = max(1, self.total_steps - self.warmup_steps)
        return self.final + (1 - self.final) * self.fall(min(1.0, max(0, step - self.warmup_steps) / length))


class Cosine(Descent):
    """Half a cosine."""

    def fall(self, t: float) -> float:
        """(1 + cos(pi t)) / 2."""
        return (1 + math.cos(math.pi * t)) / 2


class Poly(Descent):
    """A power of what is left of the run."""

    def __init__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float, final: float, power: float) -> None:
        require("power", power, fits=power > 0, rule="must be above 0")
        self.power = power
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final)

    def fall(self, t: float) -> float:
        """(1 - t) to the power."""
        return float((1 - t) ** self.power)


class Wsd(Descent):
    """Stays at 1 until a fraction `decay` of all steps is left, then falls by `way`."""

    def __init__(
        self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float, final: float, decay: float, way: str
    ) -> None:
        require("decay", decay, fits=0 < decay <= 1, rule="must be a fraction of all steps, above 0 and at most 1")
        require("way", way, fits=way in ("linear", "sqrt"), rule="choices: linear, sqrt")
        self.decay_steps = max(1, round(decay * total_steps))
        self.way = way
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final)

    def fall(self, t: float) -> float:
        """1 - t, or 1 - sqrt(t)."""
        return 1 - (math.sqrt(t) if self.way == "sqrt" else t)

    def shape(self, step: int) -> float:
        """1, and behind the stable part final + (1 - final) fall(t)."""
        begin = max(self.warmup_steps, self.total_steps - self.decay_steps)
        t = min(1.0, max(0, step - begin) / max(1, self.total_steps - begin))
        return self.final + (1 - self.final) * self.fall(t)


class OneCycle(Descent):
    """Half a cosine up from `start` over the warm-up, and half a cosine down to `final`."""

    def __init__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float, start: float, final: float) -> None:
        require("start", start, fits=0 < start <= 1, rule="must be a fraction of the rate, above 0 and at most 1")
        self.start = start
        super().__init__(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final)

    def fall(self, t: float) -> float:
        """(1 + cos(pi t)) / 2."""
        return (1 + math.cos(math.pi * t)) / 2

    def factor_at(self, step: int) -> float:
        """1 - (1 - start) fall(t) on the way up, `shape` from there on."""
        if step < self.warmup_steps:
            return 1 - (1 - self.start) * self.fall(step / self.warmup_steps)
        return self.shape(step)


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
        watch: str = "error",
    ) -> None:
        require("watch", watch, fits=watch in ("error", "loss"), rule="choices: error, loss")
        require("patience", patience, fits=patience >= 0, rule="must be a number of epochs, at least 0")
        require("factor", factor, fits=0 < factor < 1, rule="must be above 0 and below 1")
        require("threshold", threshold, fits=0 <= threshold < 1, rule="must be at least 0 and below 1")
        require("floor", floor, fits=0 <= floor <= 1, rule="must be a fraction of the rate, between 0 and 1")
        self.watch = watch
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
