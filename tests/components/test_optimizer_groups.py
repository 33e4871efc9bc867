"""Which parameters decay, in what order, and that torch's optimizers take the groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bakeoff.components.optimizers import parameter_groups


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.PReLU(),
        nn.GroupNorm(2, 8),
        nn.Flatten(),
        nn.Linear(8, 8),
        nn.LayerNorm((8,)),
        nn.Linear(8, 2),
    )


def names(model: nn.Module, group: dict[str, list[nn.Parameter]]) -> list[str]:
    names_by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names_by_id[id(parameter)] for parameter in group["params"]]


def test_weights_decay_and_norms_biases_and_slopes_do_not() -> None:
    model = net()
    decayed, rest = parameter_groups(model, weight_decay=0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert names(model, decayed) == ["0.weight", "5.weight", "7.weight"]
    assert names(model, rest) == [
        "0.bias",
        "1.weight",
        "1.bias",
        "2.weight",
        "3.weight",
        "3.bias",
        "5.bias",
        "6.weight",
        "6.bias",
        "7.bias",
    ]


@pytest.mark.parametrize(("decay", "decay_all"), [(0.1, True), (0.0, False), (None, False), (None, True)])
def test_there_is_one_group_if_the_split_makes_no_difference(decay: float | None, decay_all: bool) -> None:
    model = net()
    (group,) = parameter_groups(model, weight_decay=decay, decay_all=decay_all)
    assert names(model, group) == [name for name, _ in model.named_parameters()]
    assert group.get("weight_decay", "absent") == ("absent" if decay is None else decay)


def test_shared_and_frozen_parameters_and_empty_groups() -> None:
    model = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    (group,) = parameter_groups(model, weight_decay=0.1)
    assert [id(weight) for weight in group["params"]] == [id(model[0].weight)]
    (only,) = parameter_groups(nn.BatchNorm2d(3), weight_decay=0.1)
    assert only["weight_decay"] == 0.0


@pytest.mark.parametrize("decay_all", [False, True])
def test_a_step_on_zero_gradients_shrinks_exactly_what_decays(decay_all: bool) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=0.5, decay_all=decay_all), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        shrinks = decay_all or name in ("0.weight", "5.weight", "7.weight")
        torch.testing.assert_close(value.detach(), before[name].detach() * (0.95 if shrinks else 1.0))
