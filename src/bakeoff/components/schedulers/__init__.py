"""Learning-rate schedules with one interface: `step()` after every optimizer step, `epoch_end(value)` after every validation.

Each is a torch LRScheduler whose lengths come from the run's own number of steps. `warmup` is the fraction of all steps over which
the rate rises linearly: with W warm-up steps, step k (from 0) has (k + 1) / W of the schedule's rate, so the first is never zero.
Rates alone are scheduled, in every group of the optimizer alike; momentum stays as the optimizer has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bakeoff.components.schedulers.schedules import Cosine, OneCycle, Plateau, Poly, Schedule, Step, Wsd, require

# The names that a config may use as a target.
__all__ = ["constant", "cosine", "linear", "multistep", "one_cycle", "plateau", "poly", "step", "wsd"]


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
    require("factor", factor, fits=0 < factor <= 1, rule="must be above 0 and at most 1")
    factors = [factor] * len(at)
    return Step(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, at=at, factors=factors)


def multistep(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0.0,
    at: Sequence[float] = (0.3, 0.6, 0.8),
    factors: Sequence[float] = (0.2, 0.2, 0.2),
) -> LRScheduler:
    """Multiplied by a factor of its own at each fraction `at` of all steps; the defaults are Wide ResNet's (arXiv:1605.07146)."""
    fits = len(factors) == len(at) and all(0 < factor <= 1 for factor in factors)
    require("factors", list(factors), fits=fits, rule=f"must be {len(at)} numbers above 0 and at most 1, one for each of scheduler.at")
    return Step(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, at=at, factors=factors)


def linear(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float = 0.0, final: float = 0.0) -> LRScheduler:
    """A straight line down to the fraction `final` at the end of the run."""
    return Poly(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final, power=1.0)


def poly(
    optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float = 0.0, final: float = 0.0, power: float = 0.9
) -> LRScheduler:
    """final + (1 - final) (1 - t)^power with t from 0 to 1 after the warm-up: DeepLab (arXiv:1606.00915, section 4)."""
    return Poly(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final, power=power)


def cosine(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup: float = 0.0, final: float = 0.0) -> LRScheduler:
    """Half a cosine down to the fraction `final`: Loshchilov, Hutter, SGDR (arXiv:1608.03983) without restarts."""
    return Cosine(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final)


def one_cycle(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0.3,
    start: float = 0.04,
    final: float = 4e-6,
) -> LRScheduler:
    """Half a cosine up from the fraction `start` to the optimizer's rate over `warmup`, then half a cosine down to `final`.

    Smith, Topin, Super-Convergence (arXiv:1708.07120). The defaults are those of torch's `OneCycleLR` (1/25, then 1/25 of 1e-4, over
    30 %), which cycles momentum as well: this one does not, so that momentum stays an argument of the optimizer.
    """
    return OneCycle(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, start=start, final=final)


def wsd(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0.05,
    decay: float = 0.2,
    way: Literal["linear", "sqrt"] = "linear",
    final: float = 0.0,
) -> LRScheduler:
    """Warm-up, a stable part, and a decay over the last fraction `decay` of all steps: Hu et al. (arXiv:2404.06395).

    `way`: the decay is 1 - t or 1 - sqrt(t), which Hägele et al. (arXiv:2405.18392) compare. Where warm-up and decay overlap, the
    decay begins behind the warm-up.
    """
    return Wsd(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, warmup=warmup, final=final, decay=decay, way=way)


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
    watch: Literal["error", "loss"] = "error",
) -> LRScheduler:
    """Dropped by `factor` when what is watched on the validation images stalls for more than `patience` epochs.

    The papers' rule: AlexNet's (section 5) watches the error rate, VGG's (section 3.1) the accuracy.
    """
    return Plateau(
        optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup=warmup,
        patience=patience,
        factor=factor,
        threshold=threshold,
        floor=floor,
        watch=watch,
    )
