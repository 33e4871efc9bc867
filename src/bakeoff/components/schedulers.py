"""Learning-rate schedules with one interface: `step()` after every optimizer step, `epoch_end(value)` after every validation.

Each is a torch LRScheduler whose lengths come from the run's own number of steps. `warmup` is the fraction of all steps over which
the rate rises linearly: with W warm-up steps, step k (from 0) has (k + 1) / W of the schedule's rate, so the first is never zero.
Only rates are scheduled, by the same factor in every group of the optimizer; momentum keeps the optimizer's value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypedDict, Unpack

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bakeoff.errors import check_argument

# The names that a config uses as targets, defined at the end of this file.
__all__ = ["constant", "cosine", "linear", "multistep", "one_cycle", "plateau", "poly", "step", "wsd"]


class RunLength(TypedDict):
    """The optimizer steps of a run and of an epoch, which every schedule takes."""

    total_steps: int
    steps_per_epoch: int


class Schedule(LRScheduler):
    """The optimizer's own rate throughout, after the warm-up; the base of the other schedules.

    The rate of step k is the optimizer's own times `factor_at(k)`. The state holds only plain numbers, lists and bools.
    """

    watch: Literal["error", "loss"] = "error"
    """What `epoch_end` takes: error (1 - accuracy) or loss."""

    def __init__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float = 0.0) -> None:
        """Set the optimizer steps of the run and of an epoch, and the warm-up as a fraction of all steps, at least 0 and below 1."""
        check_argument("total_steps", total_steps, fits=total_steps >= 1, rule="a run needs at least 1 step")
        check_argument("steps_per_epoch", steps_per_epoch, fits=steps_per_epoch >= 1, rule="an epoch needs at least 1 step")
        check_argument("warmup", warmup, fits=0 <= warmup < 1, rule="must be a fraction of all steps, at least 0 and below 1")
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.warmup_steps = round(warmup * total_steps)
        super().__init__(optimizer)

    def shape(self, step: int) -> float:
        """Return the fraction of the optimizer's rate at `step`, warm-up aside."""
        return 1.0

    def factor_at(self, step: int) -> float:
        """Return the fraction of the optimizer's rate at `step`, counted in optimizer steps from 0."""
        rise = (step + 1) / self.warmup_steps if step < self.warmup_steps else 1.0
        return rise * self.shape(step)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Return the rates of the current step, one for each parameter group (torch calls this)."""
        factor = self.factor_at(self.last_epoch)
        return [float(rate) * factor for rate in self.base_lrs]

    def epoch_end(self, value: float) -> None:
        """Take the watched value after a validation; only Plateau acts on it."""


class MultiStep(Schedule):
    """Multiplied by a factor of its own at each fraction `at` of all steps; the defaults are Wide ResNet's (arXiv:1605.07146)."""

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup: float = 0.0,
        at: Sequence[float] = (0.3, 0.6, 0.8),
        factors: Sequence[float] = (0.2, 0.2, 0.2),
        **length: Unpack[RunLength],
    ) -> None:
        """Set when the rate drops (ascending fractions of all steps, rounded to a step) and by how much; see `Schedule`."""
        fits = len(factors) == len(at) and all(0 < factor <= 1 for factor in factors)
        rule = f"must be {len(at)} numbers above 0 and at most 1, one for each of `at`"
        check_argument("factors", list(factors), fits=fits, rule=rule)
        fits = all(0 < fraction < 1 for fraction in at) and all(a < b for a, b in pairwise(at))
        check_argument("at", list(at), fits=fits, rule="must be ascending fractions of all steps between 0 and 1")
        self.drops = [round(fraction * length["total_steps"]) for fraction in at]
        self.factors = [float(factor) for factor in factors]
        super().__init__(optimizer, warmup=warmup, **length)

    def shape(self, step: int) -> float:
        """Return the product of the factors of the drops passed."""
        passed = self.factors[: sum(step >= drop for drop in self.drops)]
        # A power and a product differ in the last bit: equal factors are a power.
        return passed[0] ** len(passed) if len(set(passed)) == 1 else math.prod(passed)


