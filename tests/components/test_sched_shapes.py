"""Linear, poly, multistep, one-cycle and warm-up-stable-decay rates against closed forms and torch's own, and their errors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bakeoff import builders
from bakeoff.components.schedulers import constant, linear, multistep, one_cycle, poly, wsd
from bakeoff.config.compose import compose
from bakeoff.config.slots import package_data_dir
from bakeoff.config.targets import build_errors
from bakeoff.errors import ChoiceError

EVERY = sorted(path.stem for path in (package_data_dir("conf") / "scheduler").glob("*.yaml"))


def optimizer(**arguments: Any) -> torch.optim.SGD:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": weights[:1]}, {"params": weights[1:], "lr": 1.0}]
    return torch.optim.SGD(groups, **{"lr": 0.5, **arguments})


def rates(schedule: Any, *, steps: int = 100, total: int = 100, **arguments: Any) -> list[float]:
    """The rate of each step as a fraction of the optimizer's, which is the same in both groups."""
    sgd = optimizer(momentum=0.9)
    scheduler, fractions = schedule(sgd, total_steps=total, steps_per_epoch=10, **arguments), []
    for _ in range(steps):
        first, second = (group["lr"] for group in sgd.param_groups)
        assert second == pytest.approx(2 * first, rel=1e-12) and sgd.param_groups[0]["momentum"] == 0.9
        fractions.append(first / 0.5)
        sgd.step()
        scheduler.step()
    return fractions


@pytest.mark.parametrize(
    ("schedule", "arguments", "expected"),
    [
        (linear, {}, lambda k: 1 - k / 100),
        (linear, {"final": 0.2}, lambda k: 0.2 + 0.8 * (1 - k / 100)),
        (linear, {"warmup": 0.2}, lambda k: (k + 1) / 20 if k < 20 else 1 - (k - 20) / 80),
        (poly, {}, lambda k: (1 - k / 100) ** 0.9),
        (poly, {"power": 2.0, "final": 0.1, "warmup": 0.1}, lambda k: (k + 1) / 10 if k < 10 else 0.1 + 0.9 * (1 - (k - 10) / 90) ** 2),
        (multistep, {}, lambda k: 0.2 ** ((k >= 30) + (k >= 60) + (k >= 80))),
        (multistep, {"at": [0.5, 0.9], "factors": [0.1, 0.5]}, lambda k: 1 if k < 50 else 0.1 if k < 90 else 0.05),
        (wsd, {"warmup": 0.0}, lambda k: 1 if k < 80 else 1 - (k - 80) / 20),
        (wsd, {"warmup": 0.1, "decay": 0.5, "way": "sqrt"}, lambda k: (k + 1) / 10 if k < 10 else 1 - math.sqrt(max(0, k - 50) / 50)),
        (wsd, {"warmup": 0.5, "decay": 0.8, "final": 0.1}, lambda k: (k + 1) / 50 if k < 50 else 0.1 + 0.9 * (1 - (k - 50) / 50)),
        (one_cycle, {"warmup": 0.5, "start": 0.1, "final": 0.0}, lambda k: 0.55 - 0.45 * math.cos(math.pi * k / 50) if k < 50 else None),
        (one_cycle, {"warmup": 0.0, "final": 0.0}, lambda k: (1 + math.cos(math.pi * k / 100)) / 2),
    ],
)
def test_rates_have_their_closed_form(schedule: Any, arguments: dict[str, Any], expected: Callable[[int], float | None]) -> None:
    fractions = rates(schedule, **arguments)
    assert any(expected(k) is not None for k in range(100))
    for k, rate in enumerate(fractions):
        fraction = expected(k)
        assert fraction is None or rate == pytest.approx(fraction, rel=1e-12), k


def test_one_cycle_matches_torch_for_the_length_of_the_run() -> None:
    # torch peaks at step 0.3 total - 1 and ends at step total - 1: the same curve between the same two points.
    sgd = optimizer(lr=1 / 25)
    theirs = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=1.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False)
    ours = rates(one_cycle, warmup=0.3)
    for k, rate in enumerate(ours):
        assert rate == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-9), k
        sgd.step()
        theirs.step()


@pytest.mark.parametrize("schedule", [linear, poly, wsd, one_cycle])
def test_falls_to_its_end_and_stays_constant(schedule: Any) -> None:
    fractions = rates(schedule, steps=130, warmup=0.1, final=0.01)
    assert fractions[99] > 0.01
    assert fractions[100:] == pytest.approx([0.01] * 30)
    assert max(fractions) == pytest.approx(1.0)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_every_choice_has_a_rate_above_zero_at_every_step(name: str, total: int) -> None:
    run = compose([f"scheduler={name}"])
    sgd = optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler: Any = builders.make_scheduler(run, sgd, total_steps=total, steps_per_epoch=1)
        for _ in range(total):
            assert 0 < sgd.param_groups[0]["lr"] <= 0.5
            sgd.step()
            scheduler.step()
            scheduler.epoch_end(1.0)


def test_a_schedule_has_the_length_of_the_run() -> None:
    assert rates(linear, steps=7, total=7) == pytest.approx([1 - k / 7 for k in range(7)])
    assert rates(constant, steps=7, total=7) == [1.0] * 7


@pytest.mark.parametrize(
    ("schedule", "arguments", "words"),
    [
        (multistep, {"factors": [0.1]}, r"scheduler.factors=\[0.1\]: must be 3 numbers"),
        (multistep, {"at": [0.5], "factors": [1.5]}, "scheduler.factors"),
        (poly, {"power": 0.0}, "scheduler.power=0.0"),
        (linear, {"final": 2.0}, "scheduler.final=2.0"),
        (wsd, {"decay": 0.0}, "scheduler.decay=0.0"),
        (wsd, {"way": "cubic"}, "scheduler.way=cubic: choices: linear, sqrt"),
        (one_cycle, {"start": 0.0}, "scheduler.start=0.0"),
    ],
)
def test_a_value_out_of_range_is_an_error(schedule: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ChoiceError, match=words), build_errors("scheduler", {}):
        schedule(optimizer(), total_steps=10, steps_per_epoch=5, **arguments)
