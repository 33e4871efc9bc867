"""Every file of a choice is short, describes itself in a line, and can be built from its arguments."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from bakeoff.components.initializers import Initializer, activation_gain
from bakeoff.components.optimizers import parameter_groups
from bakeoff.config.choices import DESCRIPTIVE_KEYS

CONF = Path(__file__).parents[2] / "conf"
SLOTS = {
    "model": ["alexnet", *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))],
    "activation": ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu"],
    "initializer": [
        "zeros",
        "constant",
        "normal",
        "trunc_normal",
        "xavier_uniform",
        "xavier_normal",
        "he_uniform",
        "he_normal",
        "orthogonal",
        "torch_default",
    ],
    "optimizer": ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"],
    "scheduler": ["constant", "step", "cosine", "plateau"],
    "loss": ["softmax", "svm"],
}
FILES = sorted(path for slot in SLOTS for path in (CONF / slot).glob("*.yaml"))
SIBLINGS = ("_target_", "decay_all", *DESCRIPTIVE_KEYS)
FROM_DATA = {"${data.num_classes}": 10, "${data.channels}": 3, "${data.size}": 32}


def read_choice(path: Path) -> dict[str, Any]:
    """Return the content of a choice file, merged over that of the file in its `defaults`."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    inherited: dict[str, Any] = {}
    for default in content.pop("defaults", []):
        if default != "_self_":
            inherited = read_choice(path.parent / f"{default.partition('@')[0]}.yaml")
    for key, value in content.items():
        inherited[key] = inherited[key] | value if isinstance(value, dict) and isinstance(inherited.get(key), dict) else value
    return inherited


def component_config(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return a choice's target, its arguments, and its other keys."""
    choice = read_choice(path)
    module, _, name = choice["_target_"].rpartition(".")
    siblings = (*SIBLINGS, "head", "auto_gain") if path.parent.name == "initializer" else SIBLINGS
    arguments = {key: FROM_DATA.get(str(value), value) for key, value in choice.items() if key not in siblings}
    return getattr(importlib.import_module(module), name), arguments, {key: choice[key] for key in SIBLINGS if key in choice}


def build(slot: str, name: str) -> Any:
    target, arguments, _ = component_config(CONF / slot / f"{name}.yaml")
    return target(**arguments)


@pytest.mark.parametrize("slot", SLOTS)
def test_the_expected_choices_exist(slot: str) -> None:
    assert set(SLOTS[slot]) <= {path.stem for path in FILES if path.parent.name == slot}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_short_and_has_a_one_line_description(path: Path) -> None:
    _, arguments, siblings = component_config(path)
    assert 2 <= len(path.read_text().splitlines()) <= 20
    assert 10 < len(siblings["about"]) < 120 and "\n" not in siblings["about"]
    numbers = [value for value in arguments.values() if isinstance(value, str)]
    assert not any(text[:1].isdigit() for text in numbers), "a number that YAML reads as text"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_search_range_belongs_to_an_argument_and_contains_its_default(path: Path) -> None:
    _, arguments, siblings = component_config(path)
    for key, space in siblings.get("space", {}).items():
        assert set(space) <= {"low", "high", "log", "complement"} and 0 <= space["low"] < space["high"]
        assert not space.get("log") or space["low"] > 0
        value = arguments[key]
        # 0 disables a penalty or momentum, and may be below a range on a log scale.
        assert value in (0, "auto") or space["low"] <= value <= space["high"]


@pytest.mark.parametrize("name", SLOTS["model"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_every_model_file_builds(name: str, activation: str) -> None:
    target, arguments, _ = component_config(CONF / "model" / f"{name}.yaml")
    with torch.device("meta"):
        net = target(**arguments, activation=lambda: build("activation", activation))
    assert net(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert any(isinstance(part, nn.BatchNorm2d) for part in net.modules()) == name.endswith("_bn")
    listed = set(arguments) | {"activation"}
    assert listed == set(inspect.signature(target).parameters)


@pytest.mark.parametrize("name", SLOTS["activation"])
def test_every_activation_file_builds_keeps_the_shape_and_has_a_gain(name: str) -> None:
    activation = build("activation", name)
    assert activation(torch.randn(2, 3, 4, 4)).shape == (2, 3, 4, 4)
    assert 0.9 < activation_gain(activation) < 2


@pytest.mark.parametrize("name", SLOTS["initializer"])
def test_every_initializer_file_builds_and_lists_every_argument(name: str) -> None:
    target, arguments, _ = component_config(CONF / "initializer" / f"{name}.yaml")
    assert set(arguments) == set(inspect.signature(target).parameters)
    initializer = target(**arguments)
    assert isinstance(initializer, Initializer)
    assert initializer == target() or name == "torch_default", "the file and the code have different defaults"
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 4))
    initializer(net, activation_gain=1.0, generator=torch.Generator().manual_seed(0))
    assert all(parameter.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("name", SLOTS["optimizer"])
def test_every_optimizer_file_minimizes_a_quadratic(name: str) -> None:
    target, arguments, siblings = component_config(CONF / "optimizer" / f"{name}.yaml")
    net = nn.Linear(4, 1)
    nn.init.constant_(net.weight, 1.0)
    groups = parameter_groups(net, weight_decay=arguments["weight_decay"], decay_all=siblings["decay_all"])
    optimizer = target(groups, **arguments)
    assert len(optimizer.param_groups) == (2 if arguments["weight_decay"] else 1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = net(torch.eye(4)).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert siblings["decay_all"] is False and "lr" in siblings["space"] and "weight_decay" in siblings["space"]


@pytest.mark.parametrize("name", SLOTS["scheduler"])
def test_every_scheduler_file_builds_and_lists_every_argument(name: str) -> None:
    target, arguments, _ = component_config(CONF / "scheduler" / f"{name}.yaml")
    assert set(arguments) == set(inspect.signature(target).parameters) - {"optimizer", "length", "total_steps", "steps_per_epoch"}
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = target(optimizer, total_steps=100, steps_per_epoch=10, **arguments)
    assert scheduler.get_last_lr() == [0.1]


@pytest.mark.parametrize("name", SLOTS["loss"])
def test_every_loss_file_has_the_expected_loss_at_zero_scores(name: str) -> None:
    loss = build("loss", name)(torch.zeros(4, 10), torch.zeros(4, dtype=torch.long))
    assert loss.item() == pytest.approx({"softmax": 2.302585, "svm": 9.0}[name])