class Step(MultiStep):
    """Multiplied by `factor` at each fraction `at` of all steps."""

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup: float = 0.0,
        at: Sequence[float] = (0.5, 0.75),
        factor: float = 0.1,
        **length: Unpack[RunLength],
    ) -> None:
        """Set when the rate drops and the factor that all drops share; see `Schedule`."""
        check_argument("factor", factor, fits=0 < factor <= 1, rule="must be above 0 and at most 1")
        super().__init__(optimizer, warmup=warmup, at=at, factors=[factor] * len(at), **length)


class Descent(Schedule):
    """The base of schedules that fall from 1 after the warm-up to `final`, which a step after the last would have."""

    def __init__(self, optimizer: Optimizer, *, warmup: float = 0.0, final: float = 0.0, **length: Unpack[RunLength]) -> None:
        """Set the fraction of the rate, between 0 and 1, that is left at the end; see `Schedule`."""
        check_argument("final", final, fits=0 <= final <= 1, rule="must be a fraction of the rate, between 0 and 1")
        self.final = final
        super().__init__(optimizer, warmup=warmup, **length)

    @property
    def begin(self) -> int:
        """The step from which the rate falls."""
        return self.warmup_steps

    def fall(self, t: float) -> float:
        """Return the share that remains at a fraction t of the fall: 1 at t = 0, 0 at t = 1."""
        raise NotImplementedError

    def shape(self, step: int) -> float:
        """Return final + (1 - final) fall(t), with t from 0 to 1 between step `begin` and the end of the run."""
        t = min(1.0, max(0, step - self.begin) / max(1, self.total_steps - self.begin))
        return self.final + (1 - self.final) * self.fall(t)


class Cosine(Descent):
    """Half a cosine down to the fraction `final`: Loshchilov, Hutter, SGDR (arXiv:1608.03983) without restarts."""

    def fall(self, t: float) -> float:
        """Return (1 + cos(pi t)) / 2."""
        return (1 + math.cos(math.pi * t)) / 2


class Poly(Descent):
    """final + (1 - final) (1 - t)^power with t from 0 to 1 after the warm-up: DeepLab (arXiv:1606.00915, section 4)."""

    def __init__(
        self, optimizer: Optimizer, *, warmup: float = 0.0, final: float = 0.0, power: float = 0.9, **length: Unpack[RunLength]
    ) -> None:
        """Set the power, above 0; see `Descent`."""
        check_argument("power", power, fits=power > 0, rule="must be above 0")
        self.power = power
        super().__init__(optimizer, warmup=warmup, final=final, **length)

    def fall(self, t: float) -> float:
        """Return (1 - t)^power."""
        return float((1 - t) ** self.power)


class Linear(Poly):
    """A straight line down to the fraction `final` at the end of the run."""

    def __init__(self, optimizer: Optimizer, *, warmup: float = 0.0, final: float = 0.0, **length: Unpack[RunLength]) -> None:
        """Set the fraction at the end; see `Descent`."""
        super().__init__(optimizer, warmup=warmup, final=final, power=1.0, **length)


