"""The multiclass hinge against an independent formula, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bakeoff.components.losses import MulticlassHinge
from bakeoff.config.targets import build_errors
from bakeoff.errors import ChoiceError


def by_hand(scores: torch.Tensor, targets: torch.Tensor, *, p: int, margin: float) -> float:
    total = 0.0
    for row, target in zip(scores.tolist(), targets.tolist(), strict=True):
        total += sum(max(0.0, margin - row[target] + score) ** p for j, score in enumerate(row) if j != target)
    return total / len(targets)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.3, 4.0])
def test_value_and_gradient_match_the_formula(p: Any, margin: float) -> None:
    generator = torch.Generator().manual_seed(p)
    scores = torch.randn(9, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(0, 6, (9,), generator=generator)
    loss = MulticlassHinge(p=p, margin=margin)
    assert loss(scores, targets).item() == pytest.approx(by_hand(scores, targets, p=p, margin=margin), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), (scores,))


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("p", [1, 2])
def test_zero_scores_give_one_less_than_the_number_of_classes(classes: int, p: Any) -> None:
    loss = MulticlassHinge(p=p)(torch.zeros(5, classes), torch.arange(5) % classes)
    assert loss.item() == pytest.approx(classes - 1, rel=1e-5)


def test_right_scores_beyond_the_margin_cost_nothing() -> None:
    assert MulticlassHinge()(torch.tensor([[3.0, 1.9, -5.0]]), torch.tensor([0])).item() == 0.0


def test_half_precision_scores_are_summed_in_float32() -> None:
    scores, targets = torch.randn(64, 100).bfloat16(), torch.zeros(64, dtype=torch.long)
    loss = MulticlassHinge()(scores, targets)
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(by_hand(scores.double(), targets, p=1, margin=1.0), rel=1e-5)


@pytest.mark.parametrize(("arguments", "words"), [({"p": 3}, "loss.p=3: choices: 1, 2"), ({"margin": 0.0}, "loss.margin=0.0")])
def test_a_value_out_of_range_is_an_error(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ChoiceError, match=words), build_errors("loss", {}):
        MulticlassHinge(**arguments)
