"""Rates of every schedule step by step, plateaus, states that survive a round trip, and one-line errors."""

from __future__ import annotations

import io
import math
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from bakeoff.components import schedulers
from bakeoff.components.schedulers import RunLength, constant, cosine, plateau, step
from bakeoff.config.targets import build_errors
from bakeoff.errors import ChoiceError

EVERY = [constant, step, cosine, plateau]
LENGTHS: RunLength = {"total_steps": 100, "steps_per_epoch": 10}


def optimizer(lr: float = 0.5) -> torch.optim.SGD:
    first, second = ([torch.nn.Parameter(torch.zeros(2))] for _ in range(2))
    groups: list[dict[str, Any]] = [{"params": first}, {"params": second, "lr": 2 * lr}]
    return torch.optim.SGD(groups, lr=lr)


def rates(schedule: Any, *, steps: int = 100, **arguments: Any) -> list[float]:
    """The rate of each optimizer step, as a fraction of the optimizer's own."""
    fractions, sgd = [], optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = schedule(sgd, **LENGTHS, **arguments)
        for _ in range(steps):
            assert sgd.param_groups[1]["lr"] == pytest.approx(2 * sgd.param_groups[0]["lr"])
            fractions.append(sgd.param_groups[0]["lr"] / 0.5)
            sgd.step()
            scheduler.step()
    return fractions


def test_constant_step_and_cosine_have_their_closed_values() -> None:
    assert rates(constant) == [1.0] * 100
    assert rates(step) == pytest.approx([1.0] * 50 + [0.1] * 25 + [0.01] * 25)
    assert rates(step, at=[0.2], factor=0.5) == pytest.approx([1.0] * 20 + [0.5] * 80)
    assert rates(cosine) == pytest.approx([(1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)])
    assert rates(cosine, final=0.1) == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)])
    assert rates(plateau) == [1.0] * 100


@pytest.mark.parametrize("schedule", EVERY)
def test_warmup_rises_linearly_from_above_zero(schedule: Any) -> None:
    fractions = rates(schedule, warmup=0.2)
    assert fractions[:20] == pytest.approx([(k + 1) / 20 for k in range(20)])
    assert fractions[20] == pytest.approx(1.0)
    assert min(fractions) > 0


def test_cosine_starts_after_the_warmup_and_ends_at_its_final_fraction() -> None:
    fractions = rates(cosine, steps=130, warmup=0.2, final=0.05)
    assert fractions[60] == pytest.approx(0.05 + 0.95 / 2)
    assert fractions[100:] == pytest.approx([0.05] * 30)
    assert all(a > b for a, b in pairwise(fractions[20:101]))


@pytest.mark.parametrize("schedule", EVERY)
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_a_run_of_one_step_has_a_rate(schedule: Any, warmup: float) -> None:
    sgd = optimizer()
    schedule(sgd, total_steps=1, steps_per_epoch=1, warmup=warmup)
    assert 0 < sgd.param_groups[0]["lr"] <= 0.5


def epochs(scheduler: Any, sgd: torch.optim.Optimizer, values: list[float], *, steps: int = 1) -> list[float]:
    """Fraction of the rate right after each validation."""
    observed = []
    for value in values:
        for _ in range(steps):
            sgd.step()
            scheduler.step()
        scheduler.epoch_end(value)
        observed.append(sgd.param_groups[0]["lr"] / 0.5)
    return observed


def test_plateau_drops_after_its_patience_and_restarts_its_count() -> None:
    sgd = optimizer()
    scheduler = plateau(sgd, **LENGTHS, patience=1, factor=0.5, floor=0.0)
    values = [1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.5, 0.6, 0.6]
    assert epochs(scheduler, sgd, values) == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125])
    assert sgd.param_groups[1]["lr"] == pytest.approx(2 * sgd.param_groups[0]["lr"])
    assert scheduler.get_last_lr() == [group["lr"] for group in sgd.param_groups]


def test_plateau_agrees_with_torchs_own() -> None:
    generator = torch.Generator().manual_seed(0)
    values = (torch.rand(60, generator=generator) + torch.linspace(1, 0.2, 60)).tolist()
    ours, theirs = optimizer(), optimizer()
    scheduler = plateau(ours, **LENGTHS, patience=3, factor=0.3, floor=0.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.3, patience=3, threshold=1e-4, eps=0.0)
    for value in values:
        epochs(scheduler, ours, [value])
        reference.step(value)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
    assert ours.param_groups[0]["lr"] < 0.5