class WarmupStableDecay(Descent):
    """Warm-up, a stable part, and a decay over the last fraction `decay` of all steps: Hu et al. (arXiv:2404.06395).

    The decay is 1 - t or 1 - sqrt(t), which Hägele et al. (arXiv:2405.18392) compare. Where warm-up and decay overlap, the decay
    begins after the warm-up.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup: float = 0.05,
        decay: float = 0.2,
        way: Literal["linear", "sqrt"] = "linear",
        final: float = 0.0,
        **length: Unpack[RunLength],
    ) -> None:
        """Set the length of the decay, as a fraction of all steps, and its form; see `Descent`."""
        check_argument("decay", decay, fits=0 < decay <= 1, rule="must be a fraction of all steps, above 0 and at most 1")
        check_argument("way", way, fits=way in ("linear", "sqrt"), rule="choices: linear, sqrt")
        self.decay_steps = max(1, round(decay * length["total_steps"]))
        self.way = way
        super().__init__(optimizer, warmup=warmup, final=final, **length)

    @property
    def begin(self) -> int:
        """The step at which the stable part ends."""
        return max(self.warmup_steps, self.total_steps - self.decay_steps)

    def fall(self, t: float) -> float:
        """Return 1 - t, or 1 - sqrt(t)."""
        return 1 - (math.sqrt(t) if self.way == "sqrt" else t)


class OneCycle(Cosine):
    """Half a cosine up from the fraction `start` to the optimizer's rate over `warmup`, then half a cosine down to `final`.

    Smith, Topin, Super-Convergence (arXiv:1708.07120). The defaults are those of torch's `OneCycleLR` (1/25, then 1/25 of 1e-4, over
    30 %), which cycles momentum as well: this one does not, so that momentum stays an argument of the optimizer.
    """

    def __init__(
        self, optimizer: Optimizer, *, warmup: float = 0.3, start: float = 0.04, final: float = 4e-6, **length: Unpack[RunLength]
    ) -> None:
        """Set the fraction of the rate to start from; see `Descent`."""
        check_argument("start", start, fits=0 < start <= 1, rule="must be a fraction of the rate, above 0 and at most 1")
        self.start = start
        super().__init__(optimizer, warmup=warmup, final=final, **length)

    def factor_at(self, step: int) -> float:
        """Return 1 - (1 - start) fall(t) on the way up, `shape` from there on."""
        if step < self.warmup_steps:
            return 1 - (1 - self.start) * self.fall(step / self.warmup_steps)
        return self.shape(step)


class Plateau(Schedule):
    """Multiplied by `factor` each time the watched value, to be minimized, has not improved for more than `patience` validations.

    The papers' rule: AlexNet's (section 5) watches the error rate, VGG's (section 3.1) the accuracy. An improvement is a value below
    best - threshold * |best|; nan and infinity are none. Validations within the warm-up set the best but are not counted as bad, nor are
    those before learning has begun, where `wait` says so. The fraction never falls below `floor`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup: float = 0.0,
        patience: int = 2,
        factor: float = 0.1,
        threshold: float = 1e-4,
        floor: float = 1e-3,
        wait: bool = False,
        watch: Literal["error", "loss"] = "error",
        **length: Unpack[RunLength],
    ) -> None:
        """Set what is watched on the validation images and when the rate drops by how much; see `Schedule`."""
        check_argument("watch", watch, fits=watch in ("error", "loss"), rule="choices: error, loss")
        check_argument("patience", patience, fits=patience >= 0, rule="must be a number of epochs, at least 0")
        check_argument("factor", factor, fits=0 < factor < 1, rule="must be above 0 and below 1")
        check_argument("threshold", threshold, fits=0 <= threshold < 1, rule="must be at least 0 and below 1")
        check_argument("floor", floor, fits=0 <= floor <= 1, rule="must be a fraction of the rate, between 0 and 1")
        self.watch, self.patience, self.factor, self.threshold, self.floor = watch, patience, factor, threshold, floor
        self.level, self.best, self.bad, self.waiting = 1.0, math.inf, 0, wait
        super().__init__(optimizer, warmup=warmup, **length)

    def see_accuracy(self, accuracy: float, *, guessing: float, images: int) -> None:
        """Stop waiting once the accuracy is above that of guessing by three standard errors of guessing.

        Args:
            accuracy: That of the validation images.
            guessing: The share of the images in the largest class, which a net that knows no image can reach.
            images: The number of validation images.
        """
        if accuracy > guessing + 3 * math.sqrt(guessing * (1 - guessing) / images):
            self.waiting = False

    def shape(self, step: int) -> float:
        """Return the level that the drops so far have left, whatever the step."""
        return self.level

    def epoch_end(self, value: float) -> None:
        """Count this validation and, where patience is at its end, drop the rate for the next step at once."""
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if math.isfinite(value) and value < self.best - margin:
            self.best = float(value)
            self.bad = 0
        elif self.last_epoch >= self.warmup_steps and not self.waiting:
            self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            self.level = max(self.floor, self.level * self.factor)
            rates = self.get_lr()
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            self._last_lr = [*rates]


constant, step, multistep, plateau = Schedule, Step, MultiStep, Plateau
linear, poly, cosine, one_cycle, wsd = Linear, Poly, Cosine, OneCycle, WarmupStableDecay
