"""Every loss: its value at zero scores, its formula in float64, its gradient, and soft targets as a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff import builders
from bakeoff.components.losses import Focal, MulticlassHinge, OneAgainstRest, SquaredError
from bakeoff.config.compose import compose
from bakeoff.config.slots import package_data_dir
from bakeoff.config.targets import build_errors
from bakeoff.errors import ChoiceError

EVERY = sorted(path.stem for path in (package_data_dir("conf") / "loss").glob("*.yaml"))
AT_ZERO: dict[str, Callable[[int], float]] = {
    "softmax": lambda c: math.log(c),
    "svm": lambda c: c - 1,
    "svm_squared": lambda c: c - 1,
    "mse": lambda c: 1 / c,
    "bce": lambda c: math.log(2),
    "focal": lambda c: (1 - 1 / c) ** 2 * math.log(c),
}


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(s) for s in row)
    return [math.exp(s) / total for s in row]


def hinge(row: list[float], y: int, p: int) -> float:
    return sum(max(0.0, 1 - row[y] + s) ** p for j, s in enumerate(row) if j != y)


def binary(row: list[float], y: int) -> float:
    chances = [1 / (1 + math.exp(-s)) for s in row]
    return -sum(math.log(q if j == y else 1 - q) for j, q in enumerate(chances)) / len(row)


FORMULAS: dict[str, tuple[nn.Module, Callable[[list[float], int], float]]] = {
    "cross entropy": (nn.CrossEntropyLoss(), lambda row, y: -math.log(softmax(row)[y])),
    "hinge": (MulticlassHinge(p=1), lambda row, y: hinge(row, y, 1)),
    "hinge squared": (MulticlassHinge(p=2), lambda row, y: hinge(row, y, 2)),
    "squared error": (SquaredError(), lambda row, y: sum((s - (j == y)) ** 2 for j, s in enumerate(row)) / len(row)),
    "one against rest": (OneAgainstRest(), binary),
    "focal 2": (Focal(), lambda row, y: -((1 - softmax(row)[y]) ** 2) * math.log(softmax(row)[y])),
    "focal 0.5": (Focal(gamma=0.5), lambda row, y: -((1 - softmax(row)[y]) ** 0.5) * math.log(softmax(row)[y])),
    "focal 0": (Focal(gamma=0.0), lambda row, y: -math.log(softmax(row)[y])),
}


def scores(seed: int = 0) -> Tensor:
    return torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def soft() -> Tensor:
    """Mixtures of two classes, of all five, and of one."""
    one_hot = torch.eye(5, dtype=torch.float64)
    two = one_hot[[0, 1, 2, 3]] * 0.3 + one_hot[[1, 4, 2, 0]] * 0.7
    every = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25], [0.2] * 5], dtype=torch.float64)
    return torch.cat([two, every, one_hot[4:]])


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("name", EVERY)
def test_the_loss_at_zero_scores_has_its_formula(name: str, classes: int) -> None:
    loss = builders.make_loss(compose([f"loss={name}"]))
    for targets in (torch.arange(8) % classes, nn.functional.one_hot(torch.arange(8) % classes, classes).float()):
        assert loss(torch.zeros(8, classes), targets).item() == pytest.approx(AT_ZERO[name](classes), rel=1e-5)


@pytest.mark.parametrize("kind", FORMULAS)
def test_value_and_gradient_match_the_formula(kind: str) -> None:
    loss, formula = FORMULAS[kind]
    x, targets = scores(), torch.tensor([0, 4, 2, 1, 1, 3, 0])
    expected = sum(formula(row, y) for row, y in zip(x.tolist(), targets.tolist(), strict=True)) / 7
    assert loss(x, targets).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), (x,))
    assert torch.autograd.gradcheck(lambda s: loss(s, soft()), (x,))


@pytest.mark.parametrize("kind", FORMULAS)
def test_soft_targets_cost_the_mixture_of_their_classes(kind: str) -> None:
    loss, formula = FORMULAS[kind]
    x, mixed = scores(3), soft()
    pairs = zip(x.tolist(), mixed.tolist(), strict=True)
    expected = sum(share * formula(row, y) for row, shares in pairs for y, share in enumerate(shares) if share) / 7
    assert loss(x, mixed).item() == pytest.approx(expected, rel=1e-12)
    classes = torch.tensor([3, 0, 1, 2, 4, 4, 0])
    assert loss(x, nn.functional.one_hot(classes, 5).double()).item() == pytest.approx(loss(x, classes).item(), rel=1e-12)


def test_focal_loss_with_gamma_0_is_the_cross_entropy() -> None:
    x = torch.randn(50, 10, generator=torch.Generator().manual_seed(1)) * 20
    targets = torch.arange(50) % 10
    torch.testing.assert_close(Focal(gamma=0.0)(x, targets), nn.functional.cross_entropy(x, targets))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_certainty_is_zero_and_has_a_gradient(gamma: float) -> None:
    x = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = Focal(gamma=gamma)(x, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("loss", [SquaredError(), OneAgainstRest(), Focal(), MulticlassHinge()], ids=lambda loss: type(loss).__name__)
def test_half_precision_scores_are_summed_in_float32(loss: nn.Module) -> None:
    x = torch.randn(64, 100, generator=torch.Generator().manual_seed(2)).bfloat16()
    for targets in (torch.arange(64), nn.functional.one_hot(torch.arange(64), 100).bfloat16()):
        value = loss(x, targets)
        assert value.dtype is torch.float32
        torch.testing.assert_close(value, loss(x.double(), targets).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [-1.0, math.inf, math.nan])
def test_a_gamma_out_of_range_is_an_error(gamma: Any) -> None:
    with pytest.raises(ChoiceError, match=r"loss\.gamma="), build_errors("loss", {}):
        Focal(gamma=gamma)