def test_plateau_has_a_floor_and_a_threshold_and_ignores_nan() -> None:
    sgd = optimizer()
    assert epochs(plateau(sgd, **LENGTHS, patience=0, factor=0.1, floor=0.05), sgd, [1.0, 1.0, 1.0, 1.0]) == pytest.approx(
        [1, 0.1, 0.05, 0.05]
    )
    sgd = optimizer()
    assert epochs(plateau(sgd, **LENGTHS, patience=0, threshold=0.1), sgd, [1.0, 0.95, 0.5]) == pytest.approx([1, 0.1, 0.1])
    sgd = optimizer()
    scheduler = plateau(sgd, **LENGTHS, patience=0)
    assert epochs(scheduler, sgd, [math.nan, 1.0, math.nan]) == pytest.approx([0.1, 0.1, 0.01])


def test_plateau_does_not_drop_within_its_warmup() -> None:
    sgd = optimizer()
    scheduler = plateau(sgd, **LENGTHS, patience=0, warmup=0.3)
    assert epochs(scheduler, sgd, [1.0, 2.0], steps=10) == pytest.approx([11 / 30, 21 / 30])
    assert epochs(scheduler, sgd, [2.0, 2.0], steps=10) == pytest.approx([0.1, 0.01])


def test_plateau_waits_until_an_accuracy_is_above_guessing_by_three_standard_errors() -> None:
    sgd = optimizer()
    scheduler = plateau(sgd, **LENGTHS, patience=0, wait=True)
    assert epochs(scheduler, sgd, [0.9, 0.9, 0.9]) == [1, 1, 1]
    scheduler.see_accuracy(0.1 + 3 * 0.03 - 1e-6, guessing=0.1, images=100)  # sqrt(0.1 * 0.9 / 100) = 0.03
    assert epochs(scheduler, sgd, [0.9]) == [1]
    scheduler.see_accuracy(0.1 + 3 * 0.03 + 1e-6, guessing=0.1, images=100)
    assert epochs(scheduler, sgd, [0.9, 0.5, 0.9]) == pytest.approx([0.1, 0.1, 0.01])
    scheduler.see_accuracy(0.1, guessing=0.1, images=100)
    assert not scheduler.waiting


PLAIN = (bool, int, float, str, type(None))


def is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(is_plain(part) for part in (*value, *value.values()))
    return type(value) in PLAIN


@pytest.mark.parametrize("schedule", EVERY)
def test_a_state_has_plain_types_and_resumes_exactly(schedule: Any) -> None:
    def run(scheduler: Any, sgd: torch.optim.Optimizer, first: int, last: int) -> list[float]:
        observed = []
        for k in range(first, last):
            observed.append(sgd.param_groups[0]["lr"])
            sgd.step()
            scheduler.step()
            if k % 10 == 9:
                scheduler.epoch_end(1.0 if k < 20 else 2.0)
        return observed

    uninterrupted = optimizer()
    expected = run(schedule(uninterrupted, **LENGTHS, warmup=0.1), uninterrupted, 0, 100)
    first = optimizer()
    scheduler = schedule(first, **LENGTHS, warmup=0.1)
    head = run(scheduler, first, 0, 43)
    assert is_plain(scheduler.state_dict())
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "schedule": scheduler.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    second = optimizer()
    resumed = schedule(second, **LENGTHS, warmup=0.1)
    second.load_state_dict(stored["optimizer"])
    resumed.load_state_dict(stored["schedule"])
    assert head + run(resumed, second, 43, 100) == expected


@pytest.mark.parametrize("schedule", EVERY)
def test_all_have_one_interface(schedule: Any) -> None:
    scheduler = schedule(optimizer(), **LENGTHS)
    assert issubclass(type(scheduler), LRScheduler)
    before = scheduler.get_last_lr()
    scheduler.epoch_end(1.0)
    assert scheduler.get_last_lr() == before
    assert schedule in {getattr(schedulers, name) for name in schedulers.__all__}


@pytest.mark.parametrize(
    ("schedule", "arguments", "words"),
    [
        (constant, {"warmup": 1.0}, "scheduler.warmup=1.0"),
        (cosine, {"warmup": math.nan}, "scheduler.warmup=nan"),
        (cosine, {"final": 1.5}, "scheduler.final=1.5"),
        (step, {"at": [0.75, 0.5]}, r"scheduler.at=\[0.75, 0.5\]: must be ascending"),
        (step, {"at": [30, 60]}, "scheduler.at"),
        (step, {"factor": 0.0}, "scheduler.factor=0.0"),
        (plateau, {"factor": 1.0}, "scheduler.factor=1.0"),
        (plateau, {"patience": -1}, "scheduler.patience=-1"),
        (plateau, {"threshold": -0.1}, "scheduler.threshold=-0.1"),
        (plateau, {"floor": 2.0}, "scheduler.floor=2.0"),
        (constant, {"total_steps": 0}, "scheduler.total_steps=0"),
    ],
)
def test_a_value_out_of_range_is_an_error(schedule: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ChoiceError, match=words), build_errors("scheduler", {}):
        schedule(optimizer(), **{**LENGTHS, **arguments})
