"""The scale of a head and the critical gain, against direct formulas and SciPy's quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from bakeoff import builders
from bakeoff.components.initializers import (
    HeNormal,
    Zeros,
    activation_gain,
    check_head,
    critical_gain,
    gain_by_rule,
    gain_row,
    gradient_factor,
    scale_head,
)
from bakeoff.components.losses import chance_loss
from bakeoff.config.choices import choice_files, read_choice
from bakeoff.config.compose import compose
from bakeoff.errors import ArgumentError
from bakeoff.sweep.plan import make_plan


def mean(function: Callable[[float], float]) -> float:
    """E[function(z)] for z ~ N(0, 1)."""
    return float(quad(lambda z: function(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12, points=[0], limit=500)[0])


SAYS_SO = "far above guessing"


def filled(initializer: HeNormal | Zeros) -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 10))
    initializer(net, activation_gain=1.7, generator=torch.Generator().manual_seed(0))
    return net


def test_a_head_has_its_own_scale_whatever_filled_it() -> None:
    net, before = filled(HeNormal(bias=0.5)), filled(HeNormal(bias=0.5))
    scale_head(net, "as_rest")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True))
    scale_head(net, 0.3)
    assert isinstance(net[3], nn.Linear) and isinstance(before[3], nn.Linear)
    assert float(net[3].weight.detach().square().mean().sqrt()) == pytest.approx(0.3 / math.sqrt(200), rel=1e-6)
    torch.testing.assert_close(net[3].weight / net[3].weight.norm(), before[3].weight / before[3].weight.norm())
    assert torch.equal(net[0].weight, before[0].weight)  # type: ignore[arg-type]
    scale_head(net, "zero")
    assert not net(torch.randn(2, 1, 7, 7)).any()
    zeros = filled(Zeros())
    scale_head(zeros, 0.3)
    assert not zeros[3].weight.any()  # type: ignore[operator]


@pytest.mark.parametrize("head", [0, -1.0, math.inf, True, "half"])
def test_an_impossible_head_is_refused(head: object) -> None:
    with pytest.raises(ArgumentError, match="must be a finite number above 0, zero or as_rest"):
        check_head(head)


def test_the_critical_gain_of_sigmoid_keeps_variance_and_gradients() -> None:
    gain = critical_gain(nn.Sigmoid())
    assert gain is not None

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    q = 1.0
    for _ in range(60):  # the variance map, to its fixed point
        q = gain**2 * mean(lambda z: sigmoid(math.sqrt(q) * z) ** 2)  # noqa: B023
    slopes = mean(lambda z: (sigmoid(math.sqrt(q) * z) * sigmoid(-math.sqrt(q) * z)) ** 2)
    assert gain**2 * slopes == pytest.approx(1, abs=1e-3)
    assert gradient_factor(nn.Sigmoid(), gain=gain, variance=q) == pytest.approx(1, abs=2e-3)
    assert gradient_factor(nn.Sigmoid(), gain=activation_gain(nn.Sigmoid())) == pytest.approx(0.153, abs=1e-3)
    assert gradient_factor(nn.Softplus(), gain=activation_gain(nn.Softplus())) == pytest.approx(0.318, abs=1e-3)
    expected = activation_gain(nn.Tanh()) ** 2 * mean(lambda z: (1 - math.tanh(z) ** 2) ** 2)
    assert gradient_factor(nn.Tanh(), gain=activation_gain(nn.Tanh())) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (nn.Identity(), 1.0),
        (nn.ReLU(), math.sqrt(2)),
        (nn.LeakyReLU(0.3), math.sqrt(2 / 1.09)),
        (nn.Tanh(), 1.0),
        (nn.Softsign(), 1.0),
        (nn.ELU(), 1.0),
        (nn.Softplus(), None),
        (nn.GELU(), None),
        (nn.SiLU(), None),
        (nn.Mish(), None),
        (nn.Hardswish(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_critical_gains(activation: nn.Module, expected: float | None) -> None:
    assert critical_gain(activation) == (None if expected is None else pytest.approx(expected, rel=1e-4))
    resolved = activation_gain(activation) if expected is None else expected
    assert gain_by_rule(activation, "critical") == pytest.approx(resolved, rel=1e-4)
    assert gain_by_rule(activation, "second_moment") == activation_gain(activation)


def test_the_gains_of_a_table() -> None:
    assert gain_row(nn.Sigmoid()) == ("10.15", "1.846", "0.153")
    assert gain_row(nn.Softplus()) == ("none", "1.042", "0.318")
    assert gain_row(nn.ReLU()) == ("1.414", "1.414", "1.000")


def test_selu_keeps_the_gain_of_its_own_fixed_point() -> None:
    assert gain_by_rule(nn.SELU(), "critical") == pytest.approx(1, rel=1e-4)


def excess(words: tuple[str, ...] = (), run: object = None) -> float:
    """The loss at the start on standard normal images, relative to guessing, less 1."""
    config = compose(words) if run is None else run
    net, loss = builders.make_model(config).eval(), builders.make_loss(config)  # type: ignore[arg-type]
    data = config.data  # type: ignore[attr-defined]
    images = torch.randn(16, data.channels, data.size, data.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        value = float(loss(net(images), torch.arange(16) % data.num_classes))
    return value / chance_loss(loss, classes=data.num_classes) - 1


def test_the_default_run_starts_at_the_loss_of_guessing() -> None:
    assert abs(excess()) < 0.1
    assert excess(("initializer.head=as_rest",)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", choice_files("sweep"))
def test_arms_start_at_the_loss_of_guessing_unless_they_say_so(name: str) -> None:
    plan = make_plan(name, overrides=() if name == "quickstart" else ("scale=smoke",))
    for arm in plan.planned_arms:
        names = {*arm.choices.values(), *arm.arm.split("+")}
        files = {**choice_files("initializer"), **choice_files("experiment")}
        abouts = [str(read_choice(path)["about"]) for name, path in files.items() if name in names]
        if not any(SAYS_SO in about for about in abouts):
            assert abs(excess(run=arm.run)) < 0.5, (arm.arm, arm.block)


@pytest.mark.slow
@pytest.mark.parametrize("name", choice_files("experiment"))
def test_experiments_start_at_the_loss_of_guessing_unless_they_say_so(name: str) -> None:
    about = str(read_choice(choice_files("experiment")[name])["about"])
    if SAYS_SO not in about:
        assert abs(excess((f"experiment={name}",))) < 0.5
